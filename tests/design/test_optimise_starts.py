"""Starts: textbook pulses, their projection on the splines, and the search from them."""

import math

import bloch
import numpy as np
import pytest
import torch

from seqgen.design.optimise import optimise_pulse
from seqgen.design.starts import START_SD, carried_over, project, require_rotations, start_points, textbook_waveform
from seqgen.errors import InputError
from seqgen.pulse.parameterise import spline_waveform
from seqgen.pulse.waveform import RFPulse

TEXTBOOK = ("hard", "gaussian", "sinc", "slr", "ninety")
ROTATIONS = ("composite", "adiabatic")
TOLERANCE = 0.015
"""Relative L2: the rectangle's edges are the worst (1.2 %), the Gaussian's ends at one percent come next (0.5 %)."""


def make_shape(spec):
    return spline_waveform(
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        knot_spacing_s=spec.knot_spacing_s,
        b1_max_hz=spec.b1_max_hz,
        energy_max_hz2_s=spec.energy_max_hz2_s,
    )


def energy(b1_hz):
    return float((b1_hz.abs() ** 2).sum()) * 2e-5


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_flip_angle_on_the_carrier(design_spec, name):
    b1_hz = textbook_waveform(name, design_spec(), 300.0)
    assert b1_hz.shape == (1000,)
    turn = 2 * math.pi * complex(b1_hz.sum()) * 2e-5
    assert turn.imag == 0
    if name == "slr":
        assert math.sin(turn.real / 2) > 0.98  # at the centre of its passband, ripple and all
    else:
        assert turn.real == pytest.approx(math.pi / 2 if name == "ninety" else math.pi)
    assert float((b1_hz - b1_hz.flip(0)).abs().max()) < 1e-4 * float(b1_hz.abs().max())


@pytest.mark.parametrize("name", [name for name in TEXTBOOK if name != "slr"])
def test_what_excites_turns_by_ninety(name, design_spec):
    b1_hz = textbook_waveform(name, design_spec(place="excitation"), 300.0)
    assert abs(2 * math.pi * b1_hz.sum().item() * 2e-5) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize(("place", "flip_deg"), [("echo_top", 90), ("te2", 180), ("excitation", 90)])
def test_composite_and_adiabatic_starts_turn_alike_at_every_b1(design_spec, name, place, flip_deg):
    """Bloch equations at 0.8 to 1.2 of the nominal B1: +z ends as after a rotation about +x."""
    spec = design_spec(place=place, knot_spacing_s=1e-4)
    b1_hz = textbook_waveform(name, spec, 600.0).numpy()
    assert b1_hz.shape == (1000,)
    still = np.zeros((len(b1_hz), 3))
    wanted = [0, -math.sin(math.radians(flip_deg)), math.cos(math.radians(flip_deg))]
    for scale in (0.8, 1.0, 1.2):
        m = bloch.play(bloch.along_z(1), scale * b1_hz, still, spec.rf_dwell_s, np.zeros((1, 3)), np.zeros(1))
        assert m[0] @ wanted > 0.985


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("composite", {"duration_s": 2e-3, "b1_max_hz": 600.0, "knot_spacing_s": 1e-4}),  # 2.37 cycles do not fit
        ("composite", {"knot_spacing_s": 5e-4}),  # splines that do not follow the steps of phase
        ("adiabatic", {"knot_spacing_s": 5e-4}),  # splines that do not follow the sweep
    ],
)
def test_a_start_that_is_no_longer_its_rotation_is_refused(design_spec, name, changes):
    spec = design_spec(start=name, **changes)
    with pytest.raises(
        InputError, match=rf"start: {name} within the limits .* not the rotation by 90 degrees .*shorten knot"
    ):
        require_rotations(spec, make_shape(spec))
    easy = design_spec(start=name, b1_max_hz=600.0, energy_max_hz2_s=9000.0, knot_spacing_s=1e-4)
    require_rotations(easy, make_shape(easy))
    (found,) = start_points(easy, make_shape(easy), seed=1, pulses={}, carrier_hz=0.0)
    assert found[0] == name
    b1_hz = make_shape(easy).waveform_hz(torch.as_tensor(found[1])).numpy()
    m = bloch.play(bloch.along_z(1), b1_hz, np.zeros((1000, 3)), 2e-5, np.zeros((1, 3)), np.zeros(1))
    assert m[0] @ [0, -1, 0] > 0.95


@pytest.mark.parametrize("name", ROTATIONS)
def test_splines_of_short_knots_follow_composite_and_adiabatic_starts(design_spec, name):
    spec = design_spec(knot_spacing_s=1e-4)
    shape = make_shape(spec)
    wanted = textbook_waveform(name, spec, 200.0)
    wanted = wanted * min(1.0, math.sqrt(0.9 * spec.energy_max_hz2_s / energy(wanted)))
    got = shape.waveform_hz(project(shape, wanted))
    # Both have steps of their phase, which no spline follows.
    assert float((got - wanted).norm() / wanted.norm()) < 0.15


def test_the_ninety_is_short_and_below_the_limit(design_spec):
    for b1_max_hz in (300.0, 60.0):
        b1_hz = textbook_waveform("ninety", design_spec(), b1_max_hz).abs()
        half = float((b1_hz > b1_hz.max() / 2).sum()) * 2e-5
        assert half == pytest.approx(max(1.5e-3, 0.5 / b1_max_hz), rel=0.03)
        assert float(b1_hz.max()) < b1_max_hz


@pytest.mark.parametrize("name", TEXTBOOK)
def test_below_the_limits_the_projected_waveform_is_the_wanted_one(design_spec, name):
    spec = design_spec()
    shape = make_shape(spec)
    wanted = textbook_waveform(name, spec, spec.b1_max_hz)
    got = shape.waveform_hz(project(shape, wanted))
    assert float((got - wanted).norm() / wanted.norm()) < TOLERANCE


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("tight", [{"b1_max_hz": 20.0}, {"energy_max_hz2_s": 5.0}])
def test_above_a_limit_it_is_the_wanted_one_scaled_down(design_spec, name, tight):
    spec = design_spec(**tight)
    shape = make_shape(spec)
    wanted = textbook_waveform(name, spec, 300.0)
    got = shape.waveform_hz(project(shape, wanted))
    scale = float((wanted.conj() * got).sum().real / (wanted.abs() ** 2).sum())
    assert 0.05 < scale < 1
    assert float((got - scale * wanted).norm() / got.norm()) < 0.02
    assert float(got.abs().max()) <= spec.b1_max_hz
    assert energy(got) <= spec.energy_max_hz2_s
    assert max(float(got.abs().max()) / spec.b1_max_hz, energy(got) / spec.energy_max_hz2_s) > 0.85


@pytest.mark.parametrize("size", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("energy_max_hz2_s", [300.0, 1e5])
def test_the_maps_of_amplitude_and_energy_are_inverted(design_spec, size, energy_max_hz2_s):
    """A waveform of the parameterisation itself comes back, where it leaves both limits their margin."""
    shape = make_shape(design_spec(energy_max_hz2_s=energy_max_hz2_s))
    generator = torch.Generator().manual_seed(5)
    theta = size * torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64)
    wanted = shape.waveform_hz(theta)
    if energy(wanted) > 0.95 * energy_max_hz2_s or float(wanted.abs().max()) > 0.9 * 300:
        wanted = 0.8 * wanted  # no longer of the splines to the last digit, but near
        assert float((shape.waveform_hz(project(shape, wanted)) - wanted).norm() / wanted.norm()) < 0.15
        return
    got = project(shape, wanted)
    np.testing.assert_allclose(shape.waveform_hz(got), wanted, atol=1e-6 * 300)
    np.testing.assert_allclose(got, theta, rtol=1e-4, atol=1e-6)


def test_the_projection_is_the_nearest_waveform(design_spec):
    """No small change of the parameters comes nearer: the gradient of the distance vanishes."""
    spec = design_spec()
    shape = make_shape(spec)
    wanted = textbook_waveform("hard", spec, 300.0)
    theta = project(shape, wanted).requires_grad_(True)
    distance = ((shape.waveform_hz(theta) - wanted).abs() ** 2).sum() / (wanted.abs() ** 2).sum()
    (gradient,) = torch.autograd.grad(distance, theta)
    assert float(gradient.abs().max()) < 1e-6


def test_zeros_are_no_start(design_spec):
    with pytest.raises(InputError, match="a waveform of zeros is no start"):
        project(make_shape(design_spec()), torch.zeros(1000, dtype=torch.complex128))


def test_random_starts_are_the_seeds_whatever_else_is_named(design_spec):
    spec = design_spec(start=("hard", "random", "slr"), starts=2)
    shape = make_shape(spec)
    points = start_points(spec, shape, seed=7, pulses={}, carrier_hz=0.0)
    assert [name for name, _ in points] == ["hard", "random 1", "random 2", "slr"]
    generator = torch.Generator().manual_seed(7)
    for _, theta in points[1:3]:
        expected = START_SD * torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64)
        assert np.array_equal(theta, expected.numpy())


def test_a_waveform_with_another_dwell_and_carrier_is_carried_over(design_spec):
    """A constant pulse 50 Hz off the design's carrier turns by 2 pi 50 t there, zero at the centre."""
    spec = design_spec()
    pulse = RFPulse(b1_hz=torch.full((200,), 10.0 + 0j), dwell_s=1e-4, carrier_offset_hz=-250.0, name="file.json")
    got = carried_over(pulse, spec, -300.0)
    t_s = (np.arange(1000) - 499.5) * 2e-5
    np.testing.assert_allclose(got, 10 * np.exp(2j * np.pi * 50 * t_s), atol=1e-4)
    stairs = RFPulse(b1_hz=torch.arange(200) * (1 + 0j), dwell_s=1e-4, name="stairs")
    np.testing.assert_allclose(carried_over(stairs, spec, 0.0).real, np.repeat(np.arange(200), 5))


def test_a_waveform_of_another_duration_is_refused(design_spec):
    pulse = RFPulse(b1_hz=torch.ones(100, dtype=torch.complex128), dwell_s=1e-4, name="short.csv")
    with pytest.raises(InputError, match=r"short\.csv must last 20 ms, .* but lasts 10 ms"):
        carried_over(pulse, design_spec(), 0.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "sync"}, "start must name each start once, out of random, hard"),
        ({"start": ()}, "start must name each start once"),
        ({"start": ("hard", "hard")}, "start must name each start once"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"stop_improvement": -1.0}, "stop_improvement must be finite"),
        ({"restarts": -1}, "restarts must be at least 0"),
        ({"stop_iterations": 0}, "stop_iterations at least 1"),
    ],
)
def test_impossible_descents_are_refused(design_spec, changes, words):
    with pytest.raises(InputError, match=words):
        design_spec(**changes)


def test_the_ninety_locks_a_singlet_at_the_echo_top(design_spec, design_problem):
    """Creatine's magnetisation lies along the axis of the pulse; a pulse a quarter turn on puts it along z."""
    spec = design_spec(target="Cr", window_ppm=(2.9, 3.1), carrier_ppm=3.03)
    problem = design_problem(spec, names=("Cr", "Gln"))
    times = [torch.tensor(te_s, dtype=torch.float64) for te_s in (0.041, 0.034)]
    b1_hz = textbook_waveform("ninety", spec, 300.0)
    signal = {turn: problem.loss_and_metrics(turn * b1_hz, *times)[1].signal for turn in (0, 1, 1j)}
    assert signal[1] == pytest.approx(signal[0], rel=0.01)
    assert signal[1j] < 0.02 * signal[0]


@pytest.fixture(scope="module")
def mixed(design_spec, design_problem, minimum_te_s):
    """Adam from two textbook starts and a random one, under limits that bite."""
    spec = design_spec(
        start=("hard", "ninety", "random"), optimiser="adam", iterations=8, b1_max_hz=100.0, energy_max_hz2_s=60.0
    )
    problem = design_problem(spec)
    return lambda seed: optimise_pulse(
        problem, b1_max_hz=979.0, te_min_s=minimum_te_s[True], te_raster_s=2e-5, seed=seed
    )


def test_a_search_from_many_starts_keeps_limits_and_ends_at_zero(mixed):
    found = mixed(2)
    b1_hz = found.pulse.b1_hz
    assert float(b1_hz.abs().max()) <= 100.0
    assert energy(b1_hz) <= 60.0
    assert float(b1_hz[0].abs()) < 1e-4 * 100
    assert float(b1_hz[-1].abs()) < 1e-4 * 100
    assert found.landscape.names == ("hard", "ninety", "random 1")
    assert found.landscape.iterations == (2, 2, 2)
    assert len(found.history) == 4
    assert min(found.history[3]) < min(found.landscape.losses)
    again = mixed(2)
    assert torch.equal(torch.view_as_real(again.pulse.b1_hz), torch.view_as_real(b1_hz))
    assert again.landscape == found.landscape
