import math
from dataclasses import replace

import bloch_pulse as bloch
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Z, selective

from seqgen.errors import InputError
from seqgen.pulse.shapes import slr_pulse
from seqgen.pulse.waveform import RFPulse, in_scanner_frame
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.slices import (
    pulse_over_positions,
    response,
    slice_of,
    waveform_in_carrier_frame,
)
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import ideal_pulse

GRADIENT_HZ_PER_M = 3e4


def slr(flip_deg, duration_s=5e-3, dwell_s=5e-5, time_bandwidth=5.0, carrier_hz=0.0):
    pulse = slr_pulse(
        flip_angle_rad=math.radians(flip_deg),
        time_bandwidth=time_bandwidth,
        duration_s=duration_s,
        dwell_s=dwell_s,
        name="slr",
    )
    return RFPulse(b1_hz=pulse.b1_hz, dwell_s=dwell_s, carrier_offset_hz=carrier_hz, name="slr")


def interval_of(pulse, use, *, raster_s=5e-6, hint=True, axis=Z, gradient=GRADIENT_HZ_PER_M):
    return selective(
        in_scanner_frame(pulse, raster_s),
        raster_s,
        axis,
        gradient,
        use,
        carrier_hz=pulse.carrier_offset_hz if hint else 0.0,
    )


def half_maximum(x, y):
    """Outermost half-maximum crossings on a fine grid."""
    inside = np.nonzero(y >= y.max() / 2)[0]
    edges = []
    for i, o in ((inside[0], inside[0] - 1), (inside[-1], inside[-1] + 1)):
        edges.append(x[o] + (x[i] - x[o]) * (y.max() / 2 - y[o]) / (y[i] - y[o]))
    return edges


def test_response_is_the_inversion_of_the_bloch_equations():
    pulse = slr(180)
    interval = interval_of(pulse, "refocusing", raster_s=5e-5)
    offsets = [-1200.0, -510.0, -300.0, 0.0, 220.0, 480.0, 900.0]
    found = response(interval, torch.tensor(offsets, dtype=torch.float64)).numpy()
    b1 = pulse.b1_hz.numpy()
    twin = (1 - bloch.rotation(b1, 5e-5, offsets)[:, 2, 2]) / 2
    np.testing.assert_allclose(found, twin, rtol=0, atol=1e-12)
    for k in (1, 4):
        assert (1 - bloch.integrate(b1, 5e-5, offsets[k])[2]) / 2 == pytest.approx(found[k], abs=1e-8)


@pytest.mark.parametrize(("use", "flip_deg"), [("refocusing", 180), ("excitation", 90)])
@pytest.mark.parametrize("carrier_hz", [0.0, 740.0, -1300.0])
def test_thickness_and_centre(use, flip_deg, carrier_hz):
    pulse = slr(flip_deg, carrier_hz=carrier_hz)
    found = slice_of(interval_of(pulse, use))
    f = np.arange(-900, 900, 2.0)
    r = bloch.rotation(pulse.b1_hz.numpy(), pulse.dwell_s, f)
    inverted = (1 - r[:, 2, 2]) / 2
    profile = inverted if use == "refocusing" else np.hypot(r[:, 0, 2], r[:, 1, 2])
    low, high = half_maximum(f, profile)
    assert found.thickness_m * GRADIENT_HZ_PER_M == pytest.approx(high - low, abs=0.5)
    assert found.centre_m * GRADIENT_HZ_PER_M == pytest.approx(carrier_hz + (low + high) / 2, abs=0.5)
    assert found.centre_m * GRADIENT_HZ_PER_M == pytest.approx(carrier_hz, abs=0.5)
    touched = f[inverted > 1e-3] + carrier_hz
    spacing = 120 / 5e-3 / 2000
    assert found.low_hz == pytest.approx(touched[0], abs=spacing + 2)
    assert found.high_hz == pytest.approx(touched[-1], abs=spacing + 2)
    assert found.direction.tolist() == [0, 0, 1]
    assert found.gradient_hz_per_m == pytest.approx(GRADIENT_HZ_PER_M)


def test_a_negative_gradient_mirrors_the_slice():
    found = slice_of(interval_of(slr(180, carrier_hz=600.0), "refocusing", axis=X, gradient=-2e4))
    assert found.direction.tolist() == [-1, 0, 0]
    assert found.centre_m * 2e4 == pytest.approx(600.0, abs=0.5)


def test_without_gradient_there_is_no_slice():
    assert slice_of(ideal_pulse(math.pi, 0.0, "refocusing")) is None


def test_a_gradient_that_changes_under_rf_is_refused():
    interval = interval_of(slr(180), "refocusing")
    interval.gradient_hz_per_m[3, 0] += 50.0
    with pytest.raises(InputError, match="gradient changes its direction during RF"):
        slice_of(interval)


def test_a_pulse_without_amplitude_selects_nothing():
    silent = RFPulse(b1_hz=torch.zeros(100, dtype=torch.complex128), dwell_s=5e-5)
    with pytest.raises(InputError, match="amplitude 0"):
        slice_of(interval_of(silent, "refocusing"))


def test_equal_samples_merge_into_the_pulse_that_was_held():
    pulse = slr(90, carrier_hz=370.0)
    b1, dwell_s = waveform_in_carrier_frame(interval_of(pulse, "excitation"))
    assert dwell_s == pytest.approx(pulse.dwell_s)
    # The carrier is at zero phase in the middle of the pulse, the merged waveform counts from its start.
    expected = pulse.b1_hz * np.exp(-2j * np.pi * 370.0 * 2.5e-3)
    torch.testing.assert_close(b1, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("samples", "run"),
    [
        ([1, 1, 2, 2, 1, 1], 2),
        ([1, 1, 1, 2, 2, 2], 3),
        ([1, 1, 2, 2, 2], 1),
        ([1, 2, 2, 2], 1),
        ([5, 5, 5, 5], 4),
        ([0, 0, 0, 0], 4),
    ],
)
def test_merged_runs_are_the_longest_common_ones(samples, run):
    b1 = torch.tensor(samples, dtype=torch.complex128)
    merged, dwell_s = waveform_in_carrier_frame(selective(b1, 1e-5, Z, 1e4, "refocusing"))
    assert dwell_s == pytest.approx(run * 1e-5)
    assert torch.equal(merged.repeat_interleave(run), b1)


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def propagators(interval, model, positions_m, j_step_s=1e-5):
    u, weight = pulse_over_positions(
        model, interval, ensemble(), positions_per_slice=8, j_step_s=j_step_s, positions_m=positions_m
    )
    assert weight == 1 / len(positions_m)
    return u[0]


def difference(u, v):
    """u - v after taking out the phase of each propagator, which no density matrix knows."""
    overlap = torch.einsum("pij,pij->p", u.conj(), v)
    return u * (overlap / overlap.abs())[:, None, None] - v


def test_carrier_frame_is_a_short_cut_and_nothing_else():
    """The plain route holds the phase of the carrier over each raster sample: it converges with the raster's square."""
    model, positions = model_of([-40.0, 55.0], {(0, 1): 8.0}), torch.tensor([-0.02, 0.0, 0.031]).double()
    pulse = slr(180, duration_s=1e-3, dwell_s=2.5e-5, carrier_hz=900.0)

    def error(raster_s):
        plain = propagators(interval_of(pulse, "refocusing", raster_s=raster_s, hint=False), model, positions)
        short = propagators(interval_of(pulse, "refocusing", raster_s=raster_s), model, positions)
        return difference(short, plain)

    coarse, fine = error(1e-6), error(5e-7)
    assert float(coarse.abs().max()) < 2e-5
    assert float(fine.abs().max()) == pytest.approx(float(coarse.abs().max()) / 4, rel=0.01)
    # Richardson: nothing is left at a raster of zero.
    assert float((4 * fine - coarse).abs().max()) / 3 < 5e-9


def test_carrier_of_zero_is_exact():
    model, positions = model_of([-40.0, 55.0], {(0, 1): 8.0}), torch.tensor([-0.02, 0.0, 0.031]).double()
    held = propagators(interval_of(slr(180), "refocusing"), model, positions)
    coarse = propagators(interval_of(slr(180), "refocusing", raster_s=5e-5), model, positions)
    torch.testing.assert_close(held, coarse, rtol=0, atol=1e-12)


def test_positions_cover_all_spins_and_share_the_thickness():
    interval = interval_of(slr(180, carrier_hz=500.0), "refocusing")
    sliced = slice_of(interval)
    members = ensemble((-30.0, 30.0))
    u, weight = pulse_over_positions(
        model_of([-80.0, 120.0], {}), interval, members, positions_per_slice=20, j_step_s=1e-4
    )
    reach_m = (sliced.high_hz - sliced.low_hz + 200.0 + 60.0) / GRADIENT_HZ_PER_M
    assert weight * u.shape[1] == pytest.approx(reach_m / sliced.thickness_m)
    assert 0.9 / 20 < weight <= 1 / 20
    assert u.shape[0] == 2


def rectangle(flip_deg, use, n=100, duration_s=1e-3):
    b1_hz = torch.full((n,), math.radians(flip_deg) / (2 * math.pi * duration_s), dtype=torch.complex128)
    return selective(b1_hz, duration_s / n, X, 1e5, use)


@pytest.mark.parametrize(("flip_deg", "use"), [(90, "excitation"), (180, "refocusing")])
def test_a_rectangle_selects_what_it_touches(flip_deg, use):
    """|b|^2 = (b1/w)^2 sin^2(pi w T), w^2 = b1^2 + f^2: half maxima and last crossing of 1e-3 found on a fine grid."""
    found = slice_of(rectangle(flip_deg, use))
    b1_hz, f_hz = flip_deg / 360 / 1e-3, np.linspace(0, 20000, 2_000_001)
    w = np.hypot(b1_hz, f_hz)
    b2 = (b1_hz / w * np.sin(np.pi * w * 1e-3)) ** 2
    profile = np.sqrt(4 * b2 * (1 - b2).clip(min=0)) if use == "excitation" else b2
    assert found.thickness_m * 1e5 == pytest.approx(2 * f_hz[profile >= profile.max() / 2].max(), rel=2e-3)
    assert found.high_hz == pytest.approx(f_hz[b2 > 1e-3].max(), abs=100)
    assert found.low_hz == pytest.approx(-found.high_hz)


def test_a_slice_without_edges_is_refused():
    g = torch.Generator().manual_seed(0)
    noise = 4e3 * torch.randn(40, generator=g, dtype=torch.complex128)
    with pytest.raises(InputError, match=r"no edges|no slice"):
        slice_of(selective(noise, 2e-5, X, 1e5, "refocusing"))


def test_gradients_reach_every_sample_of_a_constant_pulse():
    b1_hz = torch.full((20,), 100.0, dtype=torch.complex128, requires_grad=True)
    pulse = selective(b1_hz, 5e-5, X, 0.0, "preparation")
    u, _ = pulse_over_positions(model_of([30.0], {}), pulse, ensemble(), positions_per_slice=4, j_step_s=1e-4)
    (gradient,) = torch.autograd.grad(u.real.sum(), b1_hz)
    assert int((gradient.abs() > 1e-9).sum()) == 20


def test_too_many_positions_for_memory_are_refused():
    pulse = interval_of(slr(180), "refocusing")
    model = model_of([float(k) for k in range(8)], {(k, k + 1): 7.0 for k in range(7)})
    positions = torch.linspace(-0.1, 0.1, 10_000_000, dtype=torch.float64)
    with pytest.raises(InputError, match=r"10000000 propagators of a pulse need about"):
        pulse_over_positions(model, pulse, ensemble(), positions_per_slice=4, j_step_s=1e-4, positions_m=positions)


def test_phase_of_a_slice_gradient_counts_from_the_pulse_centre():
    """A pulse whose centre is stated a quarter in: spins at x turn by g x (T - 2 centre) more than about the middle."""
    pulse, x_m = interval_of(slr(180), "refocusing"), 0.004
    early = replace(pulse, centre_s=0.25 * pulse.duration_s)
    model, positions = model_of([0.0], {}), torch.tensor([x_m], dtype=torch.float64)
    a, b = (propagators(p, model, positions)[0] for p in (pulse, early))
    turns = float(pulse.gradient_hz_per_m[0].sum()) * x_m * 0.25 * pulse.duration_s
    # Half of it before, half after: what is flipped sees twice the difference.
    assert complex(b[0, 1] / a[0, 1]) == pytest.approx(complex(np.exp(2j * np.pi * turns)), abs=1e-9)
