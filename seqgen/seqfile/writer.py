"""Blocks to `.seq` through PyPulseq: the only module that imports it."""

import math
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pypulseq as pp

from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.provenance import replacing
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Adc, Block, Rf, Trapezoid
from seqgen.units import GAMMA_BAR_HZ_PER_T, b0_t, hz_to_tesla

SeqFormat = Literal["1.5.0", "1.4.1"]
_AXES = ("x", "y", "z")


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
) -> None:
    """Write blocks as a signed `.seq` file: to a temporary name first, structure checked, then renamed.

    Args:
        blocks: Blocks in order of play.
        path: Output file.
        scanner: Rasters and limits handed to PyPulseq, whose own timing check must be clean.
        spectrometer_frequency_hz: Spectrometer frequency, Hz; gives the file's B0.
        definitions: Entries of [DEFINITIONS]; numbers as they are, in SI.
        seq_format: "1.5.0", or "1.4.1" for older interpreters (RF use is dropped there).

    Raises:
        HardwareLimitError: If a pulse exceeds the scanner's RF amplitude.
        VerificationError: If PyPulseq changes an event, its timing check fails, or the written file is not whole.
            Nothing is left behind.
        InputError: If a definition is not plain ASCII, or the file cannot be written.
    """
    _require_rf(blocks, scanner, path.name)
    _require_ascii(definitions, path.name)
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
    text = _drafted(sequence, seq_format, path)
    _require_whole(text, len(blocks), path.name)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


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
                sequence.write(str(draft), create_signature=True, v141_compat=seq_format == "1.4.1")
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
    """Refuse a text without signature or with another number of blocks."""
    section = text.partition("[BLOCKS]\n")[2].partition("\n\n")[0]
    found = len([line for line in section.splitlines() if line.strip() and not line.startswith("#")])
    if found != n_blocks or "[SIGNATURE]" not in text:
        raise VerificationError(
            f"{name}: PyPulseq wrote {found} of {n_blocks} blocks, signature "
            f"{'present' if '[SIGNATURE]' in text else 'missing'}. Nothing was written."
        )


def _pulseq_sequence(blocks: tuple[Block, ...], system: Any) -> Any:
    """Return a PyPulseq sequence; events that are the same object are made and registered once."""
    sequence = pp.Sequence(system=system)
    made: dict[Any, SimpleNamespace] = {}
    labels: dict[str, int] = {}
    for block in blocks:
        events: list[SimpleNamespace] = []
        if block.rf is not None:
            events.append(_once(made, id(block.rf), lambda rf=block.rf: _rf(rf, system)))
        for axis, lobe in zip(_AXES, block.gradients, strict=True):
            if lobe is not None and lobe.amplitude_hz_per_m != 0:
                events.append(_once(made, (axis, lobe), lambda a=axis, g=lobe: _trapezoid(a, g, system)))
        if block.adc is not None:
            events.append(_once(made, block.adc, lambda adc=block.adc: _adc(adc, system)))
        for name, value in block.labels.items():
            if labels.get(name) != value:
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
