"""What answers of a sign check mean: verdicts on conventions, from signs that multiply.

An answer is a sign, +1 as a faithful interpreter gives it, and is the product of the unknown signs of one or two
conventions. A convention is settled where a product of answers leaves it alone; answers whose product should be 1 and
is not contradict each other, and then nothing is settled. Without an absolute frequency - a second line of known shift,
or water at a known offset - mirroring everything at once changes no answer: only relations are settled then.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Sign = Literal[-1, 0, 1]
Verdict = Literal["faithful", "conjugated", "negated", "opposed", "swapped", "undecided"]

SAMPLES, WAVEFORM, RF_FREQUENCY, RF_PHASE = "samples", "RF waveform", "RF frequency", "RF phase"
ADC_PHASE, ADC_FREQUENCY = "ADC phase", "ADC frequency"
GRADIENTS: Final = ("gradient x", "gradient y", "gradient z")
CONVENTIONS: Final = (SAMPLES, WAVEFORM, RF_FREQUENCY, RF_PHASE, ADC_PHASE, ADC_FREQUENCY, *GRADIENTS)
"""What an interpreter may get wrong, each a sign (gradients may be swapped too)."""
RELATIONS: Final = (
    (WAVEFORM, RF_FREQUENCY),
    (RF_PHASE, WAVEFORM),
    (ADC_PHASE, RF_PHASE),
    (ADC_FREQUENCY, RF_FREQUENCY),
    *((gradient, RF_FREQUENCY) for gradient in GRADIENTS),
)
"""What water alone can tell (gradients: with its place): whether two conventions have the same sense."""
_MOST_ANSWERS = 4
"""Most answers that are multiplied for a verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to one question."""

    name: str
    """What was looked at."""
    factors: tuple[str, ...]
    """Conventions whose signs multiply to the answer."""
    sign: Sign
    """+1 as a faithful interpreter answers, -1 the opposite, 0 no clear answer."""
    numbers: str
    """The numbers it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A verdict."""

    name: str
    """Convention, or "one against another"."""
    verdict: Verdict
    """What was found."""
    rests_on: tuple[int, ...] = ()
    """Positions, from 0, of the answers it rests on; where it is undecided, of those that are missing."""
    note: str = ""
    """What there is to add."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SignCheck:
    """What a sign check found."""

    answers: tuple[Answer, ...]
    """Every answer."""
    relations: tuple[Row, ...]
    """Whether two conventions have the same sense: needs no absolute frequency."""
    conventions: tuple[Row, ...]
    """Each convention by itself."""
    contradiction: tuple[int, ...]
    """Positions of answers that cannot all be true; empty: none. Otherwise nothing is settled."""
    water_hz: float
    """Where water lies in the stored samples, Hz."""
    water_snr: float
    """Amplitude of water in the reference shot over that of the noise in the same window."""
    centroids_m: tuple[float | None, ...]
    """Centre of gravity of water along x, y, z as the samples have it, m; None: no signal."""

    @property
    def unfaithful(self) -> tuple[Row, ...]:
        """The rows that are settled and not faithful."""
        return tuple(r for r in (*self.relations, *self.conventions) if r.verdict not in ("faithful", "undecided"))


def judge(
    answers: Sequence[Answer],
    swapped: Mapping[str, str],
    *,
    water_hz: float,
    water_snr: float,
    centroids_m: tuple[float | None, ...],
) -> SignCheck:
    """Return what answers settle.

    Args:
        answers: The answers.
        swapped: Gradients that play along another axis, and along which.
        water_hz: Where water was read, Hz.
        water_snr: Its signal to noise.
        centroids_m: Its centre of gravity along x, y, z, m.
    """
    contradiction = _contradiction(answers)
    return SignCheck(
        answers=tuple(answers),
        relations=tuple(_row(f"{a} against {b}", (a, b), answers, contradiction) for a, b in RELATIONS),
        conventions=tuple(
            Row(name=name, verdict="swapped", note=swapped[name])
            if name in swapped
            else _row(name, (name,), answers, contradiction)
            for name in CONVENTIONS
        ),
        contradiction=contradiction,
        water_hz=water_hz,
        water_snr=water_snr,
        centroids_m=centroids_m,
    )


def _row(name: str, factors: tuple[str, ...], answers: Sequence[Answer], contradiction: tuple[int, ...]) -> Row:
    """Return the verdict on a convention, or on two of them against each other."""
    if contradiction:
        return Row(name=name, verdict="undecided", rests_on=contradiction, note="answers contradict each other")
    chosen = next((chosen for chosen, left in _products(answers) if left == frozenset(factors)), None)
    if chosen is not None:
        same = math.prod(answers[k].sign for k in chosen) > 0
        wrong: Verdict = "opposed" if len(factors) > 1 else "conjugated" if name in (WAVEFORM, SAMPLES) else "negated"
        return Row(name=name, verdict="faithful" if same else wrong, rests_on=chosen)
    concerned = [k for k, answer in enumerate(answers) if set(factors) & set(answer.factors)]
    missing = tuple(k for k in concerned if answers[k].sign == 0)
    if not concerned:
        note = "water was not seen"
    elif len(factors) == 1 and len(missing) < len(concerned):
        note = "all may be mirrored at once"
    else:
        note = "no clear answer"
    return Row(name=name, verdict="undecided", rests_on=missing, note=note)


def _contradiction(answers: Sequence[Answer]) -> tuple[int, ...]:
    """Return answers that cannot all be true: their factors cancel, but they multiply to -1."""
    return next(
        (chosen for chosen, left in _products(answers) if not left and math.prod(answers[k].sign for k in chosen) < 0),
        (),
    )


def _products(answers: Sequence[Answer]) -> Iterator[tuple[tuple[int, ...], frozenset[str]]]:
    """Yield (positions of answers, factors that their product leaves), few answers first.

    Signs square to 1, so a product leaves the factors that appear in an odd number of its answers.
    """
    given = [k for k, answer in enumerate(answers) if answer.sign != 0]
    for size in range(1, _MOST_ANSWERS + 1):
        for chosen in itertools.combinations(given, size):
            left: frozenset[str] = frozenset()
            for k in chosen:
                left ^= frozenset(answers[k].factors)
            yield chosen, left


def sign_check_json(found: SignCheck) -> dict[str, Any]:
    """Return a sign check, ready for JSON; positions of answers count from 1."""
    return {
        "answers": [asdict(answer) for answer in found.answers],
        **{
            key: [asdict(row) | {"rests_on": [k + 1 for k in row.rests_on]} for row in rows]
            for key, rows in (("relations", found.relations), ("conventions", found.conventions))
        },
        "contradiction": [k + 1 for k in found.contradiction],
        "water_hz": found.water_hz,
        "water_snr": found.water_snr,
        "centroids_m": list(found.centroids_m),
    }


def sign_check_text(found: SignCheck) -> str:
    """Return a sign check as tables: what was seen, then what follows."""
    lines = [f"Water at {found.water_hz:+.1f} Hz, signal to noise {found.water_snr:.0f}"]
    lines += ["", "Answers (+ faithful, - opposite, ? not clear)"]
    lines += [f"{number:3} {'?+-'[a.sign]}  {a.name:36} {a.numbers}" for number, a in enumerate(found.answers, 1)]
    if found.contradiction:
        lines += ["", f"Answers {_numbers(found.contradiction)} cannot all be true: nothing is settled."]
    for title, rows in (
        ("Together (water is enough)", found.relations),
        ("Each by itself (needs an absolute frequency)", found.conventions),
    ):
        lines += ["", title, *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(row: Row) -> str:
    """Return a verdict as a line of a table."""
    given = f"{'see' if row.verdict == 'undecided' else 'from'} {_numbers(row.rests_on)}" if row.rests_on else ""
    return f"  {row.name:36} {row.verdict:11} {given:14} {row.note}".rstrip()


def _numbers(positions: Sequence[int]) -> str:
    """Return the numbers of answers in a table."""
    return ", ".join(str(k + 1) for k in positions)
