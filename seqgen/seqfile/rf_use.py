"""What pulses are for, stated in files of version 1.4, whose RF rows have no room for it.

The definitions ``seqgen_rf_use_1``, ``seqgen_rf_use_2``, ... list the numbers of the pulses behind the letter of
Pulseq 1.5: ``s:1-4 e:5,8 r:6-7``. Several, because interpreters read lines of at most 255 characters.
"""

import itertools
from collections.abc import Mapping
from typing import Final

from seqgen.timeline import PulseUse

USES: Final[dict[str, PulseUse]] = {
    "e": "excitation",
    "r": "refocusing",
    "i": "inversion",
    "s": "saturation",
    "p": "preparation",
    "o": "undefined",
    "u": "undefined",
}
"""Uses by their letter in Pulseq 1.5."""
KEY = "seqgen_rf_use_"
LONGEST_LINE = 255
"""Longest line that Pulseq's own C++ reader, which scanners' interpreters use, takes in (its buffer holds 256)."""
_LONGEST_VALUE = 200


def stated_uses(letters: Mapping[int, str]) -> dict[str, str]:
    """Return the definitions that state the use of every pulse.

    Args:
        letters: Letter of each pulse by its number.

    Example:
        >>> stated_uses({1: "s", 2: "s", 3: "e", 4: "r", 5: "e"})
        {'seqgen_rf_use_1': 'e:3,5 r:4 s:1-2'}
    """
    words = [
        f"{letter}:{numbers}"
        for letter in sorted(set(letters.values()))
        for numbers in _ranges([number for number, own in letters.items() if own == letter])
    ]
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= _LONGEST_VALUE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return {f"{KEY}{number}": line for number, line in enumerate(lines, 1)}


def read_uses(definitions: Mapping[str, str]) -> dict[int, PulseUse]:
    """Return the uses that a file's definitions state by number of the pulse; what is malformed states nothing."""
    found: dict[int, PulseUse] = {}
    for value in (value for key, value in definitions.items() if key.startswith(KEY)):
        for word in value.split():
            letter, _, numbers = word.partition(":")
            for part in numbers.split(","):
                low, _, high = part.partition("-")
                if letter in USES and low.isdecimal() and (high or low).isdecimal():
                    found |= dict.fromkeys(range(int(low), min(int(high or low), int(low) + 9999) + 1), USES[letter])
    return found


def _ranges(numbers: list[int]) -> list[str]:
    """Return numbers as comma-separated runs, in words short enough for a line."""
    runs = []
    for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        own = [number for _, number in run]
        runs.append(f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]))
    return [",".join(runs[k : k + 20]) for k in range(0, len(runs), 20)]
