"""The sign check read from a scanner that shares no line with seqgen, every sign of it right or wrong in turn."""

from dataclasses import replace

import bloch
import numpy as np
import pytest
from press_files import context, write
from sign_scanner import Interpreter, Phantom, _excited, scan

from seqgen.errors import InputError
from seqgen.mrs.sign_check import read_sign_check
from seqgen.mrs.sign_verdict import CONVENTIONS, Answer, judge, sign_check_text
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.plugins import find_sequence

SPEC = find_sequence("sign_check")
FAITHFUL = Interpreter()
PHANTOM = Phantom()
NO_OIL = Phantom(oil_fraction=0.0)
WRONG = {
    "RF waveform": (Interpreter(waveform=-1), "conjugated"),
    "RF frequency": (Interpreter(rf_frequency=-1), "negated"),
    "RF phase": (Interpreter(rf_phase=-1), "negated"),
    "ADC phase": (Interpreter(adc_phase=-1), "negated"),
    "ADC frequency": (Interpreter(adc_frequency=-1), "negated"),
    "samples": (Interpreter(samples=-1), "conjugated"),
    "gradient x": (Interpreter(gradients=((-1, 0, 0), (0, 1, 0), (0, 0, 1))), "negated"),
    "gradient y": (Interpreter(gradients=((1, 0, 0), (0, -1, 0), (0, 0, 1))), "negated"),
    "gradient z": (Interpreter(gradients=((1, 0, 0), (0, 1, 0), (0, 0, -1))), "negated"),
}
MIRROR = Interpreter(
    waveform=-1,
    rf_frequency=-1,
    rf_phase=-1,
    adc_phase=-1,
    adc_frequency=-1,
    samples=-1,
    gradients=((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
)
WAVEFORM_AGAINST_FREQUENCY = "RF waveform against RF frequency"


@pytest.fixture(scope="module")
def seq(tmp_path_factory):
    built = SPEC.build(SPEC.Params(), context())
    return read_seq(write(tmp_path_factory.mktemp("signs") / "sign_check.seq", built))


def read(seq, interpreter, phantom=PHANTOM, snr=60.0, seed=0, displaced=True, **known):
    samples = scan(seq, interpreter, phantom, snr=snr, seed=seed)
    return read_sign_check(samples, seq, displacement_m=phantom.centre_m if displaced else None, **known)


def verdicts(rows):
    return {row.name: row.verdict for row in rows}


def unlike(found, verdict="faithful"):
    return {name: v for name, v in verdicts(found.conventions).items() if v != verdict}


# --- The scanner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset_hz", [-310.0, 0.0, 40.0])
def test_the_scanner_excites_as_the_bloch_equations_do(seq, offset_hz):
    """The carrier with its waveform, at the middle of the pulse's last sample and beyond, on three spins."""
    pulses = list({block.rf.key: block.rf for block in seq.blocks if block.rf is not None}.values())
    phantom = replace(PHANTOM, water_hz=offset_hz, shim_hz=0.0, oil_fraction=0.0, oil_from_water_hz=-400.0)
    for rf in pulses[:4]:
        plus, left = _excited(rf, np.zeros(3), FAITHFUL, phantom)
        m = bloch.along_z(1)
        for b1 in rf.played_hz().reshape(-1, 10).mean(1):
            m = bloch.rotate(m, b1, np.array([offset_hz]), 10 * rf.dwell_s)
        # Linear interpolation between grid points 15 Hz apart: (15 / 80)^2 / 8.
        assert abs(plus[0] - (m[0, 0] + 1j * m[0, 1])) < 8e-3
        assert abs(left[0] - m[0, 2]) < 8e-3


# --- One error at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("b1_scale", [0.8, 1.2])
@pytest.mark.parametrize("water_hz", [-15.0, 15.0])
def test_a_faithful_interpreter_is_called_faithful(seq, b1_scale, water_hz):
    found = read(seq, FAITHFUL, replace(PHANTOM, b1_scale=b1_scale, water_hz=water_hz))
    assert unlike(found) == {}
    assert set(verdicts(found.relations).values()) == {"faithful"}
    assert found.contradiction == ()
    assert found.unfaithful == ()
    assert found.water_hz == pytest.approx(water_hz, abs=4)
    np.testing.assert_allclose(found.centroids_m, PHANTOM.centre_m, atol=0.006)


@pytest.mark.parametrize("name", WRONG)
def test_one_error_is_named_and_nothing_else(seq, name):
    interpreter, word = WRONG[name]
    phantom = replace(PHANTOM, water_hz=-15.0 if "gradient" in name else 15.0, b1_scale=0.8)
    found = read(seq, interpreter, phantom, seed=3)
    assert unlike(found) == {name: word}
    opposed = {row.name for row in found.relations if name in row.name.split(" against ")}
    assert {row.name for row in found.relations if row.verdict == "opposed"} == opposed
    assert name == "samples" or opposed


@pytest.mark.parametrize(
    ("interpreter", "wrong"),
    [
        (
            Interpreter(waveform=-1, rf_frequency=-1, rf_phase=-1),
            {"RF waveform": "conjugated", "RF frequency": "negated", "RF phase": "negated"},
        ),
        (Interpreter(samples=-1, adc_phase=-1), {"samples": "conjugated", "ADC phase": "negated"}),
        (MIRROR, dict.fromkeys(CONVENTIONS, "negated") | {"RF waveform": "conjugated", "samples": "conjugated"}),
    ],
)
def test_several_errors_are_told_apart_with_a_second_line(seq, interpreter, wrong):
    assert unlike(read(seq, interpreter)) == wrong


def test_swapped_gradients_are_named_with_the_axes_they_play_along(seq):
    found = read(seq, Interpreter(gradients=((0, -1, 0), (1, 0, 0), (0, 0, 1))))
    assert unlike(found) == {"gradient x": "swapped", "gradient y": "swapped"}
    notes = {row.name: row.note for row in found.conventions if row.verdict == "swapped"}
    # Played x is -1 times what y commands: the gradient commanded on y plays along -x, that on x along +y.
    assert notes["gradient x"].startswith("plays along +y")
    assert notes["gradient y"].startswith("plays along -x")


def test_the_1_4_1_file_answers_alike(tmp_path):
    built = SPEC.build(SPEC.Params(), context())
    old = read_seq(write(tmp_path / "sign_check.seq", built, "1.4.1"))
    assert unlike(read(old, WRONG["RF waveform"][0])) == {"RF waveform": "conjugated"}


# --- What cannot be told ---------------------------------------------------------------------------------------------


def test_noise_settles_nothing(seq):
    n = sum(block.adc is not None for block in seq.blocks)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(n, 1 + seed % 4, 512)) + 1j * rng.normal(size=(n, 1 + seed % 4, 512))
        found = read_sign_check(noise, seq, displacement_m=(0.02, -0.035, 0.06), water_offset_hz=-80.0)
        assert {row.verdict for row in (*found.relations, *found.conventions)} == {"undecided"}
    silent = read_sign_check(np.zeros((n, 2, 512), complex), seq, displacement_m=(0.02, -0.035, 0.06))
    assert {row.verdict for row in (*silent.relations, *silent.conventions)} == {"undecided"}


@pytest.mark.parametrize("snr", [0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_a_weak_signal_is_undecided_before_it_is_wrong(seq, snr):
    for interpreter, wrong in ((FAITHFUL, {}), (Interpreter(waveform=-1), {"RF waveform": "conjugated"})):
        for seed in range(6):
            found = read(seq, interpreter, snr=snr, seed=seed)
            for name, verdict in verdicts(found.conventions).items():
                assert verdict in (wrong.get(name, "faithful"), "undecided"), (snr, seed, name)


@pytest.mark.parametrize("shim_hz", [8.0, 60.0])
def test_water_alone_settles_relations_and_no_absolute_sense(seq, shim_hz):
    for interpreter, relation in ((FAITHFUL, "faithful"), (Interpreter(waveform=-1), "opposed")):
        found = read(seq, interpreter, replace(NO_OIL, shim_hz=shim_hz))
        assert verdicts(found.relations)[WAVEFORM_AGAINST_FREQUENCY] == relation
        assert set(verdicts(found.conventions).values()) == {"undecided"}
        assert {row.note for row in found.conventions} == {"all may be mirrored at once"}


def test_a_mirror_of_everything_is_invisible_to_water_on_resonance(seq):
    found = read(seq, MIRROR, NO_OIL)
    assert set(verdicts(found.relations).values()) == {"faithful"}
    assert set(verdicts(found.conventions).values()) == {"undecided"}


@pytest.mark.parametrize("offset_hz", [-80.0, 60.0])
def test_a_known_offset_of_water_replaces_the_second_line(seq, offset_hz):
    phantom = replace(NO_OIL, water_hz=offset_hz + 12.0)
    for name in ("RF waveform", "samples"):
        interpreter, word = WRONG[name]
        assert unlike(read(seq, interpreter, phantom, water_offset_hz=offset_hz)) == {name: word}
    assert "faithful" not in verdicts(read(seq, MIRROR, phantom, water_offset_hz=offset_hz).conventions).values()


def test_an_offset_of_water_that_a_shim_may_make_settles_nothing(seq):
    found = read(seq, FAITHFUL, replace(NO_OIL, water_hz=-20.0), water_offset_hz=-20.0)
    assert set(verdicts(found.conventions).values()) == {"undecided"}


def test_places_count_from_where_water_is_read(seq):
    """80 Hz are 2.4 mm in the projections."""
    on, off = (read(seq, FAITHFUL, replace(NO_OIL, water_hz=hz), snr=1e4).centroids_m for hz in (0.0, -80.0))
    np.testing.assert_allclose(on, off, atol=1e-3)  # the edge of the pulse weights the shim


def test_a_line_as_weak_as_leakage_is_not_believed(seq):
    found = read(seq, FAITHFUL, replace(PHANTOM, oil_fraction=0.01), snr=1e4)
    assert set(verdicts(found.conventions).values()) == {"undecided"}


def test_an_answer_and_its_mirror_image_together_are_none(seq):
    """A receiver with unbalanced quadrature shows half of everything mirrored."""
    samples = scan(seq, FAITHFUL, PHANTOM, snr=1e3)
    found = read_sign_check(samples + 0.5 * samples.conj(), seq)
    signs = {answer.name: answer.sign for answer in found.answers}
    assert signs["ADC frequency of +500 Hz"] == signs["place of the second line"] == 0


def test_what_leaks_from_outside_a_slab_is_no_answer(seq):
    """The sample ends 20 mm before the slab at +25 mm along y; without noise a little of it is excited all the same."""
    found = read(seq, FAITHFUL, replace(NO_OIL, centre_m=(0.02, -0.04, 0.06)), snr=np.inf)
    answer = next(answer for answer in found.answers if answer.name == "slabs along y")
    assert answer.sign == 1
    assert "nothing for +25 mm" in answer.numbers


def test_without_its_place_the_sample_does_not_tell_gradients(seq):
    found = read(seq, FAITHFUL, displaced=False)
    assert unlike(found) == dict.fromkeys(("gradient x", "gradient y", "gradient z"), "undecided")


@pytest.mark.parametrize(
    ("centre_m", "open_axes"), [((0.0, 0.0, 0.06), "xy"), ((0.03, 0.03, 0.06), "xy"), ((0.002, -0.035, 0.06), "x")]
)
def test_axes_that_look_alike_stay_open(seq, centre_m, open_axes):
    found = read(seq, FAITHFUL, replace(PHANTOM, centre_m=centre_m))
    assert unlike(found) == {f"gradient {axis}": "undecided" for axis in open_axes}


def test_a_place_that_is_wrong_is_not_believed(seq):
    samples = scan(seq, FAITHFUL, PHANTOM)
    found = read_sign_check(samples, seq, displacement_m=(0.05, -0.01, 0.03))
    assert unlike(found) == dict.fromkeys(("gradient x", "gradient y", "gradient z"), "undecided")
    assert "no way to swap" in sign_check_text(found)


@pytest.mark.parametrize(
    ("interpreter", "open_relation"),
    [
        (Interpreter(rf_frequency=0), WAVEFORM_AGAINST_FREQUENCY),
        (Interpreter(waveform=0), WAVEFORM_AGAINST_FREQUENCY),
        (Interpreter(adc_frequency=0), "ADC frequency against RF frequency"),
        (Interpreter(rf_phase=0, adc_phase=0), "ADC phase against RF phase"),
    ],
)
def test_what_an_interpreter_ignores_is_undecided(seq, interpreter, open_relation):
    found = read(seq, interpreter)
    assert verdicts(found.relations)[open_relation] == "undecided"
    assert found.unfaithful == ()


def test_a_second_line_too_near_for_the_pulse_is_left_alone(tmp_path):
    built = SPEC.build(SPEC.Params(line_ppm=3.9), context())
    found = read(read_seq(write(tmp_path / "near.seq", built)), FAITHFUL)
    assert "too near" in next(answer.numbers for answer in found.answers if answer.name == "second line")
    assert set(verdicts(found.conventions).values()) == {"undecided"}


def test_answers_that_contradict_each_other_settle_nothing():
    answers = [
        Answer(name=name, factors=factors, sign=sign, numbers="")
        for name, factors, sign in (
            ("a", ("RF waveform", "RF frequency"), 1),
            ("b", ("samples", "RF waveform"), 1),
            ("c", ("samples", "RF frequency"), -1),
            ("d", ("samples",), 1),
        )
    ]
    found = judge(answers, {}, water_hz=0.0, water_snr=100.0, centroids_m=(None, None, None))
    assert found.contradiction == (0, 1, 2)
    assert {row.verdict for row in (*found.relations, *found.conventions)} == {"undecided"}
    assert "Answers 1, 2, 3 cannot all be true" in sign_check_text(found)


# --- What is refused -------------------------------------------------------------------------------------------------


def test_another_sequence_is_refused(tmp_path):
    press = find_sequence("press")
    built = press.build(press.Params(te1_s=0.04, te2_s=0.04, tr_s=2.0, voxel_size_m=(0.02,) * 3), context())
    other = read_seq(write(tmp_path / "press.seq", built))
    with pytest.raises(InputError, match=r"press\.seq is no sign check"):
        read_sign_check(np.zeros((34, 1, 2048), complex), other)


@pytest.mark.parametrize("shape", [(36, 1, 256), (35, 1, 512), (36, 512)])
def test_samples_of_another_shape_are_refused(seq, shape):
    with pytest.raises(InputError, match="takes 36 readouts of 512 samples"):
        read_sign_check(np.zeros(shape, complex), seq)


def test_samples_that_are_no_numbers_and_a_place_that_is_none_are_refused(seq):
    samples = np.ones((36, 1, 512), complex)
    with pytest.raises(InputError, match="three finite numbers"):
        read_sign_check(scan(seq, FAITHFUL, PHANTOM), seq, displacement_m=(0.01, 0.02))
    samples[3, 0, 5] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        read_sign_check(samples, seq)
