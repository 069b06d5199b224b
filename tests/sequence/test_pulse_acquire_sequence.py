"""Pulse-acquire: what its files play, against closed forms."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from press_files import write

from seqgen import library
from seqgen.errors import HardwareLimitError, InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.contract import check_sequence, failures
from seqgen.sequence.plugins import BuildContext, find_sequence
from seqgen.simulate.molecule import molecule_lines
from seqgen.simulate.pathways import principal_echo

SPEC = find_sequence("pulse_acquire")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "pulse_acquire.md"
WATER_PPM = 4.65


def bench(pulse=None):
    return BuildContext(
        scanner=library.scanner("bench_11p7t"),
        spectrometer_frequency_hz=500e6,
        water_shift_ppm=WATER_PPM,
        editing_pulse=pulse,
    )


def params(**changes):
    return SPEC.Params(**({"tr_s": 3.0, "pulse_duration_s": 1e-5, "carrier_ppm": 2.6, "adc_samples": 512} | changes))


def played(folder, pulse=None, **changes):
    return shots(
        read_seq(write(folder / "p.seq", SPEC.build(params(**changes), bench(pulse)), scanner=bench().scanner))
    )


@pytest.mark.parametrize("changes", [{}, {"spoiler_moment_per_m": 2000.0, "dummy_scans": 2, "phase_cycle": "two_step"}])
def test_it_keeps_the_contract_on_the_bench(changes):
    assert failures(check_sequence(SPEC, params(**changes), bench())) == []


@pytest.mark.parametrize(
    ("cycle", "degrees"), [("one_step", (0,)), ("two_step", (0, 180)), ("cyclops", (0, 90, 180, 270))]
)
def test_pulse_and_receiver_step_together(cycle, degrees, tmp_path):
    """The wanted order adds up; an image, which a receiver makes of order +1, cancels in cyclops alone."""
    found = played(tmp_path, phase_cycle=cycle, averages=2 * len(degrees))
    assert [shot.labels["PHS"] for shot in found] == list(range(len(degrees))) * 2
    assert [shot.labels["REP"] for shot in found] == [0] * len(degrees) + [1] * len(degrees)
    turned = [np.angle(shot.timeline.pulses()[0][1].b1_hz.numpy().mean()) for shot in found]
    receiver = np.array([shot.readout.phase_rad for shot in found])
    assert np.exp(1j * (np.array(turned) - turned[0])) == pytest.approx(np.exp(1j * np.deg2rad(degrees * 2)), abs=1e-5)
    assert np.exp(1j * receiver) == pytest.approx(np.exp(1j * np.deg2rad(degrees * 2)), abs=1e-5)
    assert principal_echo(phase_cycle(found)).pathway.cycle_weight == pytest.approx(1.0, abs=1e-5)
    image = np.mean(np.exp(-1j * (np.array(turned) - turned[0])) * np.exp(-1j * receiver))
    assert abs(image) == pytest.approx(0.0 if cycle == "cyclops" else 1.0, abs=1e-5)


@pytest.mark.parametrize("flip_rad", [0.4, math.pi / 2, 2.2])
def test_a_hard_pulse_on_resonance_gives_the_sine_of_its_flip_angle(flip_rad, tmp_path):
    """Acetate, one line at 1.904 ppm, phase 0: +z turns towards +x."""
    found = phase_cycle(played(tmp_path, flip_angle_rad=flip_rad, carrier_ppm=1.904, pulse_duration_s=2e-5))
    lines = molecule_lines(
        found, library.spin_system("Acetate"), spectrometer_frequency_hz=500e6, reference_ppm=WATER_PPM
    )
    # The state turns with the carrier from the centre of the pulse to its end.
    turn = np.exp(2j * math.pi * (1.904 - WATER_PPM) * 500 * 1e-5)
    assert complex(lines.amplitude.sum()) == pytest.approx(3 * math.sin(flip_rad) * turn, abs=1e-4)


def test_off_resonance_is_the_tilted_axis_of_a_rectangle(tmp_path):
    """Rabi: |Mxy| of a rectangular pulse of flip angle beta at offset f, one isolated line, closed form."""
    duration_s, offset_hz = 5e-4, 400.0
    found = phase_cycle(played(tmp_path, pulse_duration_s=duration_s, carrier_ppm=1.904 - offset_hz / 500))
    lines = molecule_lines(
        found, library.spin_system("Acetate"), spectrometer_frequency_hz=500e6, reference_ppm=WATER_PPM
    )
    nu1 = 0.25 / duration_s
    effective = math.hypot(nu1, offset_hz)
    mz = 1 - 2 * (nu1 / effective) ** 2 * math.sin(math.pi * effective * duration_s) ** 2
    assert abs(complex(lines.amplitude.sum())) == pytest.approx(3 * math.sqrt(1 - mz**2), abs=1e-4)


def test_times_of_a_shot(tmp_path):
    """Dead time 10 us, pulse 10 us, ringdown 10 us, ADC dead time 10 us, on a block raster of 10 us; then TR."""
    found = played(tmp_path, averages=4, dummy_scans=1)
    opens_s = [shot.timeline.readouts()[0][0] for shot in found]
    centres_s = [shot.timeline.pulses()[-1][0] for shot in found]
    assert np.subtract(opens_s, centres_s) == pytest.approx([2.5e-5] * 4, abs=1e-9)
    # Dead time and ringdown: the receiver of the first shot, after one dummy scan, opens 40 us into it.
    at_s = [shot.start_s + opened_s for shot, opened_s in zip(found, opens_s, strict=True)]
    assert at_s == pytest.approx([3.0 + 3.0 * k + 4e-5 for k in range(4)], abs=1e-9)


def test_the_designed_pulse_is_played_as_it_is(tmp_path):
    b1_hz = torch.polar(
        torch.linspace(10, 200, 100, dtype=torch.float64), torch.linspace(0, 9, 100, dtype=torch.float64)
    )
    pulse = RFPulse(b1_hz=b1_hz, dwell_s=5e-5, carrier_offset_hz=-1025.0, name="edit")
    built = SPEC.build(params(), bench(pulse))
    (rf, *_) = [block.rf for block in built.blocks if block.rf is not None]
    assert built.definitions["Name"] == "pulse_acquire_designed"
    assert (rf.use, rf.frequency_hz, rf.phase_rad) == ("excitation", -1025.0, 0.0)
    assert torch.equal(rf.b1_hz, b1_hz.repeat_interleave(50))
    assert played(tmp_path, pulse)[0].timeline.pulses()[0][1].duration_s == pytest.approx(5e-3)


def test_the_spoiler_has_its_moment_along_every_axis():
    built = SPEC.build(params(spoiler_moment_per_m=1732.0), bench())
    lobes = [block.gradients for block in built.blocks if any(block.gradients)]
    assert len(lobes) == 4
    for lobe in lobes:
        moments = [g.amplitude_hz_per_m * (g.rise_s + g.flat_s) for g in lobe]
        assert moments == pytest.approx([1000.0] * 3, rel=1e-3)
    assert not any(any(block.gradients) for block in SPEC.build(params(), bench()).blocks)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"averages": 6}, r"averages must be a multiple of 4 \(steps of the phase cycle\) and at least 4, but is 6"),
        ({"averages": 0}, "averages must be a multiple of 4"),
        ({"phase_cycle": "exor_16"}, "phase_cycle must be one of one_step, two_step, cyclops"),
        ({"pulse_duration_s": 1.05e-5}, "pulse_duration_s must be a multiple of the RF raster of bench_11p7t, 1e-06 s"),
        ({"flip_angle_rad": 0.0}, "flip_angle_rad must be positive"),
        ({"carrier_ppm": 600.0}, "carrier_ppm must be from -1 to 10"),
        ({"adc_samples": 510}, "adc_samples must be a multiple of 4"),
        ({"adc_dwell_s": 2.5e-8}, "adc_dwell_s must be a multiple of the ADC raster"),
        ({"dummy_scans": -1}, "dummy_scans must be 0 or more"),
        ({"receiver_phase_rad": math.nan}, "receiver_phase_rad must be finite"),
        ({"spoiler_moment_per_m": -1.0}, "spoiler_moment_per_m must be finite and not negative"),
        ({"slew_fraction": 0.0}, "slew_fraction must be above 0"),
        ({"tr_s": 0.1}, r"tr_s must be at least 0\.128\d+ s with these pulses, but is 0\.1 s"),
    ],
)
def test_what_cannot_be_played_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        SPEC.build(params(**changes), bench())


def test_a_pulse_beyond_the_probe_is_refused():
    with pytest.raises(HardwareLimitError, match=r"hard pulse peaks at 5e\+04 Hz .* bench_11p7t allows"):
        SPEC.build(params(pulse_duration_s=5e-6), bench())


def test_the_page_lists_every_parameter_as_the_code_does():
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(SPEC.Params.__dataclass_fields__)
    for (name, shown), field in zip(rows, SPEC.Params.__dataclass_fields__.values(), strict=True):
        if shown != "required":
            wanted = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            assert shown.strip("`") == wanted, name


def test_shots_are_alike_but_for_phases():
    built = SPEC.build(params(averages=8), bench())
    starts = [*built.shot_starts, len(built.blocks)]
    lengths = {round(sum(b.duration_s for b in built.blocks[a:z]), 9) for a, z in itertools.pairwise(starts)}
    assert lengths == {3.0}
