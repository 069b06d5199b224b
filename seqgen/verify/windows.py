"""RF power of a `.seq` file averaged over sliding windows."""

import numpy as np

from seqgen.seqfile.events import FloatVector, RfEvent, SeqFile

PIECES = 128
"""A pulse is followed in this many pieces of constant power: only a window whose edge cuts a pulse can tell, and then
by less than the energy of one piece."""


def cumulative_energy(seq: SeqFile) -> tuple[FloatVector, FloatVector]:
    """Return corners of the RF energy played up to a time: times in s, and integrals of |b1|^2 in Hz^2 s, shape (n,).

    Between corners the integral rises in a straight line; it begins at (0, 0) and ends with the file.
    """
    corners: dict[int, tuple[FloatVector, FloatVector]] = {}
    times, energies = [np.zeros(1)], [np.zeros(1)]
    now_s, spent = 0.0, 0.0
    for block in seq.blocks:
        if block.rf is not None:
            if block.rf.id not in corners:
                corners[block.rf.id] = _pulse_corners(block.rf)
            after_s, energy = corners[block.rf.id]
            times.append(now_s + block.rf.delay_s + after_s)
            energies.append(spent + energy)
            spent += float(energy[-1])
        now_s += block.duration_s
    return np.concatenate([*times, [now_s]]), np.concatenate([*energies, [spent]])


def _pulse_corners(rf: RfEvent) -> tuple[FloatVector, FloatVector]:
    """Return times after the start of a shape, s, and its energy up to them, Hz^2 s."""
    n = rf.shape_hz.size
    samples = np.unique(np.round(np.linspace(0, n, min(n, PIECES) + 1)).astype(int))
    energy = np.concatenate([[0.0], np.cumsum(np.abs(rf.shape_hz) ** 2)]) * rf.dwell_s
    return samples * rf.dwell_s, energy[samples]


def worst_mean_square_hz2(time_s: FloatVector, energy_hz2_s: FloatVector, window_s: float) -> float:
    """Return the largest mean of |b1|^2 over any window, Hz^2.

    A file shorter than the window is averaged over its own duration, as if it went on alike.

    Args:
        time_s: Corners from `cumulative_energy`, shape (n,).
        energy_hz2_s: Energy up to them, shape (n,).
        window_s: Averaging time, s.

    Example:
        >>> time_s, energy = np.array([0.0, 1.0, 4.0, 5.0, 9.0]), np.array([0.0, 6.0, 6.0, 8.0, 8.0])
        >>> [worst_mean_square_hz2(time_s, energy, window_s) for window_s in (0.5, 2.0, 4.5, 20.0)]
        [6.0, 3.0, 1.5555555555555556, 0.8888888888888888]
    """
    total_s = float(time_s[-1])
    window_s = min(window_s, total_s)
    # The mean is a straight line between windows that begin or end at a corner.
    starts = np.clip(np.concatenate([time_s, time_s - window_s]), 0.0, total_s - window_s)
    held = np.interp(starts + window_s, time_s, energy_hz2_s) - np.interp(starts, time_s, energy_hz2_s)
    return float(held.max()) / window_s
