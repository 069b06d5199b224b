"""What every sequence plug-in owes its users, as checks that its author can run: `check_sequence`.

A sequence is built, written in every format into a scratch folder, read back and compared block by block with what was
built; its echo time is measured from RF centres; and what cannot be played has to be refused with limit and remedy,
nothing written. Conventions by which a check finds its parameter: ``te1_s`` and ``te2_s``, or ``te_s``; ``tr_s``;
``voxel_size_m``; ``averages`` and ``water_reference_averages``; ``adc_samples`` and ``adc_dwell_s``. A check whose
parameter a sequence does not have is reported as not applicable, with the reason: that is no pass.
"""

import ast
import dataclasses
import inspect
import itertools
import math
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from seqgen.errors import HardwareLimitError, InputError, SeqgenError, VerificationError
from seqgen.scanner import Scanner
from seqgen.seqfile import events
from seqgen.seqfile.blocks import Block
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import Shot, shots
from seqgen.seqfile.writer import SeqFormat, write_seq
from seqgen.sequence.plugins import BuildContext, Built, SequenceSpec
from seqgen.simulate.pathways import principal_echo
from seqgen.timeline import Timeline

Status = Literal["passed", "failed", "not applicable"]
FORMATS: Final[tuple[SeqFormat, ...]] = ("1.5.0", "1.4.1")
FILE_TOLERANCE = 1e-5
"""Largest relative difference between what was built and what a file holds: a `.seq` keeps six digits."""
UNITS: Final = ("s", "hz", "m", "rad", "ppm", "t", "k", "per_m", "hz_per_m", "hz_per_m_per_s")
"""Endings of the names of parameters that carry a unit."""
DIMENSIONLESS: Final = ("fraction", "time_bandwidth", "ratio", "scale", "factor")
"""Endings of the names of real parameters without unit."""
THIN_M = 2e-5
"""A voxel edge that no gradient of a human scanner selects, m."""
_COUNTERS: Final = ("AVG", "PHS", "REP")
"""Labels that count readouts of one kind: average, step of the phase cycle, completed cycles."""
_TIME_S: Final = {"te1_s": 0.03, "te2_s": 0.03, "te_s": 0.03, "tm_s": 0.01, "tr_s": 2.0}
_REMEDY = re.compile(
    r"[.;] (Raise|Lower|Lengthen|Shorten|Enlarge|Reduce|Increase|Decrease|Change|Make|Choose|Use|Set|Give|Add|Move)\b"
)
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_RAISED: Final[tuple[type[Exception], ...]] = (
    SeqgenError,
    ArithmeticError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
)
"""What a sequence raises, the latter where it did not check its parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    """What a sequence owes."""
    status: Status
    """Outcome; "not applicable" is no pass."""
    note: str = ""
    """What is wrong, or why the check does not apply."""


class _NotApplicable(Exception):
    """Raised by a check whose parameter the sequence does not have."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trial:
    """A sequence that was built and written."""

    spec: SequenceSpec
    params: Any
    context: BuildContext
    folder: Path
    built: Built
    files: dict[SeqFormat, Path]
    seqs: dict[SeqFormat, events.SeqFile]
    """The files read back."""
    shots: dict[SeqFormat, tuple[Shot, ...]]
    """Their shots."""


def sensible_params(spec: SequenceSpec, context: BuildContext, **changes: Any) -> Any:
    """Return parameters with every default, and what has none filled in: echo times at their minimum.

    Raises:
        InputError: If a parameter without default is none that this module knows: state it in `changes`.
    """
    values = dict(changes)
    for field in dataclasses.fields(spec.Params):
        if field.name in values or field.default is not dataclasses.MISSING:
            continue
        if field.default_factory is not dataclasses.MISSING:
            continue
        if field.name == "voxel_size_m":
            values[field.name] = (0.02, 0.025, 0.03)
        elif field.name in _TIME_S:
            values[field.name] = _TIME_S[field.name]
        else:
            raise InputError(
                f"Sequence {spec.name!r} has a parameter {field.name} without default that the contract does not know. "
                f"Give it: sensible_params(spec, context, {field.name}=...)."
            )
    params = spec.Params(**values)
    echo_times = {name: least_s for name, least_s in _least_te_s(spec, params, context).items() if name not in changes}
    return replace(params, **echo_times)


def check_sequence(spec: SequenceSpec, params: Any, context: BuildContext) -> tuple[Finding, ...]:
    """Check what a sequence owes, at one set of parameters on one scanner.

    Args:
        spec: The plug-in.
        params: Its parameters, playable ones; `sensible_params` makes some.
        context: Scanner, frequency, and the editing pulse if there is one.

    Returns:
        One finding for each check. A sequence is in order where none has failed; read what was not applicable.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            built = spec.build(params, context)
            beyond = list(_beyond(built, context.scanner))
            if beyond:
                return (Finding(check=_BUILDS, status="failed", note=" ".join(beyond)),)
            files = {form: _write(built, folder / f"{form}.seq", context, form) for form in FORMATS}
            seqs = {form: read_seq(path) for form, path in files.items()}
            played = {form: shots(seq) for form, seq in seqs.items()}
        except _RAISED as error:
            return (Finding(check=_BUILDS, status="failed", note=f"{type(error).__name__}: {error}"),)
        trial = _Trial(
            spec=spec, params=params, context=context, folder=folder, built=built, files=files, seqs=seqs, shots=played
        )
        passed = Finding(check=_BUILDS, status="passed")
        return (passed, *(_finding(name, check, trial) for name, check in _CHECKS))


def failures(findings: tuple[Finding, ...]) -> list[str]:
    """Return what failed, one line each."""
    return [f"{finding.check}: {finding.note}" for finding in findings if finding.status == "failed"]


def _finding(name: str, check: Callable[[_Trial], Iterator[str]], trial: _Trial) -> Finding:
    """Return the finding of a check, which yields what is wrong."""
    try:
        problems = list(check(trial))
    except _NotApplicable as reason:
        return Finding(check=name, status="not applicable", note=str(reason))
    except SeqgenError as error:
        problems = [f"{type(error).__name__}: {error}"]
    return Finding(check=name, status="failed" if problems else "passed", note=" ".join(problems))


def _write(built: Built, path: Path, context: BuildContext, seq_format: SeqFormat) -> Path:
    """Write a built sequence as the pipeline does."""
    write_seq(
        built.blocks,
        path,
        scanner=context.scanner,
        spectrometer_frequency_hz=context.spectrometer_frequency_hz,
        definitions=built.definitions
        | {
            "seqgen_reference_ppm": context.water_shift_ppm,
            "seqgen_spectrometer_frequency_hz": context.spectrometer_frequency_hz,
        },
        seq_format=seq_format,
        shot_starts=built.shot_starts,
    )
    return path


# --- Parameters ------------------------------------------------------------------------------------------------------


def _documented(trial: _Trial) -> Iterator[str]:
    """Every parameter has a docstring under it and a unit in its name; the dataclass is frozen."""
    cls = trial.spec.Params
    if not dataclasses.is_dataclass(cls):
        yield f"{cls.__name__} is no dataclass."
        return
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        yield f"{cls.__name__} is not frozen."
    documented = _with_docstring(cls)
    for field in dataclasses.fields(cls):
        if field.name not in documented:
            yield f"{field.name} has no docstring under it."
        if _is_real(getattr(trial.params, field.name)) and not field.name.endswith(
            tuple(f"_{ending}" for ending in (*UNITS, *DIMENSIONLESS))
        ):
            yield f"{field.name} is a real number, but its name ends in no SI unit ({', '.join(UNITS)})."


def _with_docstring(cls: type[Any]) -> set[str]:
    """Return the names of a class's fields, inherited ones too, that have a docstring under them."""
    found: set[str] = set()
    for base in cls.__mro__:
        if not dataclasses.is_dataclass(base):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except OSError:  # made by a program: it has no source, and no docstrings either
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, below in itertools.pairwise(statements):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and str(below.value.value).strip()
            ):
                found.add(field.target.id)
    return found


def _is_real(value: Any) -> bool:
    """Return whether a value is a real number or holds some; counts, choices and flags are not."""
    return any(map(_is_real, value)) if isinstance(value, tuple) else isinstance(value, float)


# --- What is played --------------------------------------------------------------------------------------------------


def _beyond(built: Built, scanner: Scanner) -> Iterator[str]:
    """Yield what exceeds the scanner's RF or gradients: on the blocks, whatever the writer lets through."""
    for number, block in _different(built.blocks):
        if block.rf is not None and float(block.rf.b1_hz.detach().abs().max()) > scanner.b1_max_hz * (1 + 1e-9):
            yield f"Block {number} exceeds the RF amplitude of {scanner.name}."
        for lobe in block.gradients:
            if lobe is None:
                continue
            if lobe.peak_hz_per_m > scanner.max_gradient_hz_per_m * (1 + 1e-9):
                yield f"Block {number} exceeds the gradient of {scanner.name}."
            if lobe.slew_hz_per_m_per_s > scanner.max_slew_hz_per_m_per_s * (1 + 1e-6):
                yield f"Block {number} exceeds the slew rate of {scanner.name}."


def _different(blocks: tuple[Block, ...]) -> Iterator[tuple[int, Block]]:
    """Yield every block object once, with the number of its first appearance."""
    seen: set[int] = set()
    for number, block in enumerate(blocks, 1):
        if id(block) not in seen:
            seen.add(id(block))
            yield number, block


def _readouts(trial: _Trial) -> Iterator[str]:
    """All readouts are alike in samples and dwell, divisible and not too long for the scanner."""
    scanner = trial.context.scanner
    readouts = {(block.adc.n_samples, block.adc.dwell_s) for block in trial.built.blocks if block.adc is not None}
    if len(readouts) != 1:
        yield f"There are {len(readouts)} kinds of readouts; interpreters want one."
    for samples, _ in readouts:
        if samples % scanner.adc_samples_divisor or samples > scanner.adc_samples_max:
            yield (
                f"{samples} samples: {scanner.name} wants multiples of {scanner.adc_samples_divisor} up to "
                f"{scanner.adc_samples_max}."
            )


def _labels(trial: _Trial) -> Iterator[str]:
    """Every readout carries AVG and REF; of each kind AVG counts from 0; their numbers are those asked for."""
    for form in FORMATS:
        counts: dict[tuple[tuple[str, int], ...], int] = {}
        for shot in trial.shots[form]:
            missing = {"AVG", "REF"} - set(shot.labels)
            if missing or shot.labels["REF"] not in (0, 1):
                yield f"{form}: readout {shot.index + 1} has labels {shot.labels}; it needs AVG, and REF 0 or 1."
                return
            kind = tuple(sorted((name, value) for name, value in shot.labels.items() if name not in _COUNTERS))
            if shot.labels["AVG"] != counts.setdefault(kind, 0):
                yield f"{form}: readout {shot.index + 1} has AVG {shot.labels['AVG']}, but {counts[kind]} is its turn."
                return
            counts[kind] += 1
        for ref, name in ((0, "averages"), (1, "water_reference_averages")):
            found = [count for kind, count in counts.items() if ("REF", ref) in kind]
            asked = getattr(trial.params, name, None)
            if asked is not None and asked not in (sum(found), *(found if len(set(found)) == 1 else ())):
                yield f"{form}: {sum(found)} readouts with REF {ref}, but {name} is {asked}."


def _echo_time(trial: _Trial) -> Iterator[str]:
    """The echo time, measured from RF centres in the file, is the one asked for and the one stated."""
    asked_s = _asked_te_s(trial.params)
    if not asked_s:
        raise _NotApplicable("no te1_s, te2_s or te_s among the parameters")
    raster_s = trial.context.scanner.block_raster_s
    stated_s = trial.built.definitions.get("TE")
    for form in FORMATS:
        te_s = _played_te_s(phase_cycle(trial.shots[form]))
        if te_s is None or abs(te_s - sum(asked_s.values())) > raster_s * len(asked_s) + 1e-9:
            played = "no echo is played" if te_s is None else f"TE measured from RF centres is {te_s * 1e3:.6g} ms"
            yield f"{form}: {played}, asked for were {sum(asked_s.values()) * 1e3:.6g} ms."
        elif not isinstance(stated_s, float) or abs(stated_s - te_s) > 1e-9:
            yield f"{form}: definition TE is {stated_s} s, but {te_s:.9g} s are played."


def _played_te_s(cycle: tuple[Timeline, ...]) -> float | None:
    """Return the time from excitation to echo without that along z (TM of a stimulated echo); None for a plain FID."""
    echo = principal_echo(cycle)
    excitation_s = echo.time_s - echo.te_s
    times_s = [time_s for time_s, _ in cycle[0].pulses()]
    orders = zip(echo.pathway.orders, itertools.pairwise(times_s), strict=False)
    stored_s = sum(b - a for order, (a, b) in orders if order == 0 and a > excitation_s - 1e-9)
    return echo.te_s - stored_s if echo.is_echo else None


def _asked_te_s(params: Any) -> dict[str, float]:
    """Return the echo times among the parameters: first and second, or the one."""
    names = [name for name in ("te1_s", "te2_s") if hasattr(params, name)] or ["te_s"]
    return {name: getattr(params, name) for name in names if hasattr(params, name)}


def _repetition_time(trial: _Trial) -> Iterator[str]:
    """Readouts follow each other by TR."""
    tr_s = getattr(trial.params, "tr_s", None)
    if tr_s is None:
        raise _NotApplicable("no tr_s among the parameters")
    found: tuple[Shot, ...] = trial.shots[FORMATS[0]]
    opens_s = np.array([shot.start_s + shot.timeline.readouts()[0][0] for shot in found])
    off_s = np.abs(np.diff(opens_s) - tr_s)
    if off_s.size and off_s.max() > trial.context.scanner.block_raster_s + 1e-9:
        yield f"Readouts are {np.diff(opens_s)[off_s.argmax()]:.9g} s apart, but tr_s is {tr_s:.9g} s."


# --- Files -----------------------------------------------------------------------------------------------------------


def _reads_back(trial: _Trial) -> Iterator[str]:
    """A file holds, block by block, what was built."""
    for form in FORMATS:
        seq = trial.seqs[form]
        if len(seq.blocks) != len(trial.built.blocks):
            yield f"{form}: {len(seq.blocks)} blocks in the file, {len(trial.built.blocks)} built."
            continue
        seen: set[tuple[int, str]] = set()
        for number, (block, read) in enumerate(zip(trial.built.blocks, seq.blocks, strict=True), 1):
            if (id(block), read.key) in seen:
                continue
            seen.add((id(block), read.key))
            differing = list(_differences(block, read, with_use=form != "1.4.1"))
            if differing:
                yield f"{form}: block {number} of the file differs in {', '.join(differing)}."


def _differences(block: Block, read: events.Block, *, with_use: bool) -> Iterator[str]:
    """Yield in what a block of a file differs from the block that was built."""
    if abs(block.duration_s - read.duration_s) > 1e-9:
        yield "duration"
    rf = block.rf
    if rf is None or read.rf is None:
        if (rf is None) != (read.rf is None):
            yield "RF"
    else:
        if not _same((rf.delay_s, rf.raster_s), (read.rf.delay_s, read.rf.dwell_s), 1e-9):
            yield "RF times"
        # In the frame of the spectrometer frequency, as the spins see it: amplitude, frequency and phase at once.
        after_centre_s = (np.arange(rf.b1_hz.shape[0]) + 0.5) * rf.raster_s - rf.centre_s
        carrier = np.exp(1j * (rf.phase_rad + 2 * math.pi * rf.frequency_hz * after_centre_s))
        wanted, got = rf.b1_hz.detach().numpy() * carrier, read.rf.played_hz()
        if wanted.shape != got.shape or not _alike(wanted, got):
            yield "RF as played (a carrier is written with six digits)"
        if with_use and rf.use != read.rf.use:
            yield "RF use"
    for axis, lobe, gradient in zip("xyz", block.gradients, read.gradients, strict=True):
        if lobe is None or lobe.peak_hz_per_m == 0 or gradient is None:
            if (lobe is not None and lobe.peak_hz_per_m != 0) or gradient is not None:
                yield f"gradient {axis}"
            continue
        corners_s, value = lobe.corners()
        if not _alike(value, gradient.at(corners_s)) or not _same(
            (lobe.duration_s,), (gradient.delay_s + gradient.duration_s,), 1e-9
        ):
            yield f"gradient {axis}"
    adc = block.adc
    if adc is None or read.adc is None:
        if (adc is None) != (read.adc is None):
            yield "readout"
    elif (
        adc.n_samples != read.adc.n_samples
        or not _same((adc.dwell_s, adc.delay_s), (read.adc.dwell_s, read.adc.delay_s), 1e-9)
        or abs(adc.frequency_hz - read.adc.frequency_hz) > 1e-3
        or abs(math.remainder(adc.phase_rad - read.adc.phase_rad, 2 * math.pi)) > FILE_TOLERANCE
    ):
        yield "readout"


def _alike(wanted: Any, got: Any) -> bool:
    """Return whether two waveforms agree to the digits of a file."""
    return bool(np.abs(wanted - got).max() <= FILE_TOLERANCE * np.abs(wanted).max())


def _same(wanted: tuple[float, ...], got: tuple[float, ...], tolerance: float) -> bool:
    """Return whether numbers agree."""
    return all(abs(a - b) <= tolerance for a, b in zip(wanted, got, strict=True))


def _signed_and_summed(trial: _Trial) -> Iterator[str]:
    """A file is signed, and its TotalDuration is the sum of its blocks to half a raster."""
    raster_s = trial.context.scanner.block_raster_s
    total_s = sum(round(block.duration_s / raster_s) for block in trial.built.blocks) * raster_s
    for form in FORMATS:
        seq = trial.seqs[form]
        if seq.signature is None:
            yield f"{form}: the file has no signature."
        stated = seq.definition_numbers("TotalDuration")
        if stated is None or len(stated) != 1 or abs(stated[0] - total_s) > raster_s / 2:
            yield f"{form}: TotalDuration is {stated}, but the blocks last {total_s:.9g} s."


def _deterministic(trial: _Trial) -> Iterator[str]:
    """Built and written again, the bytes are the same."""
    again = trial.spec.build(trial.params, trial.context)
    for form in FORMATS:
        path = _write(again, trial.folder / f"again {form}.seq", trial.context, form)
        if path.read_bytes() != trial.files[form].read_bytes():
            yield f"{form}: a second build gives other bytes."


# --- Refusals --------------------------------------------------------------------------------------------------------


def _least_te_s(spec: SequenceSpec, params: Any, context: BuildContext) -> dict[str, float]:
    """Return the minimum of every echo time among the parameters, s."""
    least = spec.minimum_te_s(params, context)
    names = _asked_te_s(params)
    return (
        {"te_s": sum(least)}
        if list(names) == ["te_s"]
        else {name: value for name, value in zip(("te1_s", "te2_s"), least, strict=True) if name in names}
    )


def _refuses_short_te(trial: _Trial) -> Iterator[str]:
    """The stated minimum echo times build; each two rasters less is refused with the minimum."""
    least = _least_te_s(trial.spec, trial.params, trial.context)
    if not least:
        raise _NotApplicable("no te1_s, te2_s or te_s among the parameters")
    at_least = replace(trial.params, **least)
    accepted = _attempt(trial, at_least, trial.context)
    if accepted is not None:
        yield f"At the stated minimum of {least} it does not build: {accepted}"
        return
    for name, least_s in least.items():
        short = replace(at_least, **{name: least_s - 2 * trial.context.scanner.block_raster_s})
        yield from _refusal(_attempt(trial, short, trial.context), f"{name} below its minimum", (name,), least_s)


def _refuses_thin_voxel(trial: _Trial) -> Iterator[str]:
    """A voxel that no gradient selects is refused along each axis."""
    size_m = getattr(trial.params, "voxel_size_m", None)
    if size_m is None:
        raise _NotApplicable("no voxel_size_m among the parameters")
    for axis in range(3):
        thin = replace(trial.params, voxel_size_m=tuple(THIN_M if k == axis else m for k, m in enumerate(size_m)))
        error = _attempt(trial, thin, trial.context)
        yield from _refusal(
            error, f"a voxel of {THIN_M * 1e6:g} um along axis {axis + 1}", (trial.context.scanner.name,)
        )


def _refuses_slow_gradients(trial: _Trial) -> Iterator[str]:
    """On a scanner with a thousandth of the slew rate, the sequence is refused or keeps to it."""
    scanner = trial.context.scanner
    slow = replace(scanner, max_slew_t_per_m_per_s=1e-3 * scanner.max_slew_t_per_m_per_s)
    context = replace(trial.context, scanner=slow)
    if all(lobe is None for block in trial.built.blocks for lobe in block.gradients):
        raise _NotApplicable("no gradients are played")
    error = _attempt(trial, trial.params, context)
    if error is not None:
        yield from _refusal(error, "gradients steeper than the slew rate", ())
    else:
        yield from _beyond(trial.spec.build(trial.params, context), slow)


def _refuses_long_readout(trial: _Trial) -> Iterator[str]:
    """A readout that outlasts TR is refused."""
    if not hasattr(trial.params, "tr_s"):
        raise _NotApplicable("no tr_s among the parameters")
    longest_s = max(block.adc.n_samples * block.adc.dwell_s for block in trial.built.blocks if block.adc is not None)
    short = replace(trial.params, tr_s=0.9 * longest_s)
    yield from _refusal(_attempt(trial, short, trial.context), "a readout longer than tr_s", ("tr_s",))


def _refuses_part_of_a_cycle(trial: _Trial) -> Iterator[str]:
    """One average more than whole phase cycles (and ON/OFF pairs) is refused, of water references too."""
    names = [name for name in ("averages", "water_reference_averages") if getattr(trial.params, name, 0)]
    if "averages" not in names:
        raise _NotApplicable("no averages among the parameters")
    steps = {_step(shot) for shot in trial.shots[FORMATS[0]] if shot.labels.get("REF", 0) == 0}
    if len(steps) == 1:
        raise _NotApplicable("every average plays the same: there is no phase cycle")
    for name in names:
        more = replace(trial.params, **{name: getattr(trial.params, name) + 1})
        error = _attempt(trial, more, trial.context)
        yield from _refusal(error, f"{name} that is no multiple of the phase cycle", (name,))


def _step(shot: Shot) -> bytes:
    """Return a key that is equal for the same step: the last three pulses and the receiver.

    More pulses would tell the first shot from the others, which dummy scans precede.
    """
    played = [np.round(interval.b1_hz.numpy(), 2) + 0.0 for _, interval in shot.timeline.pulses()[-3:]]
    receiver = math.remainder(shot.readout.phase_rad, 2 * math.pi)
    return b"|".join(b1.tobytes() for b1 in played) + f"{receiver:.6f}".encode()


def _refuses_strong_rf(trial: _Trial) -> Iterator[str]:
    """On a scanner with half the RF amplitude that is played, the sequence is refused."""
    peak_hz = max(float(b.rf.b1_hz.detach().abs().max()) for b in trial.built.blocks if b.rf is not None)
    scanner = trial.context.scanner
    weak = replace(scanner, b1_max_t=0.5 * peak_hz / scanner.b1_max_hz * scanner.b1_max_t)
    error = _attempt(trial, trial.params, replace(trial.context, scanner=weak))
    yield from _refusal(error, "RF above the scanner's amplitude", (scanner.name,), 0.5 * peak_hz)
    if error is not None and not isinstance(error, HardwareLimitError):
        yield f"RF above the scanner's amplitude raises {type(error).__name__}, not HardwareLimitError."


def _attempt(trial: _Trial, params: Any, context: BuildContext) -> Exception | None:
    """Build and write; return what was raised, None if it was accepted.

    Raises:
        VerificationError: If something was written all the same.
    """
    with tempfile.TemporaryDirectory(dir=trial.folder) as scratch:
        refusal: Exception | None = None
        try:
            _write(trial.spec.build(params, context), Path(scratch) / "refused.seq", context, "1.5.0")
        except _RAISED as error:
            refusal = error
        left = sorted(path.name for path in Path(scratch).iterdir())
        if refusal is not None and left:
            raise VerificationError(f"It was refused, but left {', '.join(left)} behind.")
        return refusal


def _refusal(error: Exception | None, what: str, names: tuple[str, ...], limit: float | None = None) -> Iterator[str]:
    """Yield what a refusal lacks: to be one of seqgen's errors, the names, the limit as a number, and a remedy."""
    if error is None:
        yield f"{what[0].upper()}{what[1:]} is accepted."
        return
    text = str(error)
    if not isinstance(error, InputError):
        yield f"{what[0].upper()}{what[1:]} raises {type(error).__name__} ({text}), not InputError."
        return
    for name in names:
        if name not in text:
            yield f"The refusal of {what} does not name {name}: {text!r}."
    numbers = [float(number) for number in _NUMBER.findall(text)]
    if limit is None:
        if not numbers:
            yield f"The refusal of {what} states no limit: {text!r}."
    elif not any(math.isclose(number * unit, limit, rel_tol=2e-3) for number in numbers for unit in (1.0, 1e-3, 1e-6)):
        yield f"The refusal of {what} does not state the limit of {limit:.6g}: {text!r}."
    if not _REMEDY.search(text):
        yield f"The refusal of {what} names no remedy: {text!r}."


_BUILDS: Final = "builds, writes and reads"
_CHECKS: Final[tuple[tuple[str, Callable[[_Trial], Iterator[str]]], ...]] = (
    ("parameters have docstrings and units", _documented),
    ("readouts suit the scanner", _readouts),
    ("labels AVG and REF", _labels),
    ("echo time from RF centres", _echo_time),
    ("repetition time", _repetition_time),
    ("file holds what was built", _reads_back),
    ("signature and TotalDuration", _signed_and_summed),
    ("same bytes every time", _deterministic),
    ("refuses TE below the minimum", _refuses_short_te),
    ("refuses a voxel too thin", _refuses_thin_voxel),
    ("refuses slew beyond the scanner", _refuses_slow_gradients),
    ("refuses a readout longer than TR", _refuses_long_readout),
    ("refuses part of a phase cycle", _refuses_part_of_a_cycle),
    ("refuses RF beyond the scanner", _refuses_strong_rf),
)
