import math

import bloch
import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.pulse.adiabatic import bir4, goia_wurst, hyperbolic_secant

GOIA = {"duration_s": 4.5e-3, "bandwidth_hz": 20e3, "b1_max_hz": 1000.0, "dwell_s": 1e-5, "name": "goia"}
HS1 = {"duration_s": 8e-3, "bandwidth_hz": 5e3, "b1_max_hz": 1300.0, "dwell_s": 1e-5, "name": "hs1"}
HS4 = {"duration_s": 8e-3, "bandwidth_hz": 10e3, "b1_max_hz": 1000.0, "dwell_s": 1e-5, "order": 4, "name": "hs4"}


def inversion(pulse, gradient, x_hz, scale=1.0, offset_hz=0.0):
    """(1 - Mz) / 2 by the Bloch equations; x is position times the largest gradient, in Hz."""
    gradients = np.stack([gradient, 0 * gradient, 0 * gradient], 1)
    positions = np.stack([x_hz, 0 * x_hz, 0 * x_hz], 1)
    b1_hz = scale * pulse.b1_hz.numpy()
    m = bloch.play(bloch.along_z(len(x_hz)), b1_hz, gradients, pulse.dwell_s, positions, np.full(len(x_hz), offset_hz))
    return (1 - m[:, 2]) / 2


def frequency_hz(pulse):
    """Momentary frequency at the middle of every two samples."""
    b1_hz = pulse.b1_hz.numpy()
    return np.angle(b1_hz[1:] * b1_hz[:-1].conj()) / (2 * math.pi * pulse.dwell_s)


def goia(**changes):
    return goia_wurst(**(GOIA | changes))


def secant(settings, **changes):
    pulse = hyperbolic_secant(**(settings | changes))
    return pulse, np.ones(pulse.b1_hz.shape[0])


@pytest.mark.parametrize("scale", [1.0, 1.3])
@pytest.mark.parametrize("made", [goia(), secant(HS1), secant(HS4)], ids=["goia", "hs1", "hs4"])
def test_inverts_the_middle_of_its_band_and_nothing_outside(made, scale):
    pulse, gradient = made
    bandwidth_hz = {"goia": 20e3, "hs1": 5e3, "hs4": 10e3}[pulse.name]
    x_hz = np.linspace(-0.65, 0.65, 131) * bandwidth_hz
    found = inversion(pulse, gradient, x_hz, scale)
    assert found[np.abs(x_hz) <= 0.4 * bandwidth_hz].min() >= 0.99
    assert found[np.abs(x_hz) >= 0.6 * bandwidth_hz].max() < 2e-3
    middle, width = bloch.half_maximum(x_hz, found)
    assert middle == pytest.approx(0, abs=1e-3 * bandwidth_hz)
    assert width == pytest.approx(bandwidth_hz, rel=0.01)
    # From 90 % to 10 % within a tenth of the band on either side.
    edge = x_hz[found > 0.1].max() - x_hz[found > 0.9].max()
    assert edge < 0.1 * bandwidth_hz


BIR4 = {"duration_s": 10e-3, "sweep_hz": 8e3, "b1_max_hz": 760.0, "dwell_s": 1e-5, "name": "bir4"}


@pytest.mark.parametrize("flip_deg", [45, 90, 180])
def test_bir4_rotates_about_x_by_the_same_angle_over_a_range_of_b1_and_offset(flip_deg):
    """Two vectors fix a rotation: the images of +z and of +x, by the Bloch equations."""
    b1_hz = bir4(flip_angle_rad=math.radians(flip_deg), **BIR4).b1_hz.numpy()
    sine, cosine = math.sin(math.radians(flip_deg)), math.cos(math.radians(flip_deg))
    still = np.zeros((len(b1_hz), 3))
    for scale in (0.8, 1.0, 1.2):
        start = np.array([[0.0, 0, 1], [1, 0, 0]])
        m = bloch.play(start, scale * b1_hz, still, BIR4["dwell_s"], np.zeros((2, 3)), np.zeros(2))
        assert m[0] @ [0, -sine, cosine] > 0.99
        assert m[1, 0] > 0.98
    # The same without its inner phases is no rotation at all: what goes out comes back.
    plain = np.concatenate([b1_hz[:250], b1_hz[750:], b1_hz[:250], b1_hz[750:]])
    back = bloch.play(bloch.along_z(1), plain, still, BIR4["dwell_s"], np.zeros((1, 3)), np.zeros(1))
    assert back[0, 2] > 0.98


def test_bir4_is_symmetric_and_strongest_at_its_ends_and_in_its_middle():
    b1_hz = bir4(flip_angle_rad=math.pi / 2, **BIR4).b1_hz.numpy()
    np.testing.assert_allclose(b1_hz, b1_hz[::-1], atol=1e-9 * 760)
    assert abs(b1_hz[[0, 499, 999]]) == pytest.approx([760.0] * 3, rel=1e-3)
    assert abs(b1_hz[[249, 250, 749, 750]]).max() < 0.1 * 760
    inner, outer = np.angle(b1_hz[499] / b1_hz[0]), math.pi + math.pi / 4
    assert math.remainder(inner - outer, 2 * math.pi) == pytest.approx(0, abs=1e-3)
    # The first quarter: the frequency goes as the tangent, from the carrier to the end of the sweep.
    swept = np.abs(frequency_hz(bir4(flip_angle_rad=1.0, **BIR4))[:249])
    x = np.arange(1, 250) / 250
    np.testing.assert_allclose(swept, 8e3 * np.tan(math.atan(20) * x) / 20, rtol=0.02, atol=1)


def test_without_its_gradient_goia_is_no_slice_of_its_bandwidth():
    pulse, gradient = goia()
    x_hz = np.linspace(-0.65, 0.65, 131) * 20e3
    assert inversion(pulse, np.ones_like(gradient), x_hz)[np.abs(x_hz) <= 8e3].min() < 0.9


def test_twice_the_amplitude_changes_little_where_half_of_it_changes_much():
    pulse, gradient = goia()
    x_hz = np.linspace(-8e3, 8e3, 41)
    least = [inversion(pulse, gradient, x_hz, scale).min() for scale in (0.25, 0.5, 1.0, 2.0)]
    assert least[0] < 0.6
    assert least[0] < least[1] < least[2] < least[3]


def test_an_offset_moves_a_goia_slice_by_less_than_the_smallest_gradient_would():
    pulse, gradient = goia()
    x_hz = np.linspace(-13e3, 13e3, 521)
    middle, _ = bloch.half_maximum(x_hz, inversion(pulse, gradient, x_hz, offset_hz=500.0))
    assert -500.0 / gradient.min() < middle < -500.0


@pytest.mark.parametrize("made", [goia(), secant(HS1), secant(HS4)], ids=["goia", "hs1", "hs4"])
def test_symmetric_small_at_the_ends_and_of_the_amplitude_asked_for(made):
    pulse, gradient = made
    b1_hz = pulse.b1_hz.numpy()
    np.testing.assert_array_equal(b1_hz, b1_hz[::-1])
    np.testing.assert_array_equal(gradient, gradient[::-1])
    peak_hz = {"goia": 1000.0, "hs1": 1300.0, "hs4": 1000.0}[pulse.name]
    assert pulse.peak_hz == pytest.approx(peak_hz, rel=1e-4)
    assert abs(b1_hz[0]) < {"goia": 1e-4, "hs1": 0.0101, "hs4": 0.011}[pulse.name] * peak_hz
    assert abs(np.angle(b1_hz[len(b1_hz) // 2])) < 1e-3
    f_hz = frequency_hz(pulse)
    assert f_hz[0] < 0 < f_hz[-1]
    np.testing.assert_allclose(f_hz, -f_hz[::-1], atol=1e-6)


def test_odd_and_even_numbers_of_samples_are_samples_of_the_same_pulse():
    even, g_even = goia(duration_s=4.5e-3, dwell_s=4.5e-3 / 450)
    odd, g_odd = goia(duration_s=4.5e-3, dwell_s=4.5e-3 / 451)
    t_even, t_odd = (((np.arange(n) + 0.5) / n) for n in (450, 451))
    for x, y in (
        (g_even, g_odd),
        *((part(even.b1_hz.numpy()), part(odd.b1_hz.numpy())) for part in (np.real, np.imag)),
    ):
        np.testing.assert_allclose(np.interp(t_odd[5:-5], t_even, x), y[5:-5], atol=0.01 * np.abs(x).max())


def test_goia_amplitude_and_gradient_are_their_formulas():
    pulse, gradient = goia(order=16, gradient_order=4, gradient_factor=0.85)
    tau = 2 * (np.arange(450) + 0.5) / 450 - 1
    np.testing.assert_allclose(np.abs(pulse.b1_hz.numpy()), 1000 * (1 - np.sin(np.pi * tau / 2) ** 16), atol=1e-9)
    np.testing.assert_allclose(gradient, 0.15 + 0.85 * np.sin(np.pi * tau / 2) ** 4, atol=1e-12)


@pytest.mark.parametrize("gradient_factor", [0.0, 0.5, 0.9])
def test_adiabaticity_is_the_same_for_every_position(gradient_factor):
    """K = 2 pi b1^2 / (g |d(F/g)/dt|), the derivative taken from the samples: equal wherever the RF plays."""
    pulse, gradient = goia(gradient_factor=gradient_factor, dwell_s=1.25e-6)
    middle = 0.5 * (gradient[1:] + gradient[:-1])
    x_hz = frequency_hz(pulse) / middle
    rate = np.diff(x_hz) / pulse.dwell_s
    k = 2 * math.pi * np.abs(pulse.b1_hz.numpy()[1:-1]) ** 2 / (gradient[1:-1] * rate)
    playing = np.abs(pulse.b1_hz.numpy()[1:-1]) > 50.0
    np.testing.assert_allclose(k[playing], np.median(k), rtol=2e-3)
    # The sweep, seen by the positions, is the whole bandwidth.
    assert x_hz[-1] - x_hz[0] == pytest.approx(20e3, rel=1e-4)


def test_the_phase_of_a_hyperbolic_secant_is_in_closed_form():
    """F = A tanh(beta tau), A = (bandwidth / 2) / tanh(beta): the phase is 2 pi A (T / 2) ln cosh(beta tau) / beta."""
    pulse, _ = secant(HS1, truncation=0.02)
    tau, beta = 2 * (np.arange(800) + 0.5) / 800 - 1, math.acosh(50)
    phase = 2 * math.pi * 2500 / math.tanh(beta) * 4e-3 * np.log(np.cosh(beta * tau)) / beta
    np.testing.assert_allclose(pulse.b1_hz.numpy(), 1300 / np.cosh(beta * tau) * np.exp(1j * phase), atol=0.01)


def test_higher_orders_are_flatter_for_the_same_band():
    rms = [secant(HS4, order=n)[0].rms_hz for n in (1, 4, 8)]
    assert rms[0] < rms[1] < rms[2] < 1000


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (goia, {"gradient_factor": 1.0}, "gradient_factor must be at least 0 and below 1"),
        (goia, {"gradient_factor": -0.1}, "gradient_factor"),
        (goia, {"order": 0}, "order of a GOIA-WURST pulse"),
        (goia, {"gradient_order": 1.5}, "gradient_order"),
        (goia, {"duration_s": 4.503e-3}, "whole number of samples"),
        (goia, {"duration_s": 1e-4}, "at least 32"),
        (goia, {"bandwidth_hz": 0.0}, "bandwidth_hz must be positive"),
        (goia, {"b1_max_hz": math.nan}, "b1_max_hz must be positive and finite"),
        (goia, {"dwell_s": 0.0}, "dwell_s must be positive"),
        (goia, {"bandwidth_hz": 60e3}, "dwell of at most 8.33 us"),
        (secant, {"order": 0}, "order n of an HSn pulse"),
        (secant, {"truncation": 1.0}, "truncation must lie between 0 and 1"),
        (secant, {"duration_s": -1.0}, "duration_s must be positive"),
    ],
)
def test_impossible_pulses_are_refused(make, changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes) if make is goia else make(HS1, **changes)
