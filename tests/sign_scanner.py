"""A scanner in plain NumPy that plays a .seq to water and oil, with every sign of its interpreter free to be wrong.

Takes typed events of the reader and nothing else of seqgen: pulses are products of 2 x 2 rotations on a grid of
offsets, gradients act through their moments, transverse magnetisation of earlier shots is spoiled, and Mz recovers.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.stats import qmc

STEP_HZ = 15.0
RF_STEP_S = 2e-5


@dataclass(frozen=True)
class Interpreter:
    """Signs (1 faithful, -1 wrong, 0 ignored) and the matrix from commanded to played gradients."""

    waveform: int = 1
    rf_frequency: int = 1
    rf_phase: int = 1
    adc_phase: int = 1
    adc_frequency: int = 1
    samples: int = 1
    gradients: tuple = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True)
class Phantom:
    """A bottle of water and a smaller one of oil; positions along the gradients' own x, y, z."""

    centre_m: tuple = (0.02, -0.035, 0.06)
    radius_m: float = 0.045
    oil_fraction: float = 0.1
    oil_centre_m: tuple = (-0.05, 0.01, 0.02)
    water_hz: float = 0.0
    oil_from_water_hz: float = -431.0
    b1_scale: float = 1.0
    shim_hz: float = 8.0
    t2_star_s: float = 0.04
    t1_s: tuple = (1.2, 0.25)
    n_spins: int = 400
    coils_m: tuple = ((0.15, 0.0, 0.0), (-0.1, 0.12, 0.05), (0.0, -0.14, 0.1))

    @property
    def spins(self):
        """(positions (n, 3), offsets (n,), densities (n,), T1 (n,))."""
        return _spins(self)


@lru_cache(maxsize=32)
def _spins(phantom):
    water = _ball(phantom.n_spins, seed=1) * phantom.radius_m + np.array(phantom.centre_m)
    oil = _ball(phantom.n_spins // 4, seed=2) * 0.02 + np.array(phantom.oil_centre_m)
    inside = (water - np.array(phantom.centre_m)) / phantom.radius_m
    shim_hz = phantom.shim_hz * (inside[:, 0] + (inside**2).sum(1) - 0.6)
    position = np.concatenate([water, oil])
    offset = np.concatenate(
        [phantom.water_hz + shim_hz, np.full(len(oil), phantom.water_hz + phantom.oil_from_water_hz)]
    )
    density = np.concatenate([np.full(len(water), 1 / len(water)), np.full(len(oil), phantom.oil_fraction / len(oil))])
    t1_s = np.repeat(phantom.t1_s, (len(water), len(oil)))
    return position, offset, density, t1_s


def _ball(n, seed):
    """n points spread evenly over the unit ball."""
    points = 2 * qmc.Sobol(3, seed=seed).random(1 << (2 * n - 1).bit_length()) - 1
    return points[(points**2).sum(1) < 1][:n]


def scan(seq, interpreter, phantom, snr=60.0, seed=0):
    """Samples as stored, shape (n_readouts, n_coils, n_samples); snr: first sample of the first readout over noise."""
    position, _, density, t1_s = phantom.spins
    coils = np.stack([_sensitivity(position, np.array(coil)) for coil in phantom.coils_m])
    mz, plus, stored = np.ones(len(density)), None, []
    after = []
    for block in seq.blocks:
        rf = block.rf
        if rf is not None:
            excited, left = _excited(rf, _held(block, interpreter), interpreter, phantom)
            plus, mz, after = excited * mz, left * mz, [(block, rf.delay_s + rf.duration_s)]
            mz = 1 - (1 - mz) * np.exp(-(block.duration_s - rf.delay_s) / t1_s)
            since_s = -0.5 * rf.duration_s
            continue
        mz = 1 - (1 - mz) * np.exp(-block.duration_s / t1_s)
        if plus is not None:
            after.append((block, 0.0))
        if block.adc is not None:
            turned = _turned(tuple(after), interpreter.gradients, phantom, -since_s)
            received = (coils * (density * plus)) @ turned
            stored.append(_stored(received, block.adc, interpreter))
            plus, after = None, []
    stored = np.array(stored)
    noise = np.random.default_rng(seed).normal(size=(*stored.shape, 2)) @ np.array([1, 1j])
    level = abs(stored[0]).max() / snr if np.isfinite(snr) else 0.0
    return stored + level / np.sqrt(2) * noise


def _sensitivity(position, coil):
    return np.exp(1j * 10 * coil.sum()) / (1 + ((position - coil) ** 2).sum(1) / 0.12**2)


def _held(block, interpreter):
    """Gradient during the pulse as played, Hz/m; it must be constant."""
    rf = block.rf
    t_s = rf.delay_s + np.array([0.0, 0.5, 1.0]) * rf.duration_s
    commanded = np.array([np.zeros(3) if g is None else g.at(t_s) for g in block.gradients])
    assert np.ptp(commanded, axis=1).max() < 1e-6 * (1 + abs(commanded).max())
    return np.array(interpreter.gradients) @ commanded[:, 1]


def _excited(rf, gradient_hz_per_m, interpreter, phantom):
    """(transverse magnetisation at the end of the pulse, part of Mz left) of spins with Mz = 1."""
    position, offset_hz, _, _ = phantom.spins
    own_hz = offset_hz + position @ gradient_hz_per_m
    low, high = np.floor(own_hz.min() / STEP_HZ) - 1, np.ceil(own_hz.max() / STEP_HZ) + 1
    signs = interpreter.waveform, interpreter.rf_frequency, interpreter.rf_phase
    grid_hz, centred, left = _profile(_Key(rf.key, rf), signs, phantom.b1_scale, low, high)
    at = np.interp(own_hz, grid_hz, centred.real) + 1j * np.interp(own_hz, grid_hz, centred.imag)
    return at * np.exp(1j * np.pi * own_hz * rf.duration_s), np.interp(own_hz, grid_hz, left)


@dataclass(frozen=True)
class _Key:
    """An event that is cached by its key."""

    key: str
    event: object = field(compare=False)


@lru_cache(maxsize=512)
def _profile(key, signs, b1_scale, low, high):
    """Response over offsets; the transverse part without the phase 2 pi f T/2 that it gathers from the centre on."""
    rf = key.event
    waveform, frequency, phase = signs
    shape = rf.shape_hz if waveform == 1 else rf.shape_hz.conj() if waveform == -1 else abs(rf.shape_hz)
    t_s = (np.arange(shape.size) + 0.5) * rf.dwell_s
    played = b1_scale * shape * np.exp(1j * (phase * rf.phase_rad + 2 * np.pi * frequency * rf.frequency_hz * t_s))
    played = played.reshape(-1, round(RF_STEP_S / rf.dwell_s)).mean(1)
    grid_hz = np.arange(low, high + 1) * STEP_HZ
    size_hz = np.sqrt(abs(played) ** 2 + grid_hz[:, None] ** 2) + 1e-12
    half = np.pi * size_hz * RF_STEP_S
    a = np.cos(half) - 1j * grid_hz[:, None] / size_hz * np.sin(half)
    b = -1j * played / size_hz * np.sin(half)
    while a.shape[1] > 1:  # neighbours in time, the later one on the left
        if a.shape[1] % 2:
            a = np.concatenate([a, np.ones((len(a), 1))], 1)
            b = np.concatenate([b, np.zeros((len(b), 1))], 1)
        a, b = (
            a[:, 1::2] * a[:, ::2] - b[:, 1::2].conj() * b[:, ::2],
            b[:, 1::2] * a[:, ::2] + a[:, 1::2].conj() * b[:, ::2],
        )
    a, b = a[:, 0], b[:, 0]
    return grid_hz, 2 * a.conj() * b * np.exp(-1j * np.pi * grid_hz * rf.duration_s), abs(a) ** 2 - abs(b) ** 2


def _turned(after, gradients, phantom, since_centre_s):
    """exp(2 pi i (f t + k r) - t / T2*) at every sample, shape (n_spins, n_samples), t from the end of the pulse."""
    keys = tuple((_Key(f"{block.key} {start_s}", block), start_s) for block, start_s in after)
    return _turned_once(keys, gradients, phantom, since_centre_s)


@lru_cache(maxsize=64)
def _turned_once(keys, gradients, phantom, since_centre_s):
    position, offset_hz, _, _ = phantom.spins
    elapsed_s, moment = 0.0, np.zeros(3)
    for key, start_s in keys:
        block = key.event
        if block.adc is None:
            end_s = np.array([block.duration_s])
        else:
            end_s = block.adc.delay_s + (np.arange(block.adc.n_samples) + 0.5) * block.adc.dwell_s
        moments = moment + np.stack([_integral(g, start_s, end_s) for g in block.gradients], 1)
        times_s = elapsed_s + end_s - start_s
        elapsed_s, moment = times_s[-1], moments[-1]
    played = moments @ np.array(gradients).T
    phase = 2j * np.pi * (np.outer(offset_hz, times_s) + position @ played.T)
    return np.exp(phase - (times_s + since_centre_s) / phantom.t2_star_s)


def _integral(gradient, start_s, end_s):
    """Moment from one time to others in a block, corner to corner."""
    if gradient is None:
        return np.zeros(len(end_s))
    corners = gradient.delay_s + gradient.time_s
    t_s = np.unique(np.concatenate([[start_s], end_s, corners[corners > start_s]]))
    value = gradient.at(t_s)
    moment = np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(t_s))])
    return np.interp(end_s, t_s, moment)


def _stored(received, adc, interpreter):
    t_s = (np.arange(adc.n_samples) + 0.5) * adc.dwell_s
    turn = interpreter.adc_phase * adc.phase_rad + 2 * np.pi * interpreter.adc_frequency * adc.frequency_hz * t_s
    samples = received * np.exp(-1j * turn)
    return samples.conj() if interpreter.samples == -1 else samples
