"""A whole scan from its shots: dummies, averages through a phase cycle, water references, noise, labels, TR.

Labels at every readout (docs/sequences.md has the table): AVG counts readouts of one kind, SET is the editing
condition, PHS the step of the phase cycle, REP the completed cycles, REF marks water references and NOISE noise.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Adc, Block
from seqgen.sequence.blocks import lobe
from seqgen.sequence.cycles import PhaseStep
from seqgen.sequence.parameters import require
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.preparation import Preparation, PreparationParams, check_preparation, prepare
from seqgen.sequence.timing import nearest, remaining, round_up
from seqgen.sequence.train import Train, after_gap
from seqgen.sequence.voxel import check_voxel, voxel_axes, voxel_definitions

SHOTS_TOGETHER = "seqgen_shots_together"
"""Definition that states how many successive shots are one acquisition, where it is more than one."""
WATER_REFERENCE_STEPS = 2
"""Water references come in whole pairs of the first steps of the cycle: their signal needs no further cancelling."""
_SPOILER_DIRECTION = (1.0, -1.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanParams(PreparationParams):
    """Parameters that all localised sequences share."""

    tr_s: float
    """Repetition time, s."""
    averages: int = 32
    """Water-suppressed shots that are acquired, all editing conditions together; a multiple of the phase cycle."""
    dummy_scans: int = 2
    """Shots without readout before the first."""
    water_reference_averages: int = 2
    """Shots without water suppression, same readout, label REF 1; an even number."""
    water_reference_interval: int = 0
    """Averages between two water references; 0: all water references at the end."""
    noise_scans: int = 0
    """Readouts without RF and gradients before everything else, label NOISE 1."""
    adc_samples: int = 2048
    """Complex samples of a readout."""
    adc_dwell_s: float = 2.5e-4
    """Dwell time, s."""
    receiver_phase_rad: float = 0.0
    """Phase of the receiver, rad, on top of the phase cycle; a design sets it so that its target is in absorption."""
    slew_fraction: float = 0.5
    """Part of the scanner's slew rate that gradients use: half keeps nerve stimulation and noise low."""
    end_spoiler_moment_per_m: float = 3000.0
    """Moment along each of the voxel's axes of the spoiler after the readout, cycles per metre; 0: none."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """A shot of a phase cycle: its pulses, and the phases that they and the receiver take."""

    train: Train
    """Pulses and echo."""
    phases: PhaseStep
    """Phases."""


def gentle(params: ScanParams, context: BuildContext) -> BuildContext:
    """Return the context with the part of the slew rate that the parameters allow."""
    slew = params.slew_fraction * context.scanner.max_slew_t_per_m_per_s
    return replace(context, scanner=replace(context.scanner, max_slew_t_per_m_per_s=slew))


def assemble(
    params: ScanParams,
    context: BuildContext,
    sets: Sequence[Sequence[Step]],
    *,
    name: str,
    te_s: float,
    definitions: dict[str, Any],
    notes: Sequence[str] = (),
    together: int = 1,
) -> Built:
    """Return all blocks of a scan.

    Args:
        params: Parameters of the sequence.
        context: Scanner (with the slew rate of `gentle`) and frequency.
        sets: The phase cycle of every editing condition, all of equal length; conditions take turns, shot by shot.
        name: Name of the sequence, for file and definitions.
        te_s: Echo time from RF centres, s.
        definitions: Further entries of [DEFINITIONS].
        notes: What to tell the user beside the numbers that every scan reports.
        together: Successive shots whose mean is one acquisition (2 for ISIS): stated in the file, and not parted by a
            water reference.

    Raises:
        InputError: If averages are no multiple of the cycle, or TR or readout do not fit.
        HardwareLimitError: If a pulse or gradient needs more than the scanner allows.
    """
    n_steps, n_sets = len(sets[0]), len(sets)
    _check_averages(params, n_steps, n_sets)
    preparation = prepare(params, context, sets[0][0].train.elements[0].lead_s)
    shots = {
        (suppress, condition, k): _shot(params, context, preparation, step, suppress=suppress)
        for suppress in (True, False)
        for condition, steps in enumerate(sets)
        for k, step in enumerate(steps)
        if suppress or (k < WATER_REFERENCE_STEPS and condition == n_sets - 1)
    }
    order = _order(params, n_sets * together, together)
    noise = _noise(context.scanner, shots[True, 0, 0])
    blocks: list[Block] = []
    starts: list[int] = []

    def play(shot: list[Block]) -> None:
        starts.append(len(blocks))
        blocks.extend(shot)

    for index in range(params.noise_scans):
        play(_labelled(noise, AVG=index, SET=0, PHS=0, REP=0, REF=0, NOISE=1))
    for index in range(params.dummy_scans):
        played = shots[True, index % n_sets, index // n_sets % n_steps]
        play([replace(block, adc=None) if block.adc is not None else block for block in played])
    flags = {"NOISE": 0} if params.noise_scans else {}
    for suppress, index in order:
        # Water references play the last condition, in MEGA-PRESS the OFF one.
        condition, average = (index % n_sets, index // n_sets) if suppress else (n_sets - 1, index)
        step = average % (n_steps if suppress else min(n_steps, WATER_REFERENCE_STEPS))
        counters = {"AVG": average, "SET": condition, "PHS": step, "REP": average // n_steps}
        play(_labelled(shots[suppress, condition, step], **counters, REF=0 if suppress else 1, **flags))
    # Some interpreters want every counter set before it is used, and dummy scans come first.
    counters = dict.fromkeys(("AVG", "SET", "PHS", "REP", "REF", *(("NOISE",) if params.noise_scans else ())), 0)
    blocks[0] = replace(blocks[0], labels=counters | blocks[0].labels)
    least_tr_s = _least_tr_s(context.scanner, shots[True, 0, 0])
    return Built(
        blocks=tuple(blocks),
        shot_starts=tuple(starts),
        definitions={
            "Name": name,
            "TE": te_s,
            "TR": nearest(params.tr_s, context.scanner.block_raster_s),
            "Nucleus": "1H",
            **({SHOTS_TOGETHER: float(together)} if together > 1 else {}),
            **voxel_definitions(params),
            **definitions,
        },
        notes=(
            *notes,
            f"TR {params.tr_s * 1e3:.6g} ms (minimum {least_tr_s * 1e3:.6g} ms)",
            f"{params.averages} averages: {n_steps} steps of the phase cycle"
            + (f" x {n_sets} editing conditions" if n_sets > 1 else ""),
            *preparation.notes,
        ),
    )


def _order(params: ScanParams, whole: int, references_at_once: int) -> list[tuple[bool, int]]:
    """Return (water suppressed, number among its kind) of every acquired shot in order of play."""
    require(
        params,
        "water_reference_interval",
        lambda interval: interval % whole == 0 and interval <= params.averages,
        f"0 or a multiple of {whole} up to averages ({params.averages})",
    )
    order: list[tuple[bool, int]] = []
    references = iter(range(params.water_reference_averages))
    for index in range(params.averages):
        order.append((True, index))
        if params.water_reference_interval and (index + 1) % params.water_reference_interval == 0:
            order += [(False, number) for number in itertools.islice(references, references_at_once)]
    return order + [(False, number) for number in references]


# --- One shot --------------------------------------------------------------------------------------------------------


def _shot(
    params: ScanParams, context: BuildContext, preparation: Preparation, step: Step, *, suppress: bool
) -> list[Block]:
    """Return the blocks of one repetition: preparation, pulses, readout, spoiler, delay to the end of TR."""
    scanner, train = context.scanner, step.train
    blocks = [
        *(preparation.suppressed if suppress else preparation.unsuppressed),
        *train.blocks(step.phases.pulse_phase_rad, scanner.block_raster_s),
        _readout(params, scanner, train, step.phases.receiver_phase_rad),
    ]
    if params.end_spoiler_moment_per_m > 0:
        moment = params.end_spoiler_moment_per_m * np.asarray(_SPOILER_DIRECTION) @ voxel_axes(params)
        blocks.append(lobe(moment, scanner, name="spoiler at the end"))
    rest_s = remaining(
        "tr_s",
        params.tr_s,
        sum(block.duration_s for block in blocks),
        scanner.block_raster_s,
        "Raise tr_s or shorten the readout or the echo times.",
    )
    return after_gap(blocks, rest_s, scanner.block_raster_s)


def _readout(params: ScanParams, scanner: Scanner, train: Train, phase_rad: float) -> Block:
    """Return the readout, its first sample at the echo (up to half a dwell later at the minimum TE)."""
    delay_s = max(
        nearest(train.after_last_s - params.adc_dwell_s / 2, scanner.rf_raster_s),
        round_up(scanner.adc_dead_time_s, scanner.rf_raster_s),
    )
    return Block(
        duration_s=round_up(
            delay_s + params.adc_samples * params.adc_dwell_s + scanner.adc_dead_time_s, scanner.block_raster_s
        ),
        adc=Adc(
            n_samples=params.adc_samples,
            dwell_s=params.adc_dwell_s,
            delay_s=delay_s,
            phase_rad=phase_rad + params.receiver_phase_rad,
        ),
    )


def _noise(scanner: Scanner, shot: list[Block]) -> list[Block]:
    """Return a shot's readout alone, at its time in TR."""
    index = next(k for k, block in enumerate(shot) if block.adc is not None)
    around = [
        round(sum(block.duration_s for block in part) / scanner.block_raster_s) * scanner.block_raster_s
        for part in (shot[:index], shot[index + 1 :])
    ]
    before, after = ([Block(duration_s=duration_s)] if duration_s > 0 else [] for duration_s in around)
    return [*before, shot[index], *after]


def _labelled(shot: list[Block], **labels: int) -> list[Block]:
    """Return the shot with labels set at its readout."""
    return [replace(block, labels=labels) if block.adc is not None else block for block in shot]


def _least_tr_s(scanner: Scanner, shot: list[Block]) -> float:
    """Return the shortest TR: everything but the last delay."""
    played = shot[:-1] if shot[-1].adc is None and not any(shot[-1].gradients) else shot
    return round_up(sum(block.duration_s for block in played), scanner.block_raster_s)


# --- Parameters ------------------------------------------------------------------------------------------------------


def check_scan(
    params: ScanParams, context: BuildContext, *, positive: Sequence[str] = (), cycles: Collection[str] = ()
) -> None:
    """Refuse parameters that no scan can play.

    Args:
        params: Parameters of the sequence.
        context: Scanner.
        positive: Names of further parameters that must be positive.
        cycles: Values that `phase_cycle` may have.

    Raises:
        InputError: Naming the parameter, its value and what it must be.
    """
    scanner = context.scanner
    check_voxel(params, scanner)
    check_preparation(params, context)
    for name in ("tr_s", "adc_dwell_s", *positive):
        require(params, name, lambda value: 0 < value < math.inf, "positive and finite")
    require(params, "receiver_phase_rad", math.isfinite, "finite")
    if cycles:
        require(params, "phase_cycle", lambda name: name in cycles, f"one of {', '.join(cycles)}")
    require(params, "end_spoiler_moment_per_m", lambda value: 0 <= value < math.inf, "finite and not negative")
    require(params, "slew_fraction", lambda value: 0 < value <= 1, "above 0 and at most 1")
    for name in ("dummy_scans", "noise_scans", "water_reference_interval"):
        require(params, name, lambda count: count >= 0, "0 or more")
    check_readout(params, scanner)


def check_readout(params: Any, scanner: Scanner) -> None:
    """Refuse `adc_samples` and `adc_dwell_s` that the scanner's receiver cannot take.

    Raises:
        InputError: Naming the parameter, its value and what it must be.
    """
    require(
        params,
        "adc_samples",
        lambda count: 0 < count <= scanner.adc_samples_max and count % scanner.adc_samples_divisor == 0,
        f"a multiple of {scanner.adc_samples_divisor} from {scanner.adc_samples_divisor} to {scanner.adc_samples_max} "
        f"({scanner.name})",
    )
    require(
        params,
        "adc_dwell_s",
        lambda dwell_s: (
            dwell_s > 0.5 * scanner.adc_raster_s
            and abs(dwell_s - nearest(dwell_s, scanner.adc_raster_s)) < 1e-6 * scanner.adc_raster_s
        ),
        f"a multiple of the ADC raster of {scanner.name}, {scanner.adc_raster_s:g} s",
    )


def _check_averages(params: ScanParams, n_steps: int, n_sets: int) -> None:
    """Refuse averages that are no whole cycles."""
    cycle = n_steps * n_sets
    what = f"{n_steps} steps of the phase cycle" + (f" x {n_sets} editing conditions" if n_sets > 1 else "")
    require(
        params,
        "averages",
        lambda count: count >= cycle and count % cycle == 0,
        f"a multiple of {cycle} ({what}) and at least {cycle}",
    )
    pairs = min(n_steps, WATER_REFERENCE_STEPS)
    require(
        params,
        "water_reference_averages",
        lambda count: count >= 0 and count % pairs == 0,
        f"a multiple of {pairs} (first steps of the phase cycle), or 0",
    )
