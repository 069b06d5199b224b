"""Analytic, composite and SLR pulse shapes on a coarse dwell that rasters divide."""

import math

import numpy as np
import torch
from scipy.signal import firls

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse


def slr_pulse(
    *,
    flip_angle_rad: float,
    time_bandwidth: float,
    duration_s: float,
    dwell_s: float,
    pass_ripple: float = 0.003,
    stop_ripple: float = 0.02,
    name: str,
) -> RFPulse:
    """Return a linear-phase Shinnar-Le Roux pulse.

    The beta polynomial is a least-squares low-pass filter scaled to sin(flip/2), alpha its minimum-phase partner, and
    the inverse transform peels off one hard pulse per sample. Least squares instead of equiripple: the latter puts
    spikes on the first and last sample.
    Source: Pauly et al., IEEE Trans Med Imaging 10:53 (1991), doi:10.1109/42.75611.

    Args:
        flip_angle_rad: Flip angle in the passband, rad, at most pi.
        time_bandwidth: Product of duration and full width at half maximum of beta.
        duration_s: Duration, s.
        dwell_s: Sample duration, s.
        pass_ripple: Ripple of the beta filter in its passband that sets transition width and weights, relative.
        stop_ripple: The same in its stopband.
        name: Name for diagrams.

    Returns:
        Real positive main lobe: a rotation about +x.

    Raises:
        InputError: If the pulse has fewer than 32 samples or its filter cannot be designed.
    """
    n = round(duration_s / dwell_s)
    if n < 32 or abs(n * dwell_s - duration_s) > 1e-9:
        raise InputError(
            f"Pulse {name!r}: duration {duration_s} s must be at least 32 whole samples of {dwell_s} s. "
            "Change the duration or the dwell."
        )
    width = _transition_width(pass_ripple, stop_ripple) / time_bandwidth
    pass_edge = (1 - width) * time_bandwidth / (2 * n)
    stop_edge = (1 + width) * time_bandwidth / (2 * n)
    if pass_edge <= 0:
        raise InputError(
            f"Pulse {name!r}: a time-bandwidth product of {time_bandwidth} leaves no passband at these ripples. "
            "Raise time_bandwidth to 3 or more."
        )
    beta = _low_pass(n, pass_edge, stop_edge, pass_ripple / stop_ripple) * math.sin(flip_angle_rad / 2)
    # |beta| must stay below 1 between grid points too: else alpha is no polynomial and the pulse loses its symmetry.
    beta *= min(1.0, 0.9999 / float(np.abs(np.fft.fft(beta, 512 * n)).max()))
    # To a millionth of a hertz: BLAS rounds differently with the number of threads, and a design carries that on.
    b1_hz = np.round(_inverse_slr(_minimum_phase_partner(beta), beta) / (2 * math.pi * dwell_s), 6)
    return RFPulse(b1_hz=torch.as_tensor(b1_hz, dtype=torch.complex128), dwell_s=dwell_s, name=name)


def _low_pass(n: int, pass_edge: float, stop_edge: float, stop_weight: float) -> np.ndarray:
    """Return n symmetric taps of a least-squares low-pass filter (edges in cycles per sample)."""
    n_odd = n + 1 - n % 2
    odd: np.ndarray = firls(n_odd, [0, 2 * pass_edge, 2 * stop_edge, 1], [1, 1, 0, 0], weight=[1, stop_weight])
    if n == n_odd:
        return odd
    # SciPy designs odd numbers of taps: n + 1 of them, moved by half a sample and cut by one, are n symmetric ones.
    shift = np.exp(1j * np.pi * np.fft.fftfreq(n_odd))
    moved = np.fft.ifft(np.fft.fft(odd) * shift).real[:n]
    symmetric: np.ndarray = 0.5 * (moved + moved[::-1])
    return symmetric


def _transition_width(pass_ripple: float, stop_ripple: float) -> float:
    """Return the D-infinity product of an equiripple linear-phase filter (Pauly 1991, eq. 20)."""
    log_pass, log_stop = math.log10(pass_ripple), math.log10(stop_ripple)
    slope = 5.309e-3 * log_pass**2 + 7.114e-2 * log_pass - 4.761e-1
    return slope * log_stop - 2.66e-3 * log_pass**2 - 5.941e-1 * log_pass - 4.278e-1


def _minimum_phase_partner(beta: np.ndarray) -> np.ndarray:
    """Return alpha with |alpha|^2 + |beta|^2 = 1 on the unit circle and minimum phase (by the complex cepstrum)."""
    n = len(beta)
    size = 2 ** math.ceil(math.log2(256 * n))
    magnitude = np.sqrt(np.maximum(1 - np.abs(np.fft.fft(beta, size)) ** 2, 1e-14))
    cepstrum = np.fft.ifft(np.log(magnitude))
    fold = np.zeros(size)
    fold[0] = fold[size // 2] = 1
    fold[1 : size // 2] = 2
    alpha: np.ndarray = np.fft.ifft(np.exp(np.fft.fft(cepstrum * fold)))[:n].real
    return alpha


def _inverse_slr(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Return the rotation angle (rad, complex: phase is the axis) of each hard pulse in order of time."""
    a, b = alpha.astype(np.complex128), beta.astype(np.complex128)
    angles = np.zeros(len(a), dtype=np.complex128)
    for j in range(len(a) - 1, -1, -1):
        ratio = b[0] / a[0]
        cosine = 1 / math.sqrt(1 + abs(ratio) ** 2)
        sine = cosine * ratio
        angles[j] = 2 * math.atan(abs(ratio)) * np.exp(1j * np.angle(ratio))
        a, b = cosine * a + np.conj(sine) * b, -sine * a + cosine * b
        a, b = a[:-1] if j else a, b[1:] if j else b
    return angles[::-1]


def bb1_pulse(*, flip_angle_rad: float, duration_s: float, dwell_s: float, name: str) -> RFPulse:
    """Return the composite rotation BB1 about +x in its form symmetric in time, of one amplitude.

    theta/2 at phase 0, 180 at phi, 360 at 3 phi, 180 at phi, theta/2 at 0, phi = arccos(-theta / 4 pi): errors of B1
    count only from the sixth order of the fidelity on. Source: Wimperis, J Magn Reson A 109:221 (1994),
    doi:10.1006/jmra.1994.1159; symmetric: Cummins, Llewellyn, Jones, Phys Rev A 67:042308 (2003).

    Args:
        flip_angle_rad: theta, rad, at most 4 pi.
        duration_s: Duration, s; the amplitude is (theta + 4 pi) / (2 pi duration).
        dwell_s: Sample duration, s; a sample that holds a change of phase has the mean of both.
        name: Name for diagrams.

    Returns:
        Complex waveform of n samples, Hz, symmetric in time.

    Raises:
        InputError: If the duration is not a whole number of samples, at least 32, or the angle out of range.
    """
    n = whole_samples(duration_s, dwell_s, name, least=32)
    if not 0 < flip_angle_rad <= 4 * math.pi:
        raise InputError(
            f"Pulse {name!r}: BB1 corrects rotations above 0 and up to 4 pi, but flip_angle_rad is {flip_angle_rad}."
        )
    phi = math.acos(-flip_angle_rad / (4 * math.pi))
    parts = [
        (flip_angle_rad / 2, 0.0),
        (math.pi, phi),
        (2 * math.pi, 3 * phi),
        (math.pi, phi),
        (flip_angle_rad / 2, 0.0),
    ]
    whole = flip_angle_rad + 4 * math.pi
    ends = np.concatenate(([0.0], np.cumsum([angle for angle, _ in parts]))) / whole * n
    turned = np.concatenate(([0.0], np.cumsum([angle * np.exp(1j * phase) for angle, phase in parts])))
    # The integral of the pulse at the edges of samples, and its differences: means over the samples.
    edges = np.arange(n + 1)
    swept = np.interp(edges, ends, turned.real) + 1j * np.interp(edges, ends, turned.imag)
    return RFPulse(b1_hz=torch.as_tensor(np.diff(swept) / (2 * math.pi * dwell_s)), dwell_s=dwell_s, name=name)


def gaussian_pulse(
    *, flip_angle_rad: float, duration_s: float, dwell_s: float, name: str, cutoff: float = 0.01
) -> RFPulse:
    """Return a Gaussian pulse truncated where it falls to `cutoff` of its peak; flip 2 pi times its integral.

    Raises:
        InputError: If the duration is not a whole number of samples.
    """
    n = whole_samples(duration_s, dwell_s, name)
    t = (np.arange(n) + 0.5) / n * 2 - 1
    shape = np.exp(math.log(cutoff) * t**2)
    b1_hz = shape / shape.sum() / dwell_s * flip_angle_rad / (2 * math.pi)
    return RFPulse(b1_hz=torch.as_tensor(b1_hz, dtype=torch.complex128), dwell_s=dwell_s, name=name)


def whole_samples(duration_s: float, dwell_s: float, name: str, least: int = 1) -> int:
    """Return the number of samples of a pulse, at least `least`.

    Raises:
        InputError: If the duration is not a whole number of them, or too short.
    """
    n = round(duration_s / dwell_s)
    if n < least or abs(n * dwell_s - duration_s) > 1e-9:
        raise InputError(
            f"Pulse {name!r}: duration {duration_s} s must be a whole number of samples of {dwell_s} s, at least "
            f"{least}. Change the duration or the dwell."
        )
    return n
