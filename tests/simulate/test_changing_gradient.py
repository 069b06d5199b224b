"""Pulses under a gradient that changes while they play, against Bloch and density-matrix twins sample by sample."""

import math
from dataclasses import replace

import bloch
import exact_spins as exact
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import Y, lobe, readout

from seqgen.errors import InputError
from seqgen.pulse.adiabatic import goia_wurst
from seqgen.simulate.acquire import lines
from seqgen.simulate.dephasing import pathway_signals
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.propagate import pulse_propagator
from seqgen.simulate.relaxation import SpinRelaxation
from seqgen.simulate.rotation import moments
from seqgen.simulate.slices import (
    SliceAxis,
    pulse_over_positions,
    relaxing_pulse,
    response_over_positions,
    slice_axis,
    slice_of,
    waveform_in_carrier_frame,
)
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Interval, Timeline, delay, ideal_pulse

RASTER_S = 2e-6
THICKNESS_M = 0.02
BANDWIDTH_HZ = 20e3
GLU_HZ = (-111.7, -322.0, -311.7, -284.9, -283.2)
GLU_J_HZ = {
    (0, 1): 7.331,
    (0, 2): 4.651,
    (1, 2): -14.849,
    (1, 3): 8.406,
    (1, 4): 6.875,
    (2, 3): 6.413,
    (2, 4): 8.478,
    (3, 4): -15.915,
}


def goia(*, duration_s=4.5e-3, position_m=0.0, carrier_hz=0.0, axis=0, sign=1.0, b1_max_hz=900.0):
    """GOIA-W(16,4) for a slice at a position, gradients in straight lines between samples 10 us apart."""
    pulse, shape = goia_wurst(
        duration_s=duration_s, bandwidth_hz=BANDWIDTH_HZ, b1_max_hz=b1_max_hz, dwell_s=1e-5, name="goia"
    )
    n = round(duration_s / RASTER_S)
    t_s = (np.arange(n) + 0.5) * RASTER_S
    g = sign * BANDWIDTH_HZ / THICKNESS_M * np.interp(t_s, (np.arange(len(shape)) + 0.5) * 1e-5, shape)
    turns = np.cumsum(g) * RASTER_S - 0.5 * g * RASTER_S
    turns = position_m * (turns - turns[::-1]) / 2 + carrier_hz * (t_s - duration_s / 2)
    gradient = np.zeros((n, 3))
    gradient[:, axis] = g
    return Interval(
        dwell_s=RASTER_S,
        b1_hz=torch.from_numpy(np.repeat(pulse.b1_hz.numpy(), 5) * np.exp(2j * np.pi * turns)),
        gradient_hz_per_m=torch.from_numpy(gradient),
        use="refocusing",
        centre_s=duration_s / 2,
        carrier_hz=carrier_hz,
        name="goia",
    )


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def metres(*values):
    return torch.tensor(values, dtype=torch.float64)


def inversion_twin(interval, position_m, offset_hz):
    """(1 - Mz) / 2 by the Bloch equations."""
    n = len(position_m)
    along = interval.gradient_hz_per_m.numpy()
    axis = int(np.abs(along).sum(0).argmax())
    positions = np.zeros((n, 3))
    positions[:, axis] = position_m
    m = bloch.play(bloch.along_z(n), interval.b1_hz.numpy(), along, interval.dwell_s, positions, np.full(n, offset_hz))
    return (1 - m[:, 2]) / 2


def exact_propagator(interval, offsets_hz, j_hz, position_m):
    """One matrix exponential per sample, carrier frame as played, the gradient's phase about the centre taken back."""
    n = len(offsets_hz)
    h, fx, fy, fz = exact.free_hamiltonian(offsets_hz, j_hz), *(exact.total(n, a) for a in "xyz")
    g = interval.gradient_hz_per_m.numpy()[:, 0] * position_m
    t_s = (np.arange(interval.n_samples) + 0.5) * interval.dwell_s
    b1 = interval.b1_hz.numpy() * np.exp(-2j * np.pi * interval.carrier_hz * t_s)
    steps = (h - 2 * np.pi * interval.carrier_hz * fz)[None] + 2 * np.pi * (
        b1.real[:, None, None] * fx + b1.imag[:, None, None] * fy + g[:, None, None] * fz
    )
    energy, vectors = np.linalg.eigh(steps)
    steps = (vectors * np.exp(-1j * energy * interval.dwell_s)[:, None]) @ vectors.conj().transpose(0, 2, 1)
    u = np.eye(2**n)
    for step in steps:
        u = step @ u
    m = np.diag(fz)
    centre = round(interval.centre_s / interval.dwell_s)
    before, after = g[:centre].sum() * interval.dwell_s, g[centre:].sum() * interval.dwell_s
    after -= interval.carrier_hz * interval.duration_s
    return np.exp(2j * np.pi * after * m)[:, None] * u * np.exp(2j * np.pi * before * m)


def off(u, wanted):
    """Largest difference apart from the phase of each propagator, which no density matrix knows."""
    overlap = np.einsum("pij,pij->p", wanted.conj(), u)
    return np.abs(u - wanted * (overlap / np.abs(overlap))[:, None, None]).max()


def propagators(interval, model, positions_m, j_step_s=2e-4):
    """Propagators in the product basis."""
    u, _ = pulse_over_positions(
        model, interval, ensemble(), positions_per_slice=8, j_step_s=j_step_s, positions_m=positions_m
    )
    vectors = model.eigenvectors.numpy()
    return vectors @ u[0].numpy() @ vectors.T


@pytest.mark.parametrize(
    ("position_m", "carrier_hz", "sign", "offset_hz"),
    [(0.0, 0.0, 1.0, 0.0), (0.03, -300.0, 1.0, -180.0), (-0.02, 0.0, -1.0, 150.0)],
)
def test_profiles_are_those_of_the_bloch_equations(position_m, carrier_hz, sign, offset_hz):
    interval = goia(position_m=position_m, carrier_hz=carrier_hz, sign=sign)
    x_m = position_m + np.linspace(-0.014, 0.014, 57)
    # Along the gradient's own direction: a negative one runs backwards.
    found = response_over_positions(interval, torch.from_numpy(sign * x_m), offset_hz)
    # Windows of a quarter turn, and RF held over samples in the carrier's frame.
    np.testing.assert_allclose(found.numpy(), inversion_twin(interval, x_m, offset_hz), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("position_m", "carrier_hz", "sign"), [(0.0, 0.0, 1.0), (0.03, -300.0, 1.0), (0.02, 0.0, -1.0)]
)
@pytest.mark.parametrize("shift_hz", [0.0, 200.0])
def test_the_slice_is_where_the_bloch_equations_have_it(position_m, carrier_hz, sign, shift_hz):
    interval = goia(position_m=position_m, carrier_hz=carrier_hz, sign=sign)
    found = slice_of(interval, offset_hz=carrier_hz + shift_hz)
    assert found.direction.tolist() == [sign, 0, 0]
    x_m = position_m + np.linspace(-0.014, 0.014, 281)
    middle, width = bloch.half_maximum(x_m, inversion_twin(interval, x_m, carrier_hz + shift_hz))
    assert sign * found.centre_m == pytest.approx(middle, abs=3e-5)
    assert found.thickness_m == pytest.approx(width, abs=6e-5)
    assert sign * found.centre_m == pytest.approx(position_m, abs=1e-5 if shift_hz == 0 else 5e-4)
    assert found.thickness_m == pytest.approx(THICKNESS_M, rel=0.01)


@pytest.mark.parametrize("carrier_hz", [0.0, -300.0])
def test_positions_cover_what_spins_of_every_offset_see(carrier_hz):
    interval = goia(position_m=0.01, carrier_hz=carrier_hz)
    offsets_hz = [carrier_hz - 350.0, carrier_hz + 420.0]
    axis = slice_axis(model_of(offsets_hz, {}), [interval], ensemble(), positions_per_slice=24)
    x_m = 0.01 + np.linspace(-0.026, 0.026, 261)
    touched = [x_m[inversion_twin(interval, x_m, offset_hz) > 1e-3] for offset_hz in offsets_hz]
    low_m, high_m = min(x.min() for x in touched), max(x.max() for x in touched)
    half_step_m = 0.5 * axis.weight * slice_of(interval, offset_hz=carrier_hz).thickness_m
    # Offsets are rounded outwards by up to 100 Hz, which is 1 mm at the smallest gradient.
    assert low_m - 1.2e-3 < float(axis.position_m[0]) - half_step_m < low_m + 2e-4
    assert high_m - 2e-4 < float(axis.position_m[-1]) + half_step_m < high_m + 1.2e-3


def test_spins_of_all_groups_share_one_unit_of_signal():
    """The weight of a position is its share of the nominal thickness: the same for every spin group."""
    interval = goia(carrier_hz=-300.0)
    axes = [
        slice_axis(model_of(offsets_hz, {}), [interval], ensemble(), positions_per_slice=24)
        for offsets_hz in ([-300.0], [-420.0, 50.0])
    ]
    units = [axis.weight / float(axis.position_m[1] - axis.position_m[0]) for axis in axes]
    assert units[0] == pytest.approx(units[1], rel=1e-9)


def test_more_positions_where_the_gradient_winds_more_cycles():
    interval = goia()
    found = slice_of(interval)
    cycles = float(interval.moment_per_m.norm()) * found.thickness_m
    assert cycles > 35
    axis = slice_axis(model_of([0.0], {}), [interval], ensemble(), positions_per_slice=24)
    assert axis.weight == pytest.approx(20 / 24 / cycles, rel=0.02)


def test_one_spin_refocuses_as_the_bloch_equations_say():
    """beta of M+ after = alpha M+ + beta M-: the gradient's phases before and after the centre cancel in it."""
    interval, offset_hz = goia(position_m=0.004), 70.0
    x_m = np.array([-0.002, 0.0031, 0.004, 0.009, 0.0139, 0.0145])
    n = len(x_m)
    positions = np.stack([x_m, 0 * x_m, 0 * x_m], 1)
    g = interval.gradient_hz_per_m.numpy()
    columns = [
        bloch.play(np.tile(e, (n, 1)), interval.b1_hz.numpy(), g, RASTER_S, positions, np.full(n, offset_hz))
        for e in np.eye(3)
    ]
    r = np.stack(columns, 2)
    beta = 0.5 * ((r[:, 0, 0] - r[:, 1, 1]) + 1j * (r[:, 0, 1] + r[:, 1, 0]))
    u = propagators(interval, model_of([offset_hz], {}), torch.from_numpy(x_m))
    np.testing.assert_allclose(u[:, 1, 0] * u[:, 0, 1].conj(), beta, rtol=0, atol=2e-4)


@pytest.fixture(scope="module")
def coupled():
    """Two coupled spins off resonance, off centre, at a few positions: interval, offsets, positions, exact result."""
    interval = goia(position_m=0.01, carrier_hz=-300.0)
    offsets_hz, positions_m = (-310.0, -120.0), (0.0005, 0.0035, 0.0105, 0.0195, 0.0208)
    j_hz = [[0.0, 12.0], [12.0, 0.0]]
    wanted = np.stack([exact_propagator(interval, offsets_hz, j_hz, x) for x in positions_m])
    return interval, model_of(offsets_hz, {(0, 1): 12.0}), metres(*positions_m), wanted


def test_coupled_spins_are_those_of_exact_steps(coupled):
    interval, model, positions_m, wanted = coupled
    assert off(propagators(interval, model, positions_m, 2e-6), wanted) < 3e-11
    assert off(propagators(interval, model, positions_m, 2e-4), wanted) < 1e-4


def test_coupled_spins_converge_with_the_fourth_power_of_the_j_step(coupled):
    interval, model, positions_m, wanted = coupled
    errors = [off(propagators(interval, model, positions_m, step_s), wanted) for step_s in (1e-4, 5e-5)]
    assert errors[0] / errors[1] > 12


def test_relaxation_of_nothing_changes_nothing(coupled):
    """Pieces between which spins do not relax make up the pulse; each has its own part of the gradient."""
    interval, model, positions_m, wanted = coupled
    axis = SliceAxis(direction=metres(1, 0, 0), position_m=positions_m, weight=1.0)
    never = SpinRelaxation(t1_s=(1e9, 1e9), t2_s=(1e9, 1e9))
    pulse = relaxing_pulse(model, interval, ensemble(), never, axis, 2e-5)
    assert pulse.pieces.shape[0] == 5
    rho = torch.as_tensor(exact.total(2, "x") + 0.3 * exact.total(2, "z"), dtype=torch.complex128)
    vectors = model.eigenvectors.to(torch.complex128)
    found = vectors @ pulse.apply((vectors.mT @ rho @ vectors)[None, None])[0] @ vectors.mT
    exactly = wanted @ rho.numpy() @ wanted.conj().transpose(0, 2, 1)
    np.testing.assert_allclose(found.numpy(), exactly, rtol=0, atol=1e-6)


def test_the_phase_counts_from_a_centre_that_is_not_the_middle(coupled):
    interval, model, positions_m, _ = coupled
    early = replace(interval, centre_s=600 * RASTER_S)
    j_hz = [[0.0, 12.0], [12.0, 0.0]]
    wanted = np.stack([exact_propagator(early, (-310.0, -120.0), j_hz, x) for x in positions_m.tolist()])
    assert off(propagators(early, model, positions_m, 2e-6), wanted) < 3e-11


def test_a_constant_given_as_changing_gradient_is_an_offset():
    b1 = torch.randn(2, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b1 = 300 * torch.complex(b1[0], b1[1])[None]
    model, position_m = model_of([-40.0, 55.0], {(0, 1): 8.0}), metres(-0.01, 0.002, 0.03)
    plain = pulse_propagator(model, b1, 1e-5, offset_hz=5e4 * position_m + 20)
    changing = pulse_propagator(
        model,
        b1,
        1e-5,
        offset_hz=torch.full((3,), 20.0, dtype=torch.float64),
        gradient_hz_per_m=torch.full((1, 300), 5e4, dtype=torch.float64),
        position_m=position_m,
    )
    assert float((changing - plain).abs().max()) < 1e-12


def test_moments_of_a_constant_gradient_are_those_of_an_offset():
    b1 = torch.randn(2, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    edges_s = torch.tensor([[0.0, 3e-5, 1.7e-4, 2.5e-4], [2.5e-4, 3e-4, 3e-4, 4e-4]], dtype=torch.float64)
    windows = moments(torch.complex(*b1), 1e-5, edges_s, torch.full((40,), 7e3, dtype=torch.float64))
    torch.testing.assert_close(windows.mixed, 7e3 * windows.first, rtol=0, atol=1e-15)
    torch.testing.assert_close(windows.along, 7e3 * windows.duration_s, rtol=1e-12, atol=1e-15)
    with pytest.raises(InputError, match="hold no gradient"):
        moments(torch.complex(*b1), 1e-5, edges_s).at(metres(0.01))


def test_gradients_of_a_pulse_under_a_changing_gradient():
    """Samples of RF are differentiated exactly: finite differences of every part, with and without merged samples."""
    generator = torch.Generator().manual_seed(3)
    model = model_of([-40.0, 55.0], {(0, 1): 8.0})
    g = 1e5 * torch.linspace(0.2, 1, 12, dtype=torch.float64)[None]
    target = torch.randn(2, 4, 4, generator=generator, dtype=torch.complex128)

    for dwell_s in (1e-5, 1e-4):

        def loss(b1, offset_hz, scale, dwell_s=dwell_s):
            u = pulse_propagator(
                model,
                b1,
                dwell_s,
                offset_hz=offset_hz,
                b1_scale=scale,
                gradient_hz_per_m=g,
                position_m=metres(-0.004, 0.007),
            )
            return (u * target).real.sum()

        inputs = (
            300 * torch.randn(1, 12, generator=generator, dtype=torch.complex128),
            metres(10.0, -20.0),
            metres(0.9, 1.1),
        )
        assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in inputs], eps=1e-3, atol=1e-6)


def test_samples_are_merged_only_where_rf_and_gradient_are_held():
    ramp = torch.tensor([1, 1, 2, 2, 3, 3], dtype=torch.float64)
    interval = Interval(
        dwell_s=1e-5,
        b1_hz=torch.tensor([5, 5, 5, 5, 7, 7], dtype=torch.complex128),
        gradient_hz_per_m=ramp[:, None] * metres(0, 1e4, 0),
        use="refocusing",
        centre_s=3e-5,
    )
    b1, dwell_s = waveform_in_carrier_frame(interval)
    assert dwell_s == pytest.approx(2e-5)
    assert b1.tolist() == [5, 5, 7]


@pytest.mark.parametrize(
    "gradient",
    [
        torch.linspace(-1, 1, 2250, dtype=torch.float64)[:, None] * metres(1e5, 0, 0),
        torch.stack([torch.ones(2250), torch.linspace(0, 1, 2250), torch.zeros(2250)], 1).double() * 1e5,
        torch.linspace(-0.2, 1, 2250, dtype=torch.float64)[:, None] * metres(0, 1e5, 1e5),
    ],
    ids=["balanced", "turning", "sign"],
)
def test_a_gradient_that_changes_its_direction_is_refused(gradient):
    with pytest.raises(InputError, match=r"changes its direction during RF pulse 'goia'.*keeps its sign"):
        slice_of(replace(goia(), gradient_hz_per_m=gradient))


def test_wrong_gradients_of_a_propagator_are_refused():
    b1, offset_hz = torch.ones(1, 10, dtype=torch.complex128), metres(0.0, 1.0)
    model, g = model_of([0.0], {}), torch.ones(1, 10, dtype=torch.float64)
    for more, message in (
        ({"gradient_hz_per_m": g}, "belong together"),
        ({"position_m": offset_hz}, "belong together"),
        ({"gradient_hz_per_m": g[:, :9], "position_m": offset_hz}, r"shape \(B, T\) or \(1, T\)"),
        ({"gradient_hz_per_m": g, "position_m": metres(0.0)}, "position_m"),
        ({"gradient_hz_per_m": g * math.inf, "position_m": offset_hz}, "gradient_hz_per_m must be finite"),
        ({"gradient_hz_per_m": g, "position_m": offset_hz * math.nan}, "position_m must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            pulse_propagator(model, b1, 1e-5, offset_hz=offset_hz, **more)


def pair(pulses, te_s=0.03):
    """Ideal excitation, then one or two refocusing pulses with crushers across them, readout at the echo."""
    n = len(pulses)
    gap_s = te_s / (2 * n) - pulses[0].duration_s / 2 - 1e-3
    intervals = [ideal_pulse(math.pi / 2, 0.0, "excitation")]
    for number, pulse in enumerate(pulses):
        crusher = lobe(Y, 800.0 + 500.0 * number)
        intervals += [delay(gap_s), crusher, pulse, crusher, delay(gap_s)]
    return Timeline(intervals=(*intervals, readout()), name="pair")


def signal_of(timeline, model, **more):
    return complex(lines(play(prepare([timeline], model, **more)), model).amplitude.sum())


def test_a_pair_refocuses_the_slice_and_one_alone_does_not():
    """The phase of one passage goes with the position; a second takes it back, and the slice adds up along -y."""
    pulse, model = goia(position_m=0.01, carrier_hz=-300.0), model_of([-300.0], {})
    both, alone = (signal_of(pair(pulses), model) for pulses in ([pulse, pulse], [pulse]))
    assert both == pytest.approx(-1j, abs=0.04)
    assert abs(both.real) < 1e-6
    assert abs(alone) < 0.4
    x_m = torch.linspace(0.003, 0.017, 29, dtype=torch.float64)
    places = [signal_of(pair([pulse, pulse]), model, positions_m=x[None]) for x in x_m]
    assert min(abs(place) for place in places) > 0.95
    np.testing.assert_allclose(np.angle(places), -math.pi / 2, atol=1e-6)


def test_the_signal_of_a_pair_is_the_sum_over_positions_of_the_bloch_twin():
    """Of an isolated spin: beta(x)'* beta(x) / thickness, summed finely, beta by the Bloch equations."""
    pulse, offset_hz = goia(), 60.0
    x_m = np.linspace(-0.0125, 0.0125, 101)
    n = len(x_m)
    positions, g = np.stack([x_m, 0 * x_m, 0 * x_m], 1), pulse.gradient_hz_per_m.numpy()
    columns = [
        bloch.play(np.tile(e, (n, 1)), pulse.b1_hz.numpy(), g, RASTER_S, positions, np.full(n, offset_hz))
        for e in np.eye(3)
    ]
    r = np.stack(columns, 2)
    beta = 0.5 * ((r[:, 0, 0] - r[:, 1, 1]) + 1j * (r[:, 0, 1] + r[:, 1, 0]))
    wanted = (np.abs(beta) ** 2).sum() * (x_m[1] - x_m[0]) / slice_of(pulse).thickness_m
    found = signal_of(pair([pulse, pulse]), model_of([offset_hz], {}))
    assert abs(found) == pytest.approx(wanted, abs=3e-4)


def test_a_pair_of_glutamate_agrees_with_more_positions_and_shorter_steps():
    pulse, model = goia(carrier_hz=-300.0), model_of(GLU_HZ, GLU_J_HZ)
    pulses = pair([pulse, pulse])
    plain, dense, short = (
        lines(play(prepare([pulses], model, **more)), model).amplitude
        for more in ({}, {"positions_per_slice": 40}, {"j_step_s": 5e-5})
    )
    largest = float(plain.abs().max())
    assert float((dense - plain).abs().max()) < 3e-5 * largest
    assert float((short - plain).abs().max()) < 1e-5 * largest


def test_pathways_with_real_dephasing_hold_the_echo_of_the_slice():
    """A single passage within a box that holds the slice: the echo of `dephasing` is that of `localise`."""
    pulse, model = goia(), model_of([0.0], {})
    shot = pair([pulse])
    table = pathway_signals([shot], model, extent_m=(0.03, 0.0, 0.0))
    assert table.wanted.orders == (1, -1)
    # Both in thicknesses of the slice; the box ends where nothing is touched.
    assert table.wanted.dephased == pytest.approx(abs(signal_of(shot, model)), rel=2e-3)
