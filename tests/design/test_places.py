"""Designed pulses at every place: the model against the file that plays it, its gradients, and which echo times fit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from press_files import F0_HZ, PARAMS, PRESS, SCANNER, WATER_PPM, context, random_pulse, write

from seqgen import library
from seqgen.config import load_protocol
from seqgen.design import forward
from seqgen.design.echo_times import TE_MAX_S, TE_SCALE_S, EchoTimeLimits, echo_time_limits
from seqgen.design.evaluate import evaluator
from seqgen.design.forward import echo_model
from seqgen.design.optimise import optimise_pulse
from seqgen.errors import InputError
from seqgen.pulse.parameterise import spline_waveform
from seqgen.pulse.shapes import slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.plugins import BuildContext, find_sequence
from seqgen.simulate.averaged import unaveraged
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.molecule import molecule_lines
from seqgen.simulate.slices import waveform_in_carrier_frame
from seqgen.spin.system import Relaxation
from seqgen.verify.predict import predict, pulse_acquire_spectrum, window_result

ISIS_PRESS = find_sequence("isis_press")
TE_S = {
    "echo_top": (0.041, 0.034),
    "te1": (0.03, 0.04),
    "te2": (0.014, 0.064),
    "te1_te2": (0.0152, 0.0656),
    "excitation": (0.034, 0.022),
}
OTHER_TE_S = {
    "echo_top": (0.0452, 0.0391),
    "te1": (0.0172, 0.0508),
    "te2": (0.0188, 0.0724),
    "te1_te2": (0.0124, 0.0596),
    "excitation": (0.0312, 0.0368),
}
PLACES = tuple(TE_S)
BARE = {"water_suppression": "none", "water_reference_averages": 0}
RELAXATION = Relaxation(t1_s=1.2, t2_s=0.16)
FREQUENCIES = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM}
PHANTOM = Path(__file__).resolve().parents[2] / "protocols" / "phantom_glu_gln_3t.yaml"


def places_of(place):
    return ("te1", "te2") if place == "te1_te2" else (place,)


def seconds(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


def stand_in(duration_s=0.02):
    return RFPulse(b1_hz=torch.ones(round(duration_s / 2e-5), dtype=torch.complex128), dwell_s=2e-5, name="edit")


def built_at(place, pulse, te_s, **changes):
    """Build the sequence that plays a pulse at a place."""
    given = {"te1_s": te_s[0], "te2_s": te_s[1]} | changes
    if place != "excitation":
        return PRESS.build(replace(PARAMS, editing_places=places_of(place), **given), context(pulse))
    common = {name: getattr(PARAMS, name) for name in ("tr_s", "voxel_size_m", "voxel_position_m", "adc_samples")}
    params = ISIS_PRESS.Params(**(common | {"averages": 4, "dummy_scans": 1} | given))
    return ISIS_PRESS.build(params, context(pulse))


def template(place, pulse, te_s, **changes):
    return phase_cycle(built_shots(built_at(place, pulse, te_s, **(BARE | changes)).blocks, SCANNER, "template"))


def problem_at(spec, *, plain=False, positions_per_slice=2, j_step_s=4e-4):
    """The design problem at the spec's place, its template at the echo times of the spec."""
    cycle = template("_".join(spec.places), None if plain else stand_in(spec.duration_s), (spec.te1_s, spec.te2_s))
    names = (spec.target, *spec.interferers)
    return evaluator(
        spec,
        cycle,
        {name: library.spin_system(name) for name in names},
        dict.fromkeys(names, RELAXATION),
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
        **FREQUENCIES,
    )


def model_at(place, name, *, plain=False, positions_per_slice=2, j_step_s=4e-4):
    """The model of one metabolite, its template at `TE_S`."""
    return echo_model(
        template(place, None if plain else stand_in(), TE_S[place]),
        {name: library.spin_system(name)},
        {name: RELAXATION},
        ensemble(),
        places=places_of(place),
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
        **FREQUENCIES,
    )


def spec_at(design_spec, place, **changes):
    te1_s, te2_s = TE_S[place]
    return design_spec(**({"place": places_of(place), "te1_s": te1_s, "te2_s": te2_s} | changes))


@pytest.mark.parametrize("place", PLACES)
def test_the_model_is_what_the_written_file_plays(place, tmp_path):
    """Line amplitudes, at other echo times than the template's, against the file that was read back."""
    pulse = random_pulse(250.0)
    steps = {"positions_per_slice": 2, "j_step_s": 4e-4}
    model = model_at(place, "Glu", **steps)
    te_s = OTHER_TE_S[place]
    got = model.molecule_lines("Glu", pulse.b1_hz, 2e-5, pulse.carrier_offset_hz, *seconds(*te_s))
    cycle = phase_cycle(shots(read_seq(write(tmp_path / "edited.seq", built_at(place, pulse, te_s)))))
    wanted = molecule_lines(cycle, library.spin_system("Glu"), **FREQUENCIES, **steps)
    decay = math.exp(-sum(te_s) / RELAXATION.t2_s)
    assert np.allclose(got.frequency_hz, wanted.frequency_hz)
    assert float((got.amplitude - decay * wanted.amplitude).abs().max()) < 1e-4
    assert float(wanted.amplitude.abs().max()) > 0.04


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_the_metrics_are_those_of_the_written_file(place, design_spec, tmp_path):
    """Signal and contamination of the design against `predict` on the file, on the same axis."""
    pulse = random_pulse(250.0)
    te_s = OTHER_TE_S[place]
    spec = spec_at(design_spec, place, linewidth_hz=2.5, carrier_ppm=WATER_PPM + pulse.carrier_offset_hz / 123.2)
    problem = problem_at(spec, positions_per_slice=24, j_step_s=1e-4)
    _, metrics = problem.loss_and_metrics(pulse.b1_hz, *seconds(*te_s))
    seq = read_seq(write(tmp_path / "edited.seq", built_at(place, pulse, te_s)))
    systems = {name: library.spin_system(name) for name in ("Glu", "Gln")}
    prediction = predict(
        seq,
        systems,
        dict.fromkeys(systems, RELAXATION),
        linewidth_hz=2.5,
        range_ppm=spec.window_ppm,
        step_hz=0.5,
        **FREQUENCIES,
    )
    reference = pulse_acquire_spectrum(systems["Glu"], prediction, linewidth_hz=2.5, **FREQUENCIES)
    found = window_result(prediction, "Glu", ("Gln",), (-10.0, 20.0), reference)
    assert prediction.te_s == pytest.approx(sum(te_s), abs=1e-6)
    assert metrics.signal == pytest.approx(found.signal, abs=1e-3)
    assert metrics.contamination == pytest.approx(found.contamination, abs=1e-3)


@pytest.mark.parametrize("place", PLACES)
def test_directional_derivatives_of_the_loss(place, design_spec):
    """Central differences along a random direction, and along TE1 and TE2 alone."""
    spec = spec_at(design_spec, place, target="Lac", interferers=("NAA",), window_ppm=(1.2, 1.45))
    problem = problem_at(spec)
    shape = spline_waveform(
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        knot_spacing_s=spec.knot_spacing_s,
        b1_max_hz=spec.b1_max_hz,
        energy_max_hz2_s=spec.energy_max_hz2_s,
    )
    generator = torch.Generator().manual_seed(5)
    n = shape.n_parameters
    theta = 0.4 * torch.randn(n, generator=generator, dtype=torch.float64)
    x = torch.cat([theta, torch.tensor(TE_S[place], dtype=torch.float64) / 0.01]).requires_grad_()

    def value(at):
        return problem.loss_and_metrics(shape.waveform_hz(at[:-2]), 0.01 * at[-2], 0.01 * at[-1])[0]

    (gradient,) = torch.autograd.grad(value(x), x)
    random = torch.randn(n + 2, generator=generator, dtype=torch.float64)
    one = torch.eye(n + 2, dtype=torch.float64)
    for direction in (random, one[-2], one[-1]):
        step = 1e-4
        with torch.no_grad():
            difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(float(difference), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("place", ["echo_top", "te1", "te2", "te1_te2"])
def test_a_pulse_of_zero_amplitude_leaves_plain_press(place):
    silent = torch.zeros(1000, dtype=torch.complex128)
    times = seconds(*OTHER_TE_S[place])
    edited, plain = (
        model_at(place, "Glu", plain=plain).molecule_lines("Glu", None if plain else silent, 2e-5, -301.0, *times)
        for plain in (False, True)
    )
    assert float((edited.amplitude - plain.amplitude).abs().max()) < 1e-5
    assert float(plain.amplitude.abs().max()) > 0.05


@pytest.mark.parametrize("place", PLACES)
def test_averaged_pulses_are_those_at_every_position(place, design_spec, monkeypatch):
    """Loss and gradient with all fixed pulses as matrices, and with every one at its positions (`play`)."""
    spec = spec_at(design_spec, place, b0_offsets_hz=(-8.0, 8.0), b1_scales=(0.8, 1.1))
    fast = problem_at(spec)
    monkeypatch.setattr(forward, "average", lambda shot, *, start, variable: unaveraged(shot, start=start))
    slow = problem_at(spec)
    b1 = random_pulse(250.0).b1_hz.requires_grad_()
    times = [time.requires_grad_() for time in seconds(*OTHER_TE_S[place])]
    losses = [problem.loss_and_metrics(b1, *times)[0] for problem in (fast, slow)]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), abs=1e-12)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (b1, *times)) for loss in losses), strict=True):
        assert float((mine - theirs).abs().max()) < 1e-11 * float(theirs.abs().max())


def test_the_designed_excitation_is_the_excitation():
    """The sequence's own non-selective excitation, given as a design, is the plain sequence."""
    slr = slr_pulse(flip_angle_rad=0.5 * math.pi, time_bandwidth=6.0, duration_s=2.6e-3, dwell_s=1e-5, name="SLR")
    carrier_hz = (PARAMS.slice_carrier_ppm - WATER_PPM) * F0_HZ * 1e-6
    model = model_at("excitation", "Glu", plain=True)
    times = seconds(*OTHER_TE_S["excitation"])
    own = model.molecule_lines("Glu", None, 1e-5, carrier_hz, *times).amplitude
    designed = model.molecule_lines("Glu", 1j * slr.b1_hz, 1e-5, carrier_hz, *times).amplitude
    assert float((own - designed).abs().max()) < 2e-4
    assert float(own.abs().max()) > 0.1


def test_what_isis_keeps_of_a_singlet():
    """(1 - Mz)/2 of the inversion, summed over all positions by 2 x 2 rotations, in units of the slice's thickness."""
    model = model_at("excitation", "NAA", positions_per_slice=16)
    shares = []
    for shot in model.shots["NAA"]:
        thermal = shot.model.initial_state
        shares.append(float((shot.start[0].mH @ thermal).trace().real / (thermal.mH @ thermal).trace().real))
    pulses = [pulse for shot in template("excitation", stand_in(), TE_S["excitation"]) for _, pulse in shot.pulses()]
    inversion = max((pulse for pulse in pulses if pulse.use == "inversion"), key=lambda pulse: pulse.b1_hz.abs().max())
    # Position counts in Hz of the gradient: 6 kHz hold all that the pulse touches.
    step_hz = 2.0
    detuning_hz = np.arange(-3000.0, 3000.0, step_hz)
    alpha, beta = np.ones(detuning_hz.size, complex), np.zeros(detuning_hz.size, complex)
    b1, dwell_s = waveform_in_carrier_frame(inversion)
    for sample in b1.numpy():
        rate = 2 * np.pi * np.sqrt(abs(sample) ** 2 + detuning_hz**2)
        c, s = np.cos(rate * dwell_s / 2), np.sin(rate * dwell_s / 2) * 2 * np.pi / np.maximum(rate, 1e-12)
        a, b = c - 1j * detuning_hz * s, -1j * sample * s
        alpha, beta = a * alpha - np.conj(b) * beta, b * alpha + np.conj(a) * beta
    inverted = np.abs(beta) ** 2
    thickness_hz = np.count_nonzero(inverted > 0.5) * step_hz
    assert max(shares) - min(shares) < 1e-3
    assert shares[0] == pytest.approx(inverted.sum() * step_hz / thickness_hz, abs=2e-3)
    assert 0.98 < shares[0] < 1.0


@pytest.mark.parametrize("place", ["echo_top", "te1", "te2", "te1_te2"])
def test_the_limits_are_those_of_the_sequence(place):
    """At the stated limit PRESS builds, one step of the raster below it refuses, for short and long TE1."""
    places = places_of(place)
    params = replace(PARAMS, editing_places=places)
    minimum, plain = (PRESS.minimum_te_s(params, context(pulse)) for pulse in (stand_in(), None))
    limits = echo_time_limits(places, minimum, plain, 4e-5)
    for te1_s in (limits.te1_min_s, limits.te1_min_s + 0.011, limits.te1_min_s + 0.03):
        te_s = limits.on_raster(te1_s, 0.0)
        built_at(place, stand_in(), te_s)
        with pytest.raises(InputError, match="te2_s"):
            built_at(place, stand_in(), (te_s[0], te_s[1] - 4e-5))
    with pytest.raises(InputError, match="te1_s"):
        built_at(place, stand_in(), (limits.on_raster(0.0, 0.0)[0] - 4e-5, 0.1))


def test_variables_of_the_optimiser_reach_every_pair_and_no_other():
    limits = EchoTimeLimits(te1_min_s=0.012, te2_sides=((0.0707, -1.0), (0.0466, 1.0)), raster_s=4e-5)
    low, high = np.array(limits.bounds).T
    generator = np.random.default_rng(0)
    for _ in range(200):
        te1_s, te2_s = (float(t) for t in limits.seconds(torch.tensor(generator.uniform(low, high))))
        assert 0.012 <= te1_s <= TE_MAX_S
        assert max(0.0707 - te1_s, 0.0466 + te1_s) - 1e-12 <= te2_s <= TE_MAX_S + 1e-12
        again = limits.seconds(torch.tensor(limits.variables(te1_s, te2_s)))
        assert [float(t) for t in again] == pytest.approx([te1_s, te2_s], abs=1e-12)
    assert [float(t) for t in limits.seconds(torch.tensor(high))] == pytest.approx([TE_MAX_S - 0.0466, TE_MAX_S])
    box = EchoTimeLimits(te1_min_s=0.03, te2_sides=((0.02, 0.0),), raster_s=2e-5)
    assert np.array_equal(box.variables(0.041, 0.034), np.array([0.041, 0.034]) / TE_SCALE_S)
    assert box.bounds == [(3.0, 12.0), (2.0, 12.0)]


def test_an_optimised_pulse_at_the_mega_positions_can_be_built(design_spec):
    """Started on the limit of TE2, whatever the descent does with TE1."""
    places = ("te1", "te2")
    minimum, plain = (
        PRESS.minimum_te_s(replace(PARAMS, editing_places=places), context(pulse)) for pulse in (stand_in(), None)
    )
    limits = echo_time_limits(places, minimum, plain, 4e-5)
    te_s = limits.on_raster(0.02, 0.0)
    spec = design_spec(place=places, te1_s=te_s[0], te2_s=te_s[1], iterations=4)
    result = optimise_pulse(
        problem_at(spec),
        b1_max_hz=979.0,
        te_min_s=minimum,
        te2_sides=limits.te2_sides,
        te_raster_s=limits.raster_s,
        seed=3,
    )
    assert (result.shots[0].te1_s, result.shots[0].te2_s) != te_s
    built_at("te1_te2", result.pulse, (result.shots[0].te1_s, result.shots[0].te2_s))


def test_a_start_that_cannot_be_built_is_refused(design_spec):
    limits = EchoTimeLimits(te1_min_s=0.012, te2_sides=((0.0707, -1.0), (0.0466, 1.0)), raster_s=4e-5)
    with pytest.raises(InputError, match=r"te2 must be at least 87\.6 ms .*te1 and te2 and te1 of 41 ms.*lower te1"):
        limits.require_start(design_spec(place=("te1", "te2")))


@pytest.mark.parametrize(("place", "remedy"), [("excitation", "isis_press"), ("te1", "choose the sequence")])
def test_a_template_that_plays_the_pulse_elsewhere_is_refused(place, remedy, design_spec):
    cycle = template("echo_top", stand_in(), TE_S["echo_top"])
    cycle = cycle if place == "te1" else template("echo_top", None, TE_S["echo_top"])
    given = {"positions_per_slice": 2, **FREQUENCIES}
    names = ("te1", "te2") if place == "te1" else ("excitation",)
    with pytest.raises(InputError, match=remedy):
        echo_model(cycle, {}, {}, ensemble(), places=names, **given)


def protocol_with(tmp_path, *changes):
    text = PHANTOM.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "study.yaml").write_text(text)
    return load_protocol(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("place", "places", "uses"),
    [
        ("echo_top", ("echo_top",), ["excitation", "refocusing", "preparation", "refocusing"]),
        ("te2", ("te2",), ["excitation", "refocusing", "refocusing", "preparation"]),
        ("[te1, te2]", ("te1", "te2"), ["excitation", "refocusing", "preparation", "refocusing", "preparation"]),
    ],
)
def test_a_protocol_plays_the_pulse_where_its_design_places_it(place, places, uses, tmp_path):
    protocol = protocol_with(tmp_path, ("place: echo_top ", f"place: {place} "), ("te2_ms: 34", "te2_ms: 90"))
    assert protocol.design.places == protocol.sequence.params.editing_places == places
    params = replace(protocol.sequence.params, **BARE)
    pulse = random_pulse(250.0)
    built = protocol.sequence.spec.build(
        params,
        BuildContext(
            scanner=protocol.scanner,
            spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
            water_shift_ppm=protocol.water_shift_ppm,
            editing_pulse=pulse,
        ),
    )
    cycle = phase_cycle(built_shots(built.blocks, protocol.scanner, "built"))
    assert [interval.use for _, interval in cycle[0].pulses()] == uses


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [("name: press ", "editing_places: [te1]\n  name: press ")],
            r"study\.yaml:\d+: 'sequence.editing_places' is .*, but 'design.place' puts the pulse at echo_top\.",
        ),
        (
            [("place: echo_top ", "place: excitation ")],
            r"study\.yaml:\d+: 'design.place' is 'excitation', but sequence 'press' plays .*`isis_press` plays it",
        ),
        (
            [("place: echo_top ", "place: te1 "), ("name: press ", "name: mega_press ")],
            r"study\.yaml:\d+: 'design.place' is 'te1', but sequence 'mega_press' plays .* at te1 and te2",
        ),
        (
            [("place: echo_top ", "place: te3 ")],
            r"study\.yaml:\d+: in 'design': place must name one or several",
        ),
    ],
)
def test_contradictions_of_places_are_refused_with_their_line(changes, words, tmp_path):
    with pytest.raises(InputError, match=words):
        protocol_with(tmp_path, *changes)


def test_stated_places_that_agree_are_accepted(tmp_path):
    changes = [
        ("place: echo_top ", "place: [te1, te2] "),
        ("name: press ", "editing_places: [te2, te1]\n  name: press "),
    ]
    assert protocol_with(tmp_path, *changes).design.places == ("te1", "te2")
