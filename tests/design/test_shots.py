"""Several shots and waveforms: what they combine to, against sums and Fisher matrices written out in NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from press_files import PARAMS, PRESS, SCANNER, context

from seqgen import library
from seqgen.design.echo_times import EchoTimeLimits
from seqgen.design.evaluate import evaluator
from seqgen.design.forward import PlayedShot
from seqgen.design.optimise import optimise_pulse
from seqgen.design.variables import OFFSET_SCALE_HZ, Variables
from seqgen.errors import InputError
from seqgen.pulse.parameterise import spline_waveform
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.sequence.plugins import DesignedShot
from seqgen.spin.system import Relaxation

F0_HZ, WATER_PPM = 123.2e6, 4.8
TE_S = (0.041, 0.034)
BARE = {"water_suppression": "none", "averages": 2, "dummy_scans": 0, "water_reference_averages": 0}
RASTER_S = 2e-5


def seconds(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


def wave(seed, n=1000, size_hz=60.0):
    rng = np.random.default_rng(seed)
    smooth = np.hanning(n) * np.exp(2j * np.pi * rng.uniform(-20, 20) * np.arange(n) * 2e-5)
    return torch.as_tensor(size_hz * smooth * np.exp(1j * rng.uniform(0, 6)))


def pulse_of(b1_hz):
    return RFPulse(b1_hz=b1_hz, dwell_s=2e-5, name="edit")


def template(edited, te_s=TE_S, places=("echo_top",)):
    params = replace(PARAMS, editing_places=places, te1_s=te_s[0], te2_s=te_s[1], **BARE)
    built = PRESS.build(params, context(pulse_of(torch.ones(1000, dtype=torch.complex128)) if edited else None))
    return phase_cycle(built_shots(built.blocks, SCANNER, "template"))


@pytest.fixture(scope="module")
def problems(design_spec):
    """Problems by shots, combination and losses; prepared once."""
    made = {}

    def problem(shots=("edited",), combine="joint", loss=(("window", 1.0),), places=("echo_top",), te_s=TE_S, **more):
        key = (shots, combine, loss, places, te_s, tuple(sorted(more.items())))
        if key not in made:
            spec = design_spec(
                shots=shots, combine=combine, loss=dict(loss), place=places, te1_s=te_s[0], te2_s=te_s[1], **more
            )
            names = ("Glu", "Gln", "NAA")
            made[key] = evaluator(
                spec,
                template(True, te_s, places),
                {name: library.spin_system(name) for name in names},
                dict.fromkeys(names, Relaxation(t1_s=1.2, t2_s=0.16)),
                spectrometer_frequency_hz=F0_HZ,
                reference_ppm=WATER_PPM,
                positions_per_slice=2,
                j_step_s=4e-4,
                tr_s=2.0,
                plain_template=template(False, te_s, places) if "plain" in shots else None,
            )
        return made[key]

    return problem


def shot(b1_hz, te_s=TE_S):
    te1_s, te2_s = seconds(*te_s)
    return PlayedShot(b1_hz=b1_hz, te1_s=te1_s, te2_s=te2_s)


def lines(problem, b1_hz, name):
    model = problem.model if b1_hz is not None else problem.plain
    return model.molecule_lines(name, b1_hz, 2e-5, problem.carrier_hz, *seconds(*TE_S)).amplitude


def test_half_the_difference_of_on_and_off(problems):
    """Window figures from the lines of either shot, subtracted here."""
    problem = problems(("edited", "plain"), "difference")
    on = wave(1)
    _, metrics = problem.loss_of_shots([shot(on), shot(None)])
    energy = {}
    for name in ("Glu", "Gln"):
        amplitude = (lines(problem, on, name) - lines(problem, None, name)).numpy() / 2
        spectrum = amplitude @ problem.window.response[name].numpy()
        energy[name] = float((np.abs(spectrum) ** 2).sum()) * problem.window.step_hz
    assert metrics.contamination == pytest.approx(math.sqrt(energy["Gln"] / energy["Glu"]), rel=1e-9)
    assert metrics.signal == pytest.approx(math.sqrt(energy["Glu"] / float(problem.reference_energy)), rel=1e-9)
    phases = problem.receiver_phase_rad([shot(on), shot(None)])
    turned = ((lines(problem, on, "Glu") - lines(problem, None, "Glu")) @ problem.window.response["Glu"]).sum()
    assert phases[0] == phases[1] == pytest.approx(np.angle(turned.item()), abs=1e-6)


def test_what_neither_shot_changes_cancels(problems):
    """A pulse of no amplitude is the plain shot of the same model: the difference of two such is nothing."""
    problem = problems(("edited", "edited"), "difference")
    same = wave(2)
    with pytest.raises(InputError, match="window"):
        problem.loss_of_shots([shot(same), shot(same)])


def test_bounds_of_shots_that_share_the_time(problems):
    """Half of the scan each: the mean of two Fisher matrices, nuisances of each eliminated by itself."""
    problem = problems(("edited", "plain"), "joint", (("crlb", 1.0),))
    on = wave(3)
    _, metrics = problem.loss_of_shots([shot(on), shot(None)])
    information = 0.0
    for b1_hz in (on, None):
        columns = np.stack(
            [(lines(problem, b1_hz, name) @ problem.fit.response[name])[0].numpy() for name in problem.fit.response], 1
        )
        whole = np.concatenate([columns, problem.baseline.numpy()], 1)
        fisher = (whole.conj().T @ whole).real
        p = columns.shape[1]
        schur = fisher[:p, :p] - fisher[:p, p:] @ np.linalg.solve(fisher[p:, p:], fisher[p:, :p])
        information = information + 0.5 * schur
    sd = np.sqrt(np.diag(np.linalg.inv(information)))
    assert metrics.bounds["Glu"] == pytest.approx(sd[0], rel=1e-8)
    assert metrics.bounds["Gln"] == pytest.approx(sd[1], rel=1e-8)
    assert metrics.loss == pytest.approx(np.log(sd[:2]).mean(), rel=1e-8)


def test_two_equal_shots_are_one(problems):
    """Twice the same shot in the same time says what one shot says."""
    b1_hz = wave(4)
    _, one = problems(loss=(("crlb", 1.0),)).loss_of_shots([shot(b1_hz)])
    _, two = problems(("edited", "edited"), "joint", (("crlb", 1.0),)).loss_of_shots([shot(b1_hz), shot(b1_hz)])
    assert two.bounds["Gln"] == pytest.approx(one.bounds["Gln"], rel=1e-9)
    assert two.loss == pytest.approx(one.loss, rel=1e-9)


def test_equal_scan_time_counts_for_every_shot(problems):
    """sqrt(TR) / (1 - exp(-TR/T1)), all T1 alike here."""
    loss = (("crlb", 1.0),)
    shots = [shot(wave(5)), shot(wave(6))]
    _, plain = problems(("edited", "edited"), "joint", loss).loss_of_shots(shots)
    _, timed = problems(("edited", "edited"), "joint", loss, equal_scan_time=True).loss_of_shots(shots)
    assert timed.bounds["Glu"] / plain.bounds["Glu"] == pytest.approx(math.sqrt(2) / (1 - math.exp(-2 / 1.2)), rel=1e-9)


def test_a_waveform_for_each_place_is_played_there(problems):
    """Two waveforms at te1 and te2: alike they are the one waveform, exchanged they are something else."""
    problem = problems(places=("te1", "te2"), te_s=(0.02, 0.07))
    a, b = wave(7, size_hz=25.0), wave(8)

    def signal(b1_hz):
        return problem.loss_of_shots([shot(b1_hz, (0.02, 0.07))])[1].signal

    assert signal({"te1": a, "te2": a}) == signal(a)
    assert abs(signal({"te1": a, "te2": b}) - signal({"te1": b, "te2": a})) > 1e-3
    silent = torch.zeros_like(a)
    only_first = signal({"te1": a, "te2": silent})
    other = problems(places=("te1",), te_s=(0.02, 0.07)).loss_of_shots([shot(a, (0.02, 0.07))])[1].signal
    assert only_first == pytest.approx(other, rel=1e-6)


def variables(design_spec, **changes):
    spec = design_spec(**changes)
    shape = spline_waveform(
        duration_s=0.02, dwell_s=2e-5, knot_spacing_s=5e-4, b1_max_hz=300.0, energy_max_hz2_s=1000.0
    )
    limits, plain = (
        EchoTimeLimits(te1_min_s=te1_s, te2_sides=((0.02, 0.0),), raster_s=RASTER_S) for te1_s in (0.03, 0.012)
    )
    return Variables(spec=spec, shape=shape, limits=limits, plain_limits=plain)


def test_the_vector_and_what_it_plays(design_spec):
    """Waveforms in order of shots and places, one pair of echo times for each shot; the start gives those of the
    spec."""
    made = variables(
        design_spec,
        place=("echo_top", "te2"),
        own_waveforms=True,
        shots=("edited", "plain", "edited"),
        own_echo_times=True,
        loss={"crlb": 1.0},
    )
    n = made.shape.n_parameters
    rng = np.random.default_rng(0)
    theta = rng.normal(size=4 * n)
    x = made.start(theta)
    assert x.shape == (4 * n + 6,)
    assert (made.bounds()[0] <= x).all()
    assert (x <= made.bounds()[1]).all()
    first, plain, last = made.shots(torch.tensor(x))
    assert plain.b1_hz is None
    for place, got, k in (("echo_top", first, 0), ("te2", first, 1), ("echo_top", last, 2), ("te2", last, 3)):
        torch.testing.assert_close(got.b1_hz[place], made.shape.waveform_hz(torch.tensor(theta[k * n : (k + 1) * n])))
    for got in (first, plain, last):
        assert (float(got.te1_s), float(got.te2_s)) == pytest.approx(TE_S)
    x[-4:-2] = (1.5, 2.5)
    assert float(made.shots(torch.tensor(x))[1].te2_s) == pytest.approx(0.025)
    assert float(made.bounds()[0, -4]) == pytest.approx(1.2)


def test_phase_and_offset_turn_a_waveform_and_keep_its_amplitude(design_spec):
    made = variables(design_spec, optimise_offset=True, offset_max_hz=50.0)
    theta = np.random.default_rng(1).normal(size=made.shape.n_parameters)
    x = made.start(theta)
    still = made.waveforms_hz(torch.tensor(x))[0].numpy()
    x[-4:-2] = (0.7, 1.25)
    turned = made.waveforms_hz(torch.tensor(x))[0].numpy()
    t_s = (np.arange(1000) + 0.5) * 2e-5 - 0.01
    np.testing.assert_allclose(turned, still * np.exp(1j * (0.7 + 2 * np.pi * 1.25 * OFFSET_SCALE_HZ * t_s)), atol=1e-9)
    assert made.bounds()[1, -3] == pytest.approx(50.0 / OFFSET_SCALE_HZ)
    assert np.isinf(made.bounds()[1, -4])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shots": ()}, "shots must name"),
        ({"shots": ("plain",)}, "at least one edited"),
        ({"shots": ("edited", "plain", "plain")}, "at most one plain"),
        ({"combine": "difference"}, "needs two shots"),
        ({"shots": ("plain", "edited"), "combine": "difference"}, "the first one edited"),
        ({"shots": ("edited", "plain"), "combine": "difference", "own_echo_times": True}, "own_echo_times True"),
        ({"shots": ("edited", "plain")}, "window looks at one spectrum"),
        ({"place": ("te1", "te1")}, "each once"),
        ({"place": ()}, "place must name"),
        ({"offset_max_hz": 0.0}, "offset_max_hz must be positive"),
        ({"own_waveforms": True}, "own_waveforms gives every place"),
        ({"own_echo_times": True}, "own_echo_times gives every shot"),
        ({"optimise_offset": True, "bandwidth_max_hz": 900.0}, "bandwidth_max_hz counts from the carrier"),
    ],
)
def test_shots_that_make_no_design_are_refused(changes, words, design_spec):
    with pytest.raises(InputError, match=words):
        design_spec(**changes)


def test_an_on_off_pair_descends_and_keeps_the_limits(problems, minimum_te_s):
    problem = problems(("edited", "edited"), "difference", iterations=3)
    found = optimise_pulse(problem, b1_max_hz=979.0, te_min_s=minimum_te_s[True], te_raster_s=RASTER_S, seed=5)
    assert found.history[0][-1] < found.history[0][0]
    assert len(found.shots) == 2
    on, off = (each.pulses["echo_top"] for each in found.shots)
    assert float((on.b1_hz - off.b1_hz).abs().max()) > 1.0
    for pulse in (on, off):
        assert pulse.peak_hz <= 300.0
        assert pulse.energy_hz2_s <= 1000.0
    assert found.shots[0].te1_s == found.shots[1].te1_s


def test_shots_of_a_design_take_turns_in_the_sequence():
    """ON, OFF, and a third with echo times of its own: labels, pulses, readout times and receiver phases."""
    te_s = (TE_S, TE_S, (0.045, 0.095))
    shots = (
        DesignedShot(pulses={"echo_top": pulse_of(wave(1))}, te1_s=0.041, te2_s=0.034, receiver_phase_rad=0.3),
        DesignedShot(pulses={}, te1_s=0.041, te2_s=0.034, receiver_phase_rad=-0.2),
        DesignedShot(
            pulses={"echo_top": pulse_of(wave(2)), "te2": pulse_of(wave(3, size_hz=40.0))}, te1_s=0.045, te2_s=0.095
        ),
    )
    params = replace(PARAMS, editing_places=("echo_top", "te2"), **(BARE | {"averages": 6}), te1_s=0.041, te2_s=0.034)
    built = PRESS.build(params, replace(context(None), editing_shots=shots))
    readouts = [block for block in built.blocks if block.adc is not None]
    assert [block.labels["SET"] for block in readouts] == [0, 1, 2, 0, 1, 2]
    bare = PRESS.build(replace(params, editing_places=("echo_top",)), context(None))
    phases = [block.adc.phase_rad for block in bare.blocks if block.adc is not None]
    got = [block.adc.phase_rad for block in readouts]
    turned = np.angle(np.exp(1j * (np.array(got) - np.repeat([phases[0], phases[1]], 3))))
    np.testing.assert_allclose(turned, [0.3, -0.2, 0.0] * 2, atol=1e-9)
    timelines = [each.timeline for each in built_shots(built.blocks, SCANNER, "shots")]
    for timeline, shot_of, (te1_s, te2_s) in zip(timelines[:3], shots, te_s, strict=True):
        times = {interval.use: time for time, interval in timeline.pulses()}
        designed = [interval for _, interval in timeline.pulses() if interval.use == "preparation"]
        assert len(designed) == len(shot_of.pulses)
        for interval, pulse in zip(designed, shot_of.pulses.values(), strict=True):
            assert float(interval.b1_hz.abs().max()) == pytest.approx(pulse.peak_hz, rel=1e-9)
        refocusing = [time for time, interval in timeline.pulses() if interval.use == "refocusing"]
        assert refocusing[0] - times["excitation"] == pytest.approx(te1_s / 2, abs=1e-9)
        assert refocusing[1] - times["excitation"] == pytest.approx(te1_s + te2_s / 2, abs=1e-9)


@pytest.mark.parametrize("knots_s", [5e-4, 1e-4, 4e-5])
def test_a_saturated_waveform_still_begins_and_ends_near_zero(design_spec, knots_s):
    """Coefficients at their bounds, as large as they may be: the amplitude limit is reached within, not at the ends."""
    made = variables(design_spec, knot_spacing_s=knots_s)
    shape = spline_waveform(
        duration_s=0.02, dwell_s=2e-5, knot_spacing_s=knots_s, b1_max_hz=100.0, energy_max_hz2_s=1e6
    )
    made = replace(made, shape=shape)
    low, high = made.bounds()
    x = made.start(np.clip(np.full(shape.n_parameters, 1e9), low[:-2], high[:-2]))
    size = made.waveforms_hz(torch.tensor(x))[0].abs()
    assert float(size.max()) > 99
    assert float(max(size[0], size[-1])) < 15
    inner = low[: shape.n_parameters // 2]
    assert np.isinf(inner[len(inner) // 2])
