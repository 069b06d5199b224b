"""Uncoupled spins through a `.seq` as PyPulseq reads it: Bloch equations in plain NumPy, no line shared with seqgen.

M+ = Mx + i My turns by exp(+2 pi i f t) at an offset of f Hz, RF b1 turns M right-handed about (Re b1, Im b1). A pulse
is a rotation in Cayley-Klein form, U = [[a, -b*], [b, a*]], played sample by sample under the gradients of its block;
spins of equal position along these gradients share it. Between pulses M+ only turns, by the integral of the gradients.
"""

from dataclasses import dataclass

import numpy as np
import pypulseq

CELL_M = 2.4e-3
"""Edge of the cube over which crushed coherence averages out: 1500 cycles/m are 3.6 cycles, of which 0.3 % is left."""
LINE_STEP_M = 1e-4
_LATTICE = (377, 233)
"""Fibonacci lattice: the shortest wave that it takes for a constant has 20 cycles in a cell."""
_SAME_M = 1e-6
_HELD = 10
"""Most equal RF samples (us on most scanners) that are played as one: the gradient may change under them."""


@dataclass(frozen=True)
class Block:
    """What a block plays: RF, gradients as straight lines between corners, receiver."""

    duration_s: float
    rf: object
    adc: object
    corner_s: np.ndarray
    corner_hz_per_m: np.ndarray

    def moment_per_m(self, time_s):
        """Integral of the gradients from the start of the block to some times, shape (..., 3)."""
        t, g = self.corner_s, self.corner_hz_per_m
        at_corners = np.concatenate([np.zeros((1, 3)), np.cumsum(0.5 * (g[1:] + g[:-1]) * np.diff(t)[:, None], 0)])
        time_s = np.asarray(time_s, dtype=float)
        k = np.clip(np.searchsorted(t, time_s, side="right") - 1, 0, len(t) - 2)
        now = np.stack([np.interp(time_s, t, g[:, axis]) for axis in range(3)], -1)
        return at_corners[k] + 0.5 * (g[k] + now) * (time_s - t[k])[..., None]


def read_shots(path):
    """Return the shots of a file, each a list of blocks that ends in its readout."""
    seq = pypulseq.Sequence()
    seq.read(str(path))
    shots, blocks = [], []
    for number in sorted(seq.block_events):
        block = _block(seq.get_block(number))
        blocks.append(block)
        if block.adc is not None:
            shots.append(blocks)
            blocks = []
    return shots


def _block(block):
    """Return a block of PyPulseq with its gradients as straight lines between corners."""
    lines = []
    for gradient in (block.gx, block.gy, block.gz):
        if gradient is None:
            lines.append((np.array([0.0]), np.array([0.0])))
        elif gradient.type == "trap":
            times = np.cumsum([gradient.delay, gradient.rise_time, gradient.flat_time, gradient.fall_time])
            lines.append((times, gradient.amplitude * np.array([0.0, 1.0, 1.0, 0.0])))
        else:
            times = gradient.delay + np.concatenate([[0.0], gradient.tt, [gradient.shape_dur]])
            lines.append((times, np.concatenate([[gradient.first], gradient.waveform, [gradient.last]])))
    times = np.unique(np.concatenate([[0.0, block.block_duration], *(times for times, _ in lines)]).round(10))
    values = np.stack([np.interp(times, own, value, left=0.0, right=0.0) for own, value in lines], -1)
    return Block(
        duration_s=float(block.block_duration), rf=block.rf, adc=block.adc, corner_s=times, corner_hz_per_m=values
    )


# --- Playing ---------------------------------------------------------------------------------------------------------


def play(shots, position_m, offset_hz, *, b1_scale=1.0, late_s=0.0):
    """Return M+ at the first sample of every shot, receiver phase applied, in units of M0.

    Args:
        shots: Shots of `read_shots`; each starts in equilibrium.
        position_m: Positions of the spins, shape (..., 3).
        offset_hz: Their offset.
        b1_scale: B1 relative to nominal.
        late_s: Time after the first sample at which M+ is taken instead.

    Returns:
        Shape (n_shots, ...).
    """
    spins = np.asarray(position_m, dtype=float).reshape(-1, 3)
    places, pulses = {}, {}
    signals = []
    for blocks in shots:
        plus, z = np.zeros(len(spins), dtype=complex), np.ones(len(spins))
        moment, wait_s, excited = np.zeros(3), 0.0, False
        for block in blocks:
            if block.rf is not None:
                start, end = block.rf.delay, block.rf.delay + block.rf.shape_dur
                moment, wait_s = moment + block.moment_per_m(start), wait_s + start
                if excited:
                    plus *= np.exp(2j * np.pi * (spins @ moment + offset_hz * wait_s))
                a, b = _pulse(block, spins, offset_hz, b1_scale, places, pulses)
                plus, z = turn(plus, z, a, b)
                excited = True
                moment = block.moment_per_m(block.duration_s) - block.moment_per_m(end)
                wait_s = block.duration_s - end
            elif block.adc is not None:
                sample_s = block.adc.delay + 0.5 * block.adc.dwell + late_s
                moment, wait_s = moment + block.moment_per_m(sample_s), wait_s + sample_s
            else:
                moment, wait_s = moment + block.moment_per_m(block.duration_s), wait_s + block.duration_s
        plus *= np.exp(2j * np.pi * (spins @ moment + offset_hz * wait_s) - 1j * blocks[-1].adc.phase_offset)
        signals.append(plus.reshape(np.shape(position_m)[:-1]))
    return np.stack(signals)


def turn(plus, z, a, b):
    """Return (M+, Mz) after U rho U^H, rho = [[Mz, M+*], [M+, -Mz]]."""
    return (
        2 * a.conj() * b * z + a.conj() ** 2 * plus - b**2 * plus.conj(),
        (np.abs(a) ** 2 - np.abs(b) ** 2) * z - 2 * (a * b * plus.conj()).real,
    )


def _pulse(block, spins, offset_hz, b1_scale, places, pulses):
    """Return the (a, b) of a block's RF for every spin, RF phase and frequency applied."""
    rf = block.rf
    edges_s = rf.delay + np.concatenate([[0.0], 0.5 * (rf.t[1:] + rf.t[:-1]), [rf.shape_dur]])
    first = _runs(rf.signal)
    edges_s = edges_s[np.append(first, len(rf.signal))]
    gradient = np.diff(block.moment_per_m(edges_s), axis=0) / np.diff(edges_s)[:, None]
    strongest = gradient[np.argmax(np.linalg.norm(gradient, axis=1))]
    size = np.linalg.norm(strongest)
    direction = strongest / size if size > 0 else strongest
    along = gradient @ direction
    np.testing.assert_allclose(gradient, along[:, None] * direction, atol=1e-5 * size)
    where = tuple(direction.round(9))
    if where not in places:
        places[where] = _clusters(spins @ direction)
    position, spin = places[where]
    key = (where, rf.signal.tobytes(), along.tobytes(), rf.freq_offset)
    if key not in pulses:
        # In the frame of the carrier: what turns there lags by its frequency, and is turned back at the end.
        offset = offset_hz - rf.freq_offset
        a, b = rotation(b1_scale * rf.signal[first], np.diff(edges_s), offset + along[:, None] * position)
        back = np.exp(1j * np.pi * rf.freq_offset * rf.shape_dur)
        pulses[key] = a * back.conj(), b * back
    a, b = pulses[key]
    return a[spin], (b * np.exp(1j * rf.phase_offset))[spin]


def _clusters(x):
    """Return positions that differ, by more than what six digits of a file turn a direction, and which each x has."""
    order = np.argsort(x)
    starts = np.concatenate([[True], np.diff(x[order]) > _SAME_M])
    number = np.empty(len(x), dtype=int)
    number[order] = np.cumsum(starts) - 1
    return np.bincount(number, x) / np.bincount(number), number


def _runs(signal):
    """Return where runs of equal samples start, none longer than `_HELD`."""
    changes = np.abs(np.diff(signal)) > 1e-9 * np.abs(signal).max()
    first = np.flatnonzero(np.concatenate([[True], changes]))
    return np.concatenate([np.arange(a, b, _HELD) for a, b in zip(first, [*first[1:], len(signal)], strict=True)])


def rotation(b1_hz, dwell_s, offset_hz):
    """Return (a, b) of piecewise-constant RF (T,), sample durations (T,) and offsets (T, n)."""
    a, b = np.ones(offset_hz.shape[1], dtype=complex), np.zeros(offset_hz.shape[1], dtype=complex)
    for b1, dwell, offset in zip(b1_hz, dwell_s, offset_hz, strict=True):
        size = np.sqrt(abs(b1) ** 2 + offset**2)
        half = np.pi * size * dwell
        over = np.pi * dwell * np.sinc(half / np.pi)  # sin(half) / size
        p, q = np.cos(half) - 1j * offset * over, -1j * b1 * over
        a, b = p * a - q.conj() * b, q * a + p.conj() * b
    return a, b


# --- Where the spins are ---------------------------------------------------------------------------------------------


def line(centre_m, axes, axis, reach_m):
    """Return (coordinate along the line (n,), positions (n, n_cell, 3)): a cell across the axis at every step."""
    x = LINE_STEP_M * np.arange(-round(reach_m / LINE_STEP_M), round(reach_m / LINE_STEP_M) + 1)
    second, third = (axes[k] for k in range(3) if k != axis)
    u, v = _cell()
    across = CELL_M * (u[:, None] * second + v[:, None] * third)
    return x, np.asarray(centre_m) + x[:, None, None] * axes[axis] + across


def averaged(signal):
    """Return the mean over the cell around every position of `line` but the outermost, shape (..., n - n_edge)."""
    u, v = _cell()
    weights = _window(u) * _window(v)
    across = signal @ (weights / weights.sum())
    n = round(CELL_M / LINE_STEP_M)
    along = _window((np.arange(1, n) / n) - 0.5)
    return np.apply_along_axis(np.convolve, -1, across, along / along.sum(), mode="valid")


def trimmed(x):
    """Return the coordinates that `averaged` leaves."""
    edge = round(CELL_M / LINE_STEP_M) // 2 - 1
    return x[edge : len(x) - edge]


def at_point(shots, point_m, axes, offset_hz, **options):
    """Return the signal of every shot, averaged over the cell at a point, shape (n_shots,)."""
    _, position = line(point_m, axes, 0, 0.5 * CELL_M - LINE_STEP_M)
    return averaged(play(shots, position, offset_hz, **options))[:, 0]


def _cell():
    """Return the points of the lattice in the unit square about 0."""
    n, step = _LATTICE
    k = np.arange(n)
    return (k + 0.5) / n - 0.5, (k * step / n + 0.25) % 1.0 - 0.5


def _window(x):
    """Return weights over (-0.5, 0.5) that leave nearly nothing of what turns by 3 cycles and more."""
    return np.cos(np.pi * x) ** 4
