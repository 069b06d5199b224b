"""Whole molecules through a shot: lines at the echo."""

from collections.abc import Sequence

from seqgen.simulate.acquire import Lines, concatenate, lines
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import DEFAULT_POSITIONS_PER_SLICE, play, prepare
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.hamiltonian import molecule_models
from seqgen.spin.system import SpinSystem
from seqgen.timeline import Timeline


def molecule_lines(
    shots: Sequence[Timeline],
    system: SpinSystem,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    members: Ensemble | None = None,
    time_zero_s: float | None = None,
    positions_per_slice: int = DEFAULT_POSITIONS_PER_SLICE,
    j_step_s: float = RESULT_J_STEP_S,
) -> Lines:
    """Return the lines of a molecule after the shots of one phase cycle, without relaxation.

    Args:
        shots: The shots of the cycle (their mean, receiver phases applied, is simulated).
        system: The molecule.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency, ppm.
        members: Ensemble; default one member on resonance at nominal B1.
        time_zero_s: t = 0 of the lines; default the echo.
        positions_per_slice: Positions per slice thickness.
        j_step_s: Longest time between applications of the couplings in a pulse.

    Returns:
        Amplitudes of shape (E, n_lines), 1 per proton in a perfect voxel; frequencies in Hz above the spectrometer's.
    """
    parts = []
    for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm):
        shot = prepare(
            shots,
            model,
            members,
            time_zero_s=time_zero_s,
            positions_per_slice=positions_per_slice,
            j_step_s=j_step_s,
        )
        parts.append(lines(play(shot), model))
    return concatenate(parts)
