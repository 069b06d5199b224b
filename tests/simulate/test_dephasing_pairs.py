"""Pulses in turn along one axis, against isochromats whose pulses are turned through all phases, order by order."""

import itertools
import math

import exact_spins
import numpy as np
import pytest
import torch
from seqgen_sequences.slaser import SLASER
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, lobe, readout, selective

from seqgen import library
from seqgen.errors import InputError
from seqgen.pulse.adiabatic import goia_wurst
from seqgen.pulse.shapes import slr_pulse
from seqgen.seqfile.played import built_shots
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import BuildContext
from seqgen.simulate import dephasing_average
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.dephasing import crusher_verdict, pathway_signals
from seqgen.simulate.dephasing_average import spanned
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.pathways import moments_between_centres
from seqgen.simulate.slices import slice_of
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Interval, Timeline, delay, ideal_pulse

OFFSET_HZ = 40.0
COUPLED_HZ, J_HZ = [-35.0, 48.0], 15.0
DWELL_S, GRADIENT_HZ_PER_M = 5e-5, 3e4
POSITIONS_M = (-0.023, -0.004, 0.009)
POINT = (0.0, 0.0, 0.0)
TIMES_S = np.arange(12) * 1e-3


def model_of(offsets_hz, couplings_hz=None):
    return group_model(group_at_hz(offsets_hz, couplings_hz or {}), FREQUENCY_HZ, REFERENCE_PPM)


def refocus(axis, flip_deg, *, sign=1.0, phase_rad=0.4):
    pulse = slr_pulse(
        flip_angle_rad=math.radians(flip_deg), time_bandwidth=4.0, duration_s=40 * DWELL_S, dwell_s=DWELL_S, name="slr"
    )
    b1 = pulse.b1_hz * complex(math.cos(phase_rad), math.sin(phase_rad))
    return selective(b1, DWELL_S, axis, sign * GRADIENT_HZ_PER_M, "refocusing")


def goia(axis, *, centre_s=1.5e-3, b1_max_hz=700.0):
    """GOIA-W(16, 4) of 3 ms under its own gradient; its centre need not be the middle."""
    pulse, shape = goia_wurst(duration_s=3e-3, bandwidth_hz=6e3, b1_max_hz=b1_max_hz, dwell_s=2e-5, name="goia")
    gradient = np.zeros((len(shape), 3))
    gradient[:, axis] = 3e5 * np.asarray(shape)
    return Interval(
        dwell_s=2e-5,
        b1_hz=pulse.b1_hz,
        gradient_hz_per_m=torch.from_numpy(gradient),
        use="refocusing",
        centre_s=centre_s,
        name="goia",
    )


def laser(pulses, moments, *, flip_rad=1.3, between=()):
    """A hard excitation and pulses with a lobe after each, the last one so that they refocus what is excited.

    Intervals `between` are played after the first of the pulses; what they turn refocuses as little as it likes.
    """

    def timeline(*lobes):
        first, *others = [delay(1e-3 + 2e-4 * n, tuple(k / (1e-3 + 2e-4 * n))) for n, k in enumerate(lobes)]
        played = [ideal_pulse(flip_rad, 0.2, "excitation"), first]
        for number, (pulse, after) in enumerate(zip(pulses, others, strict=True)):
            played += [pulse, after, *(between if number == 0 else ())]
        return Timeline(intervals=(*played, readout()))

    given = [np.array(moment, dtype=float) for moment in moments]
    uses = [interval.use for _, interval in timeline(*given).pulses()]
    turns = np.cumprod([-1 if use == "refocusing" else 1 for use in uses])
    missing = turns @ moments_between_centres(timeline(*given)).numpy()
    return timeline(*given[:-1], given[-1] - turns[-1] * missing)


# --- One spin, order by order ----------------------------------------------------------------------------------------


def rotations(interval, offset_hz, positions_m):
    """Spinor rotations of an isolated spin at positions (n, 3), sample by sample, shape (n, 2, 2)."""
    total = np.broadcast_to(np.eye(2, dtype=complex), (len(positions_m), 2, 2))
    for b1, gradient in zip(interval.b1_hz.numpy(), interval.gradient_hz_per_m.numpy(), strict=True):
        f = offset_hz + positions_m @ gradient
        size = np.sqrt(abs(b1) ** 2 + f**2)
        half = np.pi * size * interval.dwell_s
        c, s = np.cos(half), np.sin(half) / np.where(size == 0, 1, size)
        total = (
            np.moveaxis(np.array([[c - 1j * s * f, -1j * s * np.conj(b1)], [-1j * s * b1, c + 1j * s * f]]), 2, 0)
            @ total
        )
    return total


def by_phase_cycling(shot, offset_hz, positions_m, weights):
    """The signal of every pathway of one spin: each pulse turned through five phases, then a Fourier transform."""
    steps = []
    for interval in shot.intervals[:-1]:
        u = rotations(interval, offset_hz, positions_m)
        turns = np.arange(5) if interval.use else [0]
        z = np.array([np.diag(np.exp(np.array([-1j, 1j]) * np.pi * turn / 5)) for turn in turns])
        steps.append(z[:, None] @ u @ z[:, None].conj().transpose(0, 1, 3, 2))
    states = np.broadcast_to(np.diag([0.5, -0.5]).astype(complex), (1, len(positions_m), 2, 2))
    for u in steps:
        states = (u[None] @ states[:, None] @ u[None].conj().swapaxes(-1, -2)).reshape(-1, *states.shape[1:])
    n = len(shot.pulses())
    signal = (2 * states[..., 1, 0] @ weights).reshape((5,) * n)
    # A pulse turned by phi turns a pathway by exp(-i dp phi): dp from -2 to 2 are told apart by five phases.
    weight_of = np.fft.ifftn(signal)
    return {
        path: weight_of[tuple((b - a) % 5 for a, b in itertools.pairwise((0, *path)))]
        for path in itertools.product(*[(-1, 0, 1)] * (n - 1), (-1,))
    }


def compare(table, expected, atol):
    assert {signal.orders for signal in table.signals} == set(expected)
    for signal in table.signals:
        assert complex(signal.lines.amplitude.sum()) == pytest.approx(expected[signal.orders], abs=atol), signal.orders


def grid(*axes_m):
    points = np.array(list(itertools.product(*axes_m)))
    return points, np.full(len(points), 1 / len(points))


@pytest.mark.parametrize("second_sign", [1.0, -1.0])
def test_two_pairs_at_positions(second_sign):
    """LASER of imperfect pulses, moments along all axes between all of them: all 81 pathways."""
    pulses = [
        *(refocus(X, 150), refocus(X, 165, sign=second_sign, phase_rad=1.0)),
        *(refocus(Y, 140), refocus(Y, 170, sign=second_sign)),
    ]
    moments = [(17.0, 5.0, 3.0), (-11.0, 31.0, 0.0), (23.0, -7.0, 19.0), (13.0, 29.0, -9.0), (-37.0, 3.0, 8.0)]
    shot = laser(pulses, moments)
    expected = by_phase_cycling(shot, OFFSET_HZ, *grid(POSITIONS_M, POSITIONS_M, POSITIONS_M))
    table = pathway_signals(
        [shot], model_of([OFFSET_HZ]), extent_m=POINT, positions_m=torch.tensor(POSITIONS_M, dtype=torch.float64)
    )
    assert sum(abs(value) > 1e-3 for value in expected.values()) > 40
    compare(table, expected, 1e-11)


def test_a_nonselective_pulse_within_a_pair_acts_on_every_position():
    edit = (ideal_pulse(1.1, 0.7, "preparation"), lobe(X, 12.0))
    shot = laser([refocus(X, 150), refocus(X, 165)], [(17.0, 0, 3.0), (-11.0, 0, 5.0), (23.0, 0, 19.0)], between=edit)
    expected = by_phase_cycling(shot, OFFSET_HZ, *grid(POSITIONS_M, [0.0], POSITIONS_M))
    table = pathway_signals(
        [shot], model_of([OFFSET_HZ]), extent_m=POINT, positions_m=torch.tensor(POSITIONS_M, dtype=torch.float64)
    )
    assert table.n_positions == (1, 3, 3, 3)
    compare(table, expected, 1e-11)


@pytest.mark.parametrize("moment_per_m", [40.0, 700.0])
@pytest.mark.parametrize("centre_s", [1.5e-3, 1.1e-3])
def test_a_sample_under_changing_gradients_is_integrated_exactly(moment_per_m, centre_s):
    """A pair of GOIA pulses, and what one of them leaves: Gauss points over the box, far denser than seqgen's."""
    pulses = [goia(X, centre_s=centre_s), goia(X, centre_s=centre_s, b1_max_hz=500.0)]
    shot = laser(pulses, [(moment_per_m, 0, 0), (2.5 * moment_per_m, 0, 0), (moment_per_m, 0, 0)])
    length_m = 0.05
    xi, gauss = np.polynomial.legendre.leggauss(600)
    slices = [slice_of(pulse, offset_hz=OFFSET_HZ) for pulse in pulses]
    x_m = np.mean([found.centre_m for found in slices]) + 0.5 * length_m * xi
    unit_m = min(slice_of(pulse).thickness_m for pulse in pulses)
    positions = np.stack([x_m, 0 * x_m, 0 * x_m], 1)
    expected = by_phase_cycling(shot, OFFSET_HZ, positions, 0.5 * length_m * gauss / unit_m)
    table = pathway_signals([shot], model_of([OFFSET_HZ]), extent_m=(length_m, 0.0, 0.0), edges="as given")
    assert table.n_positions[1] < 300
    # RF is held over samples in the carrier's frame here and there; windows of a quarter turn.
    compare(table, expected, 1e-5)


# --- Coupled spins ---------------------------------------------------------------------------------------------------


def coupled_shot(moment_per_m):
    crush = np.array([1.0, 0.3, 0.0]) * moment_per_m
    pulses = [refocus(X, 150), refocus(X, 165), refocus(Y, 160), refocus(Y, 145)]
    return laser(pulses, [crush, 1.3 * crush, 0.7 * crush[[1, 0, 2]], 2 * crush[[1, 0, 2]], crush])


def at_positions(shot, positions_m):
    """Mean signal of two coupled spins; no order is named."""
    h = exact_spins.free_hamiltonian(COUPLED_HZ, [[0, J_HZ], [J_HZ, 0]])
    store, result = {}, 0
    for x, y in itertools.product(positions_m, positions_m):
        rho = exact_spins.total(2, "z")
        for number, interval in enumerate(shot.intervals[:-1]):
            offset_hz = float(interval.gradient_hz_per_m[0].numpy() @ np.array([x, y, 0.0]))
            if (number, offset_hz) not in store:
                b1 = interval.b1_hz.numpy()
                store[number, offset_hz] = exact_spins.pulse(h, b1, interval.dwell_s, offset_hz)
            rho = store[number, offset_hz] @ rho @ store[number, offset_hz].conj().T
        result = result + exact_spins.signal(rho, h, TIMES_S)
    return result / len(positions_m) ** 2


def total(table):
    amplitude = sum(signal.lines.amplitude for signal in table.signals)
    whole = type(table.wanted.lines)(amplitude=amplitude, frequency_hz=table.wanted.lines.frequency_hz)
    return fid(whole, len(TIMES_S), 1e-3).numpy()


def test_pathways_of_coupled_spins_add_up_to_two_pairs():
    shot, positions = coupled_shot(9.0), (-0.02, 0.007)
    expected = at_positions(shot, positions)
    model, places = model_of(COUPLED_HZ, {(0, 1): J_HZ}), torch.tensor(positions, dtype=torch.float64)
    found = [
        total(pathway_signals([shot], model, extent_m=POINT, positions_m=places, j_step_s=DWELL_S / n)) for n in (4, 8)
    ]
    assert np.abs(expected).max() > 0.02
    # The h^2 error of the J step removed (Richardson); bases of states keep 1e-10.
    np.testing.assert_allclose((4 * found[1] - found[0]) / 3, expected, rtol=0, atol=2e-9)


def test_bases_and_blocks_change_nothing(monkeypatch):
    model, extent_m = model_of(COUPLED_HZ, {(0, 1): J_HZ}), (0.05, 0.06, 0.0)
    plain = pathway_signals([coupled_shot(300.0)], model, extent_m=extent_m)
    monkeypatch.setattr(dephasing_average, "SPAN_TOLERANCE", 1e-15)
    monkeypatch.setattr(dephasing_average, "_STATE_ELEMENTS", 5 * 16)
    exact = pathway_signals([coupled_shot(300.0)], model, extent_m=extent_m)
    assert len(plain.signals) == 5**4
    sizes = {signal.orders: (signal.undephased, signal.dephased) for signal in exact.signals}
    for signal in plain.signals:
        assert (signal.undephased, signal.dephased) == pytest.approx(sizes[signal.orders], abs=2e-9)


def test_a_basis_holds_rows_and_no_more():
    generator = np.random.default_rng(3)
    rows = torch.from_numpy(generator.normal(size=(40, 3)) @ generator.normal(size=(3, 17))).to(torch.complex128)
    coefficients, basis = spanned(rows, 1e-12)
    assert basis.shape == (3, 17)
    torch.testing.assert_close(coefficients @ basis, rows, rtol=0, atol=1e-12)
    torch.testing.assert_close(basis @ basis.mH, torch.eye(3, dtype=torch.complex128), rtol=0, atol=1e-12)


def test_what_is_left_out_within_a_pair_is_reported():
    shot, model = coupled_shot(9.0), model_of(COUPLED_HZ, {(0, 1): J_HZ})
    whole = pathway_signals([shot], model, extent_m=(0.03, 0.03, 0.0))
    part = pathway_signals([shot], model, extent_m=(0.03, 0.03, 0.0), orders=(-1, 0, 1))
    # Orders -2 and 2 after each of the first four pulses, of each of the branches that are followed until there.
    assert part.n_dropped == 2 * (1 + 3 + 9 + 27)
    kept = {signal.orders: signal.dephased for signal in part.signals}
    gone = sum(signal.dephased for signal in whole.signals if signal.orders not in kept)
    assert 1e-3 < gone < part.dropped_norm
    for signal in whole.signals:
        assert kept.get(signal.orders, signal.dephased) == pytest.approx(signal.dephased, abs=1e-9)
    assert crusher_verdict(part).text.startswith("Crushers not sufficient")


def test_what_is_left_out_within_a_pair_counts_at_every_position():
    """Order 0 of one spin: cos(flip) after the excitation; |a b| sin(flip) / sqrt(2) of both orders after a pulse."""
    flip_rad, positions = 1.3, np.linspace(-0.01, 0.01, 7)
    pulses = [refocus(X, 120), refocus(X, 165)]
    shot = laser(pulses, [(17.0, 0, 0), (0, 0, 0), (23.0, 0, 0)], flip_rad=flip_rad)
    table = pathway_signals(
        [shot], model_of([OFFSET_HZ]), extent_m=POINT, orders=(-1, 1), positions_m=torch.from_numpy(positions)
    )
    u = rotations(pulses[0], OFFSET_HZ, np.stack([positions, 0 * positions, 0 * positions], 1))
    passing = np.abs(u[:, 0, 0] * u[:, 1, 0]).mean()
    assert table.n_dropped == 3
    # In units of what I+ detects: twice the element of the density matrix.
    assert table.dropped_norm == pytest.approx(
        2 * (math.cos(flip_rad) * math.sqrt(0.5) + 2 * passing * math.sin(flip_rad) * math.sqrt(0.5)), abs=1e-10
    )


def test_pulses_along_one_axis_that_are_not_in_turn_are_refused():
    shot = laser([refocus(X, 150), refocus(Y, 150), refocus(X, 150)], [(0, 0, 500.0)] * 4)
    with pytest.raises(InputError, match="must follow one another"):
        pathway_signals([shot], model_of([OFFSET_HZ]), extent_m=(0.1, 0.1, 0.1))


# --- Sequences -------------------------------------------------------------------------------------------------------


def inverted(amplitude):
    """A selective inversion of some amplitude before a hard spin echo: a step of ISIS."""
    pulse = refocus(Z, 170)
    scaled = selective(amplitude * pulse.b1_hz, DWELL_S, Z, GRADIENT_HZ_PER_M, "inversion")
    echo = laser([ideal_pulse(2.8, 0.4, "refocusing")], [(0, 300.0, 0), (0, 300.0, 0)]).intervals
    return Timeline(intervals=(scaled, lobe(X, 900.0), *echo))


def test_of_a_cycle_that_inverts_in_some_steps_those_count():
    plain, inverting, model = inverted(1e-6), inverted(1.0), model_of([OFFSET_HZ])
    found, alone = (pathway_signals(shots, model, extent_m=(0.1,) * 3) for shots in ([plain, inverting], [inverting]))
    assert [signal.orders for signal in found.signals] == [signal.orders for signal in alone.signals]
    assert found.n_positions == alone.n_positions
    for one, other in zip(found.signals, alone.signals, strict=True):
        assert (one.ratio, one.cycle_weight) == (other.ratio, other.cycle_weight)


@pytest.fixture(scope="module")
def slaser():
    """One shot of semi-LASER at its defaults."""
    scanner = library.scanner("siemens_prisma_3t")
    context = BuildContext(scanner=scanner, spectrometer_frequency_hz=FREQUENCY_HZ, water_shift_ppm=REFERENCE_PPM)
    params = sensible_params(
        SLASER, context, voxel_size_m=(0.02,) * 3, water_suppression="none", dummy_scans=0, water_reference_averages=0
    )
    return built_shots(SLASER.build(params, context).blocks, scanner, "slaser")[0].timeline


def test_the_wanted_echo_of_semi_laser_is_that_of_localise(slaser):
    """At positions to rounding; over a box that holds the voxel as finely as `play` adds up."""
    model, length_m = model_of([-230.0]), 0.05
    opening_s = slaser.readouts()[0][0]
    few = torch.tensor([-0.006, 0.001, 0.0099], dtype=torch.float64)
    many = ((torch.arange(800, dtype=torch.float64) + 0.5) / 800 - 0.5) * length_m
    expected, over_box = (
        lines(play(prepare([slaser], model, time_zero_s=opening_s, positions_m=x_m)), model).amplitude[0]
        for x_m in (few, many)
    )
    same = pathway_signals([slaser], model, extent_m=POINT, positions_m=few).wanted
    assert same.orders == (-1, 1, -1, 1, -1)
    assert same.refocused
    torch.testing.assert_close(same.lines.amplitude, expected, rtol=0, atol=1e-11)
    selecting = [slaser.pulses()[n][1] for n in (0, 1, 3)]
    widths = [length_m / slice_of(pulse, offset_hz=pulse.carrier_hz).thickness_m for pulse in selecting]
    box = pathway_signals([slaser], model, extent_m=(length_m,) * 3, orders=(-1, 0, 1)).wanted
    torch.testing.assert_close(box.lines.amplitude, over_box * math.prod(widths), rtol=0, atol=1e-4)


def test_positions_of_semi_laser_are_enough(slaser):
    model = model_of([-230.0, -320.0], {(0, 1): J_HZ})
    plain, dense = (
        pathway_signals([slaser], model, extent_m=(0.05,) * 3, orders=(-1, 0, 1), positions_per_cycle=n)
        for n in (8.0, 12.0)
    )
    sizes = {signal.orders: signal.dephased for signal in dense.signals}
    for signal in plain.signals:
        assert signal.dephased == pytest.approx(sizes[signal.orders], abs=1e-6 * plain.wanted.dephased)
