"""Built blocks simulate as their file does: two ways to a Timeline must agree."""

import pytest
import torch
from press_files import SCANNER, build, random_pulse, write

from seqgen.errors import InputError
from seqgen.seqfile.blocks import Adc, Block, Trapezoid
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots


@pytest.mark.parametrize("pulse", [None, random_pulse()], ids=["plain", "edited"])
def test_built_blocks_are_what_the_file_plays(pulse, tmp_path):
    built = build(pulse, voxel_rotation_rad=(0.2, 0.1, -0.4), receiver_phase_rad=1.1)
    wanted = built_shots(built.blocks, SCANNER, "built")
    got = shots(read_seq(write(tmp_path / "played.seq", built)))
    assert len(wanted) == len(got) == 4
    for a, b in zip(wanted, got, strict=True):
        assert a.labels == b.labels
        assert a.start_s == pytest.approx(b.start_s, abs=1e-9)
        assert a.readout.phase_rad % 6.283185307 == pytest.approx(b.readout.phase_rad % 6.283185307, abs=1e-5)
        assert a.readout.delay_s == pytest.approx(b.readout.delay_s, abs=1e-9)
        assert a.flip_angle_rad == pytest.approx(b.flip_angle_rad, rel=1e-5)
        for x, y in zip(a.timeline.intervals, b.timeline.intervals, strict=True):
            assert (x.n_samples, x.use) == (y.n_samples, y.use)
            assert x.dwell_s == pytest.approx(y.dwell_s, abs=1e-12)
            assert x.centre_s == (pytest.approx(y.centre_s, abs=1e-9) if y.centre_s is not None else None)
            # A file keeps six digits of amplitude, frequency and phase: 1e-5 of the peak.
            assert float((x.b1_hz - y.b1_hz).abs().max()) <= 1e-5 * (float(y.b1_hz.abs().max()) or 1)
            scale = float(y.gradient_hz_per_m.abs().max()) or 1
            assert float((x.gradient_hz_per_m - y.gradient_hz_per_m).abs().max()) <= 1e-5 * scale


def test_the_carrier_phase_is_zero_at_the_centre_of_the_editing_pulse():
    """In the frame of the spectrometer frequency: w(t) exp(2 pi i f (t - centre)), at the middle of every sample."""
    pulse = random_pulse()
    timeline = built_shots(build(pulse).blocks, SCANNER, "built")[1].timeline
    edit = next(i for _, i in timeline.pulses() if i.use == "preparation")
    held = pulse.b1_hz.repeat_interleave(20)
    t_s = (torch.arange(held.shape[0], dtype=torch.float64) + 0.5) * 1e-6 - 0.01
    wanted = held * torch.exp(2j * torch.pi * pulse.carrier_offset_hz * t_s)
    assert float((edit.b1_hz - wanted).abs().max()) < 1e-9 * pulse.peak_hz


def test_equal_shots_share_one_timeline():
    found = built_shots(build(averages=8).blocks, SCANNER, "built")
    # Two steps of the cycle with and two without suppression, and the first shot, which a dummy scan precedes.
    assert len({shot.identity for shot in found}) == len({id(shot.timeline) for shot in found}) == 5


def test_a_block_shorter_than_its_events_is_refused():
    gradient = Trapezoid(amplitude_hz_per_m=1e4, rise_s=1e-4, flat_s=1e-3, fall_s=1e-4)
    assert gradient.moment_per_m == pytest.approx(11.0)
    Block(duration_s=1.2e-3, gradients=(gradient, None, None))
    with pytest.raises(InputError, match=r"shorter than the events in it, which end at 0\.0012"):
        Block(duration_s=1.19e-3, gradients=(gradient, None, None))
    with pytest.raises(InputError, match="shorter"):
        Block(duration_s=0.01, adc=Adc(n_samples=100, dwell_s=1e-4, delay_s=1e-5))
    with pytest.raises(InputError, match="shorter"):
        Block(duration_s=0.0)
