"""The checks of a returned design: bandwidths with closed forms, and one broken demand at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from press_files import PARAMS, PRESS, SCANNER, build, context, random_pulse, write
from scipy.optimize import brentq
from scipy.special import sici
from scipy.stats import norm

from seqgen import library
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.plugins import DesignedShot, find_sequence
from seqgen.verify.design_check import DesignLimits, DesignWaveform, bandwidth_hz, check_design

PULSE = random_pulse()
B1_HZ, DWELL_S, TE_S = PULSE.b1_hz.numpy(), PULSE.dwell_s, (0.041, 0.034)


@pytest.mark.parametrize("sd_s", [1e-3, 2.5e-3])
def test_bandwidth_of_a_gaussian(sd_s):
    """|S|^2 of exp(-t^2 / (2 sd^2)) is normal with the deviation 1 / (2 sqrt(2) pi sd)."""
    t_s = (np.arange(4000) + 0.5 - 2000) * 1e-5
    for share in (0.99, 0.5):
        expected = 2 * norm.ppf(0.5 + share / 2) / (2 * np.sqrt(2) * np.pi * sd_s)
        assert bandwidth_hz(np.exp(-(t_s**2) / (2 * sd_s**2)) + 0j, 1e-5, share) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_bandwidth_of_a_rectangle(share):
    """Within B of a rectangle of T: (2 / pi) (Si(2 x) - sin(x)^2 / x), x = pi B T / 2."""

    def missing(x):
        return 2 / np.pi * (sici(2 * x)[0] - np.sin(x) ** 2 / x) - share

    expected = 2 * brentq(missing, 0.1, 100) / (np.pi * 0.01)
    assert bandwidth_hz(np.full(500, 300.0 + 0j), 2e-5, share) == pytest.approx(expected, rel=1e-5)
    # Ten samples of 1 ms are the same pulse: the sinc of a sample counts.
    assert bandwidth_hz(np.full(10, 300.0 + 0j), 1e-3, share) == pytest.approx(expected, rel=1e-5)


def test_bandwidth_is_about_the_carrier():
    """A pulse 800 Hz off its carrier needs the band out to there."""
    t_s = (np.arange(2000) + 0.5 - 1000) * 1e-5
    envelope = np.exp(-(t_s**2) / (2 * 2.5e-3**2))
    off = bandwidth_hz(envelope * np.exp(2j * np.pi * 800 * t_s), 1e-5)
    assert 1600 < off < 1600 + bandwidth_hz(envelope + 0j, 1e-5)
    assert bandwidth_hz(np.zeros(10, complex), 1e-5) == 0.0


@pytest.fixture(scope="module")
def seq(tmp_path_factory):
    return read_seq(write(tmp_path_factory.mktemp("seq") / "press.seq", build(PULSE)))


def waveform(b1_hz, dwell_s=DWELL_S, carrier_offset_hz=PULSE.carrier_offset_hz):
    return DesignWaveform(b1_hz=b1_hz, dwell_s=dwell_s, carrier_offset_hz=carrier_offset_hz)


def failed(seq, b1_hz=B1_HZ, dwell_s=DWELL_S, te_s=TE_S, scanner=SCANNER, carrier_offset_hz=-301.0, **changes):
    demands = {"b1_max_hz": 250.0, "energy_max_hz2_s": 1000.0, "duration_s": 0.02, "tr_s": 2.0, "te_max_s": 0.075}
    limits = DesignLimits(**(demands | changes))
    wave = waveform(b1_hz, dwell_s, carrier_offset_hz)
    rows = check_design([wave], [te_s], seq, scanner, limits, library.exposure_limits(scanner))
    return {row.name for row in rows if row.status == "failed"}


ENERGY = float((np.abs(B1_HZ) ** 2).sum()) * DWELL_S
WIDTH_HZ = bandwidth_hz(B1_HZ, DWELL_S)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"b1_max_hz": 200.001}, set()),
        ({"b1_max_hz": 199.9}, {"pulse amplitude"}),
        ({"b1_max_hz": 230.0, "b1_scale": 1.2}, {"pulse amplitude"}),
        ({"b1_max_hz": 240.001, "b1_scale": 1.2}, set()),
        ({"energy_max_hz2_s": ENERGY * 0.9999}, {"pulse energy", "pulse energy in the file"}),
        ({"energy_max_hz2_s": ENERGY * 1.0001}, set()),
        ({"bandwidth_max_hz": WIDTH_HZ * 0.9999}, {"pulse bandwidth"}),
        ({"bandwidth_max_hz": WIDTH_HZ * 1.0001}, set()),
        ({"duration_s": 0.02002}, {"pulse duration"}),
        ({"te_s": (0.04102, 0.034), "te_max_s": None}, {"TE1 as played"}),
        ({"te_s": (0.041, 0.03398)}, {"TE2 as played"}),
        ({"te_max_s": 0.0749}, {"TE"}),
        ({"tr_s": 2.001}, {"TR as played"}),
        ({"scanner": replace(SCANNER, b1_max_t=4.6e-6)}, {"pulse amplitude, scanner"}),
        ({"scanner": replace(SCANNER, rf_raster_s=3e-6)}, {"pulse samples on the RF raster"}),
        ({"scanner": replace(SCANNER, rf_samples_max=19999)}, {"pulse samples"}),
        ({"scanner": replace(SCANNER, rf_samples_max=20000)}, set()),
        ({"scanner": replace(SCANNER, b1_rms_max_t=0.3e-6)}, {"B1+rms over the worst 10 s"}),
        ({"b1_hz": B1_HZ * 1.0001}, {"pulse in the file"}),
        ({"b1_hz": B1_HZ[::-1]}, {"pulse in the file"}),
        ({"b1_hz": B1_HZ.conj()}, {"pulse in the file"}),
        ({"b1_hz": np.abs(B1_HZ) + 0j}, {"pulse in the file"}),
        ({"b1_hz": B1_HZ * np.exp(0.7j)}, set()),
        ({"carrier_offset_hz": 301.0}, {"pulse in the file"}),
        ({"carrier_offset_hz": -301.002}, {"pulse in the file"}),
        ({"carrier_offset_hz": -301.0004}, set()),
        # A sample that is rounded may lie 1e-4 Hz above the limit of the amplitude, and what that makes of the energy.
        ({"b1_max_hz": 200 - 0.9e-4}, set()),
        ({"b1_max_hz": 200 - 1.1e-4}, {"pulse amplitude"}),
        ({"b1_max_hz": 240 - 1.1e-4, "b1_scale": 1.2}, set()),
        ({"b1_max_hz": 240 - 1.3e-4, "b1_scale": 1.2}, {"pulse amplitude"}),
        ({"energy_max_hz2_s": ENERGY - 1.9e-4 * np.sqrt(ENERGY * 0.02)}, set()),
        ({"energy_max_hz2_s": ENERGY - 2.1e-4 * np.sqrt(ENERGY * 0.02)}, {"pulse energy"}),
    ],
)
def test_one_demand_at_a_time(seq, changes, names):
    assert failed(seq, **changes) == names


def test_a_step_at_an_end(seq):
    stepped = B1_HZ.copy()
    stepped[0] = 40.0
    smooth = np.exp(-(np.linspace(-1.5, 1.5, 1000) ** 2)) * 100 + 0j
    for b1_hz in (np.roll(B1_HZ, 300), smooth):
        assert "pulse at its ends" in failed(seq, b1_hz=b1_hz)
    assert "pulse at its ends" not in failed(seq, b1_hz=stepped)


def test_a_carrier_in_the_shape_is_one_of_the_event(tmp_path):
    """The same RF as a shape that turns with the carrier, the event without offset; turned the other way it is not."""
    t_s = (torch.arange(20000, dtype=torch.float64) + 0.5) * 1e-6
    held = PULSE.b1_hz.repeat_interleave(20)
    for sign, names in ((1, set()), (-1, {"pulse in the file"})):
        turned = held * torch.exp(-sign * 2j * torch.pi * 301.0 * t_s)
        built = build(replace(PULSE, b1_hz=turned, dwell_s=1e-6, carrier_offset_hz=0.0))
        assert failed(read_seq(write(tmp_path / "press.seq", built))) == names


@pytest.mark.parametrize("change", [torch.conj_physical, torch.abs])
def test_a_file_with_the_conjugate_or_the_modulus(tmp_path, change):
    built = build(replace(PULSE, b1_hz=change(PULSE.b1_hz) + 0j))
    assert failed(read_seq(write(tmp_path / "press.seq", built))) == {"pulse in the file"}


def test_a_file_without_the_pulse(tmp_path):
    plain = read_seq(write(tmp_path / "press.seq", build(None)))
    assert failed(plain) == {"pulse in the file"}


@pytest.mark.parametrize("scanner", ["siemens_prisma_3t", "ge_premier_3t"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("press", {"te1_s": 0.0416, "te2_s": 0.034}),
        ("press", {"te1_s": 0.0136, "te2_s": 0.0664, "editing_places": ("te1", "te2")}),
        ("mega_press", {"te1_s": 0.0136, "te2_s": 0.0664}),
        ("isis_press", {"te1_s": 0.0336, "te2_s": 0.012}),
    ],
)
def test_echo_times_of_every_place(tmp_path, name, changes, scanner):
    """Of the file as a whole, dummy scans and water references with it; a millisecond off is seen."""
    spec, machine = find_sequence(name), library.scanner(scanner)
    params = spec.Params(
        tr_s=1.5, voxel_size_m=(0.02,) * 3, averages=4, water_reference_averages=4, noise_scans=1, **changes
    )
    built = spec.build(params, context(replace(PULSE, b1_hz=PULSE.b1_hz * 0.5), machine))
    played = read_seq(write(tmp_path / "x.seq", built, scanner=machine))
    te_s = (params.te1_s, params.te2_s)
    use = "excitation" if name == "isis_press" else "preparation"
    limits = DesignLimits(b1_max_hz=250.0, energy_max_hz2_s=1000.0, duration_s=0.02, tr_s=1.5, use=use)
    # OFF shots of MEGA-PRESS play the pulse at another carrier, which no design does.
    other = {"pulse in the file"} if name == "mega_press" else set()
    for off_s, names in ((0.0, set()), (1e-3, {"TE1 as played"})):
        rows = check_design(
            [waveform(0.5 * B1_HZ)],
            [(te_s[0] + off_s, te_s[1])],
            played,
            machine,
            limits,
            library.exposure_limits(machine),
        )
        assert {row.name for row in rows if row.status == "failed"} == names | other
        assert {"TE1 as played", "TE2 as played", "TR as played"} <= {row.name for row in rows}


def test_two_shots_with_a_waveform_each(tmp_path):
    """ON, OFF and a second pulse: every waveform is found, one that is not played is missed, so are echo times."""
    other = replace(PULSE, b1_hz=PULSE.b1_hz.flip(0) * 0.7)
    times_s = ((0.041, 0.034), (0.045, 0.04), (0.041, 0.034))
    pulses = ({"echo_top": PULSE}, {}, {"echo_top": other})
    shots = tuple(
        DesignedShot(pulses=mine, te1_s=te1_s, te2_s=te2_s)
        for mine, (te1_s, te2_s) in zip(pulses, times_s, strict=True)
    )
    built = PRESS.build(replace(PARAMS, averages=6), replace(context(None), editing_shots=shots))
    played = read_seq(write(tmp_path / "x.seq", built))
    limits = DesignLimits(b1_max_hz=250.0, energy_max_hz2_s=1000.0, duration_s=0.02, tr_s=1.5)
    exposure = library.exposure_limits(SCANNER)

    def missed(waveforms, te_s):
        rows = check_design(list(map(waveform, waveforms)), te_s, played, SCANNER, limits, exposure)
        return {row.name for row in rows if row.status == "failed"}

    both = (B1_HZ, other.b1_hz.numpy())
    assert missed(both, times_s) == set()
    assert missed(both[:1], times_s) == {"pulse in the file"}
    assert missed((*both, 0.9 * B1_HZ), times_s) == {"pulse in the file"}
    assert missed(both, times_s[:1]) == {"TE1 as played", "TE2 as played"}
    # Echo times that no shot plays.
    assert missed(both, (*times_s, (0.041, 0.036))) == {"TE2 as played"}
    assert missed(both, (*times_s, (0.043, 0.034))) == {"TE1 as played"}
    assert missed((B1_HZ, 2 * other.b1_hz.numpy()), times_s) == {"pulse 2 amplitude", "pulse in the file"}
