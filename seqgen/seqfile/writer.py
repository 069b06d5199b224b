"""Blocks to `.seq` through PyPulseq: the only module that imports it."""

import math
import tempfile
import warnings
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pypulseq as pp

from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.provenance import replacing
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Adc, Block, Gradient, Rf, SampledGradient, Trapezoid
from seqgen.seqfile.rf_use import LONGEST_LINE, stated_uses
from seqgen.seqfile.segments import SEGMENT_LABEL, with_segments
from seqgen.units import GAMMA_BAR_HZ_PER_T, b0_t, hz_to_tesla

SeqFormat = Literal["1.5.0", "1.4.1"]
_AXES = ("x", "y", "z")
_MARGIN = 1e-9


def pulseq_system(scanner: Scanner, spectrometer_frequency_hz: float) -> Any:
    """Return PyPulseq's `Opts` of a scanner, every raster, dead time and limit stated."""
    return pp.Opts(
        max_grad=scanner.max_gradient_hz_per_m,
        grad_unit="Hz/m",
        max_slew=scanner.max_slew_hz_per_m_per_s,
        slew_unit="Hz/m/s",
        rf_dead_time=scanner.rf_dead_time_s,
        rf_ringdown_time=scanner.rf_ringdown_s,
        adc_dead_time=scanner.adc_dead_time_s,
        adc_raster_time=scanner.adc_raster_s,
        rf_raster_time=scanner.rf_raster_s,
        grad_raster_time=scanner.gradient_raster_s,
        block_duration_raster=scanner.block_raster_s,
        adc_samples_divisor=scanner.adc_samples_divisor,
        adc_samples_limit=scanner.adc_samples_max,
        gamma=GAMMA_BAR_HZ_PER_T["1H"],
        B0=b0_t(spectrometer_frequency_hz),
    )


def write_seq(
    blocks: tuple[Block, ...],
    path: Path,
    *,
    scanner: Scanner,
    spectrometer_frequency_hz: float,
    definitions: Mapping[str, str | float | tuple[float, ...]],
    seq_format: SeqFormat = "1.5.0",
    shot_starts: tuple[int, ...] = (),
) -> None:
    """Write blocks as a signed `.seq` file: to a temporary name first, structure checked, then renamed.

    Args:
        blocks: Blocks in order of play.
        path: Output file.
        scanner: Rasters and limits handed to PyPulseq, whose own timing check must be clean.
        spectrometer_frequency_hz: Spectrometer frequency, Hz; gives the file's B0.
        definitions: Entries of [DEFINITIONS]; numbers as they are, in SI.
        seq_format: "1.5.0", or "1.4.1" for older interpreters (RF use becomes a definition there: rf_use.py).
        shot_starts: Index of the first block of every shot; each becomes a segment where the scanner requires segments,
            and is not needed elsewhere.

    Raises:
        HardwareLimitError: If a pulse exceeds the scanner's RF amplitude, a lobe its gradient or slew rate, or the
            scanner requires segments and none are stated.
        VerificationError: If PyPulseq refuses or changes an event, its timing check fails, or the written file is not
            whole. Nothing is left behind.
        InputError: If a definition is not plain ASCII, a sampled gradient is not on the raster or cannot be stated in
            the format, or the file cannot be written.
    """
    _require_rf(blocks, scanner, path.name)
    _require_gradients(blocks, scanner, path.name)
    _require_samples(blocks, scanner, seq_format, path.name)
    _require_ascii(definitions, path.name)
    if scanner.requires_segments:
        blocks = _segmented(blocks, shot_starts, scanner, path.name)
    sequence = _unchanged_sequence(blocks, pulseq_system(scanner, spectrometer_frequency_hz), path.name)
    clean, problems = sequence.check_timing()
    if not clean:
        raise VerificationError(
            f"{path.name}: PyPulseq's timing check found {len(problems)} problems, first: {problems[0]}. "
            "Nothing was written."
        )
    sequence.set_definition("B0", b0_t(spectrometer_frequency_hz))
    for key, value in definitions.items():
        sequence.set_definition(key, list(value) if isinstance(value, tuple) else value)
    if seq_format == "1.4.1":
        for key, value in stated_uses(sequence.rf_library.type).items():
            sequence.set_definition(key, value)
    text = _drafted(sequence, seq_format, path)
    _require_whole(text, len(blocks), path.name)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


def _segmented(
    blocks: tuple[Block, ...], shot_starts: tuple[int, ...], scanner: Scanner, name: str
) -> tuple[Block, ...]:
    """Return the blocks with segments: those that their author labelled, or the shots.

    Where shots start is not guessed: the interpreter adds dead time there, which would shift an echo.
    """
    if any(SEGMENT_LABEL in block.labels for block in blocks):
        return blocks
    if not shot_starts:
        raise HardwareLimitError(
            f"{name} was not written: {scanner.name} plays segments, with {(scanner.segment_gap_s or 0) * 1e6:.4g} us "
            "of dead time after each, and the sequence does not state where its shots start. Give shot_starts in what "
            f"its build returns, or set the label {SEGMENT_LABEL} at the first block of every segment."
        )
    return with_segments(blocks, shot_starts)


def _unchanged_sequence(blocks: tuple[Block, ...], system: Any, name: str) -> Any:
    """Return a PyPulseq sequence; a warning means that PyPulseq moved or rounded an event, which is an error here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            sequence = _pulseq_sequence(blocks, system)
    except UserWarning as warning:
        raise VerificationError(
            f"{name}: PyPulseq would not play the blocks as they are: {warning} Nothing was written."
        ) from warning
    except (ValueError, RuntimeError, AssertionError) as error:
        raise VerificationError(f"{name}: PyPulseq refuses the blocks: {error} Nothing was written.") from error
    for (number, played_s), block in zip(sequence.block_durations.items(), blocks, strict=False):
        if abs(played_s - block.duration_s) > 1e-9:
            raise VerificationError(
                f"{name}: PyPulseq would make block {number} {played_s * 1e3:.6g} ms long instead of "
                f"{block.duration_s * 1e3:.6g} ms: it is too short for the scanner's dead times. Nothing was written."
            )
    return sequence


def _drafted(sequence: Any, seq_format: SeqFormat, path: Path) -> str:
    """Return the text that PyPulseq writes, by way of a scratch folder.

    Raises:
        InputError: If the scratch folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / "draft.seq"
            # PyPulseq warns that version 1.4.1 is "compatibility mode": asked for here, so not news to the user.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sequence.write(str(draft), create_signature=True, check_timing=False, v141_compat=seq_format == "1.4.1")
            return draft.read_text(encoding="ascii")
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}, in the folder for temporary files "
            f"{tempfile.gettempdir()}. Nothing was left behind; free some space there."
        ) from error


def _require_rf(blocks: tuple[Block, ...], scanner: Scanner, name: str) -> None:
    """Refuse pulses above the scanner's amplitude: PyPulseq writes any."""
    pulses = {id(block.rf): block.rf for block in blocks if block.rf is not None}
    for rf in pulses.values():
        peak_hz = float(rf.b1_hz.detach().abs().max())
        if not peak_hz <= scanner.b1_max_hz * (1 + 1e-9):
            raise HardwareLimitError(
                f"{name} was not written: pulse {rf.name or rf.use!r} peaks at {peak_hz:.4g} Hz "
                f"({hz_to_tesla(peak_hz) * 1e6:.4g} uT); {scanner.name} allows {scanner.b1_max_hz:.4g} Hz "
                f"({scanner.b1_max_t * 1e6:.4g} uT). Lower or lengthen the pulse."
            )


def _require_gradients(blocks: tuple[Block, ...], scanner: Scanner, name: str) -> None:
    """Refuse lobes above the scanner's gradient or slew rate, as PyPulseq does with a bare ValueError."""
    seen: set[Gradient] = set()
    for number, block in enumerate(blocks, 1):
        for axis, lobe in zip(_AXES, block.gradients, strict=True):
            if lobe is None or lobe in seen:
                continue
            seen.add(lobe)
            gradient, slew = lobe.peak_hz_per_m, lobe.slew_hz_per_m_per_s
            within = gradient <= scanner.max_gradient_hz_per_m * (1 + _MARGIN)
            if not (within and slew <= scanner.max_slew_hz_per_m_per_s * (1 + _MARGIN)):
                raise HardwareLimitError(
                    f"{name} was not written: the gradient along {axis} in block {number} needs {gradient:.4g} Hz/m "
                    f"({hz_to_tesla(gradient) * 1e3:.4g} mT/m) at {slew:.4g} Hz/m/s ({hz_to_tesla(slew):.4g} T/m/s); "
                    f"{scanner.name} allows {scanner.max_gradient_hz_per_m:.4g} Hz/m "
                    f"({scanner.max_gradient_t_per_m * 1e3:.4g} mT/m) and {scanner.max_slew_hz_per_m_per_s:.4g} Hz/m/s "
                    f"({scanner.max_slew_t_per_m_per_s:.4g} T/m/s). Lengthen the lobe or lower its moment."
                )


def _require_samples(blocks: tuple[Block, ...], scanner: Scanner, seq_format: SeqFormat, name: str) -> None:
    """Refuse sampled gradients off the scanner's raster, and ends that a 1.4 file would not keep."""
    found = {id(lobe): lobe for block in blocks for lobe in block.gradients if isinstance(lobe, SampledGradient)}
    for lobe in found.values():
        if abs(lobe.raster_s - scanner.gradient_raster_s) > _MARGIN * scanner.gradient_raster_s:
            raise InputError(
                f"{name} was not written: a sampled gradient has a raster of {lobe.raster_s * 1e6:g} us, but that of "
                f"{scanner.name} is {scanner.gradient_raster_s * 1e6:g} us. Sample it on the scanner's raster."
            )
        samples = lobe.sample_hz_per_m
        continued = 1.5 * samples[0] - 0.5 * samples[1], 1.5 * samples[-1] - 0.5 * samples[-2]
        ends = lobe.first_hz_per_m, lobe.last_hz_per_m
        if seq_format == "1.4.1" and not np.allclose(continued, ends, rtol=0, atol=1e-6 * lobe.peak_hz_per_m):
            raise InputError(
                f"{name} was not written: format 1.4.1 does not state the ends of a sampled gradient, "
                f"{ends[0]:.4g} and {ends[1]:.4g} Hz/m; readers continue its samples to {continued[0]:.4g} and "
                f"{continued[1]:.4g} Hz/m. Give it ramps of at least two samples, or write format 1.5.0."
            )


def _require_ascii(definitions: Mapping[str, str | float | tuple[float, ...]], name: str) -> None:
    """Refuse definitions that would break the text of the file."""
    for key, value in definitions.items():
        text = f"{key} {value}"
        if not (text.isascii() and text.isprintable()):
            raise InputError(
                f"{name} was not written: definition {text!r} holds characters outside printable ASCII, which "
                "interpreters do not read. Rename it."
            )


def _require_whole(text: str, n_blocks: int, name: str) -> None:
    """Refuse a text without signature, with another number of blocks, or with a line too long for interpreters."""
    section = text.partition("[BLOCKS]\n")[2].partition("\n\n")[0]
    found = len([line for line in section.splitlines() if line.strip() and not line.startswith("#")])
    if found != n_blocks or "[SIGNATURE]" not in text:
        raise VerificationError(
            f"{name}: PyPulseq wrote {found} of {n_blocks} blocks, signature "
            f"{'present' if '[SIGNATURE]' in text else 'missing'}. Nothing was written."
        )
    longest = max(text.splitlines(), key=len)
    if len(longest) > LONGEST_LINE:
        raise VerificationError(
            f"{name}: the line {longest[:40]!r}... has {len(longest)} characters; interpreters read at most "
            f"{LONGEST_LINE}. Shorten that definition. Nothing was written."
        )


class _Sequence(pp.Sequence):  # type: ignore[misc]
    """PyPulseq's sequence, which keeps the pulses that its timing check would decompress anew for every block."""

    def __init__(self, system: Any) -> None:
        super().__init__(system=system)
        self._pulses: dict[tuple[Any, ...], SimpleNamespace] = {}

    def rf_from_lib_data(self, lib_data: Any, use: str = "") -> SimpleNamespace:
        """Return the pulse of a row of the RF library: a copy, its samples shared."""
        key = (*lib_data, use)
        if key not in self._pulses:
            self._pulses[key] = super().rf_from_lib_data(lib_data, use)
        return copy(self._pulses[key])


def _pulseq_sequence(blocks: tuple[Block, ...], system: Any) -> Any:
    """Return a PyPulseq sequence; events that are the same object are made and registered once."""
    sequence = _Sequence(system=system)
    made: dict[Any, SimpleNamespace] = {}
    labels: dict[str, int] = {}
    for block in blocks:
        events: list[SimpleNamespace] = []
        if block.rf is not None:
            events.append(_once(made, id(block.rf), lambda rf=block.rf: _registered(_rf(rf, system), sequence)))
        for axis, lobe in zip(_AXES, block.gradients, strict=True):
            if lobe is not None and lobe.peak_hz_per_m != 0:
                events.append(
                    _once(made, (axis, lobe), lambda a=axis, g=lobe: _registered(_gradient(a, g, system), sequence))
                )
        if block.adc is not None:
            events.append(_once(made, block.adc, lambda adc=block.adc: _adc(adc, system)))
        for name, value in block.labels.items():
            # A segment label marks a start, whatever stood before; others are written where they change.
            if name == SEGMENT_LABEL or labels.get(name) != value:
                events.append(pp.make_label(type="SET", label=name, value=value))
                labels[name] = value
        events.append(_once(made, ("delay", block.duration_s), lambda d=block.duration_s: pp.make_delay(d)))
        sequence.add_block(*events)
    return sequence


def _once(made: dict[Any, SimpleNamespace], key: Any, make: Any) -> SimpleNamespace:
    """Return the event made for `key`, making it at the first call."""
    if key not in made:
        made[key] = make()
    return made[key]


def _registered(event: SimpleNamespace, sequence: _Sequence) -> SimpleNamespace:
    """Return an event with its number in the sequence: its shapes are compressed now, and not at every block again."""
    register = sequence.register_rf_event if event.type == "rf" else sequence.register_grad_event
    number = register(event)
    event.id = number[0] if isinstance(number, tuple) else number
    return event


def _rf(rf: Rf, system: Any) -> SimpleNamespace:
    """Return PyPulseq's event; its phase counts from the start of the shape, ours from the centre."""
    phase = (rf.phase_rad - 2 * math.pi * rf.frequency_hz * rf.centre_s) % (2 * math.pi)
    event: SimpleNamespace = pp.make_arbitrary_rf(
        signal=np.asarray(rf.b1_hz.detach(), dtype=np.complex128),
        flip_angle=math.pi,
        dwell=rf.raster_s,
        freq_offset=rf.frequency_hz,
        phase_offset=phase,
        delay=rf.delay_s,
        no_signal_scaling=True,
        use=rf.use,
        system=system,
    )
    event.center = rf.centre_s
    return event


def _gradient(axis: str, lobe: Gradient, system: Any) -> SimpleNamespace:
    return _trapezoid(axis, lobe, system) if isinstance(lobe, Trapezoid) else _sampled(axis, lobe, system)


def _sampled(axis: str, lobe: SampledGradient, system: Any) -> SimpleNamespace:
    event: SimpleNamespace = pp.make_arbitrary_grad(
        channel=axis,
        waveform=lobe.sample_hz_per_m,
        first=lobe.first_hz_per_m,
        last=lobe.last_hz_per_m,
        delay=lobe.delay_s,
        system=system,
    )
    return event


def _trapezoid(axis: str, lobe: Trapezoid, system: Any) -> SimpleNamespace:
    event: SimpleNamespace = pp.make_trapezoid(
        channel=axis,
        amplitude=lobe.amplitude_hz_per_m,
        rise_time=lobe.rise_s,
        flat_time=lobe.flat_s,
        fall_time=lobe.fall_s,
        delay=lobe.delay_s,
        system=system,
    )
    return event


def _adc(adc: Adc, system: Any) -> SimpleNamespace:
    event: SimpleNamespace = pp.make_adc(
        num_samples=adc.n_samples,
        dwell=adc.dwell_s,
        delay=adc.delay_s,
        freq_offset=adc.frequency_hz,
        phase_offset=adc.phase_rad % (2 * math.pi),
        system=system,
    )
    return event
