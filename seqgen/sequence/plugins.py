"""Sequences as plug-ins: anyone's package may register one under the entry point group `seqgen.sequences`."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.scanner import Scanner, require_pulseq_format
from seqgen.seqfile.blocks import Block

GROUP = "seqgen.sequences"
_IMPORT_FAILURES: tuple[type[Exception], ...] = (
    ImportError,
    SyntaxError,
    NameError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    OSError,
    RuntimeError,
)
"""What a broken package raises while its module is imported."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignedShot:
    """One of the shots of a design: they take turns, shot by shot, as editing conditions."""

    pulses: Mapping[str, RFPulse]
    """The designed pulse of each place; empty: a shot without."""
    te1_s: float
    """First echo time, s."""
    te2_s: float
    """Second echo time, s."""
    receiver_phase_rad: float = 0.0
    """Receiver phase that puts the target into absorption, rad: the signal is multiplied by exp(-i phase)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BuildContext:
    """What a sequence needs beside its own parameters."""

    scanner: Scanner
    """Rasters, dead times and limits."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz; the transmitter stands on water."""
    water_shift_ppm: float
    """Shift of water, ppm: offsets in Hz count from here."""
    editing_pulse: RFPulse | None = None
    """The designed pulse; None for the plain sequence."""
    editing_shots: tuple[DesignedShot, ...] = ()
    """A design of several shots, or of several waveforms, instead: for sequences whose attribute `plays_shots` is True,
    with the echo times of each."""

    def __post_init__(self) -> None:
        # Before any sequence builds anything, whoever wrote it.
        require_pulseq_format(self.scanner)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Built:
    """A built sequence: all of its blocks and what it states about itself."""

    blocks: tuple[Block, ...]
    """Blocks in order of play."""
    definitions: dict[str, str | float | tuple[float, ...]]
    """Entries of [DEFINITIONS]: TE, TR, FOV, voxel size, position and rotation."""
    notes: tuple[str, ...] = ()
    """What the user is told: minimum TE and TR, phase cycle, water suppression; one line each."""
    shot_starts: tuple[int, ...] = ()
    """Index of the first block of every shot, dummy scans too; empty: not stated, and then GE's pge2 is refused."""


class SequenceSpec(Protocol):
    """What a sequence plug-in offers."""

    name: str
    """Name in protocols."""
    Params: type[Any]
    """Frozen dataclass of its parameters, SI units in the names."""

    def build(self, params: Any, context: BuildContext) -> Built:
        """Return the blocks; raise HardwareLimitError or InputError with the limit and a remedy."""
        ...

    def minimum_te_s(self, params: Any, context: BuildContext) -> tuple[float, float]:
        """Return the shortest first and second echo time that pulses and crushers allow, s."""
        ...


def editing_places(spec: SequenceSpec) -> tuple[str, ...]:
    """Return where a sequence can play a designed pulse (its attribute `editing_places`); () for nowhere.

    Example:
        >>> editing_places(find_sequence("press"))
        ('echo_top', 'te1', 'te2')
    """
    return tuple(getattr(spec, "editing_places", ()))


def plays_shots(spec: SequenceSpec) -> bool:
    """Return whether a sequence plays designs of several shots or waveforms (its attribute `plays_shots`).

    Example:
        >>> plays_shots(find_sequence("press"))
        True
    """
    return bool(getattr(spec, "plays_shots", False))


def sequence_names() -> list[str]:
    """Return the names of the installed sequences."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_sequence(name: str) -> SequenceSpec:
    """Return the installed sequence of that name.

    Raises:
        InputError: If there is none (the message lists those that are installed), or its package cannot be imported or
            holds no sequence.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            return _loaded(point)
    known = sequence_names()
    near = get_close_matches(name, known, 1)
    raise InputError(
        f"Unknown sequence {name!r}; installed: {', '.join(known) or 'none'}."
        + (f" Nearest: {near[0]}." if near else "")
    )


def _loaded(point: EntryPoint) -> SequenceSpec:
    """Return the sequence behind an entry point; a package that cannot be imported is named."""
    package = f" of package {point.dist.name} {point.dist.version}" if point.dist is not None else ""
    try:
        spec = point.load()
    except _IMPORT_FAILURES as error:
        raise InputError(
            f"Sequence {point.name!r} ({point.value}{package}) cannot be loaded: {type(error).__name__}: {error}. "
            "Repair or uninstall that package."
        ) from error
    missing = [member for member in ("name", "Params", "build", "minimum_te_s") if not hasattr(spec, member)]
    if missing:
        raise InputError(
            f"Sequence {point.name!r} ({point.value}{package}) is not a sequence: it has no {', '.join(missing)}. "
            "A plug-in offers name, Params, build and minimum_te_s (seqgen.sequence.plugins.SequenceSpec)."
        )
    found: SequenceSpec = spec
    return found
