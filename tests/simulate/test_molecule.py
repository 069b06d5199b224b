import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import hard_press

from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.molecule import molecule_lines
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.system import SpinSystem

GROUPS = (group_at_hz([-40.0, 25.0], {(0, 1): 9.0}), group_at_hz([110.0], {}, multiplier=3.0))


def test_molecule_is_the_sum_of_its_groups():
    members = ensemble((-4.0, 4.0))
    whole = molecule_lines(
        [hard_press()],
        SpinSystem(name="two groups", groups=GROUPS),
        spectrometer_frequency_hz=FREQUENCY_HZ,
        reference_ppm=REFERENCE_PPM,
        members=members,
    )
    expected = 0
    for group in GROUPS:
        model = group_model(group, FREQUENCY_HZ, REFERENCE_PPM)
        expected = expected + fid(lines(play(prepare([hard_press()], model, members)), model), 30, 1e-3)
    torch.testing.assert_close(fid(whole, 30, 1e-3), expected, rtol=0, atol=1e-13)


def test_reference_shift_moves_the_lines():
    def frequencies(reference_ppm):
        return molecule_lines(
            [hard_press()],
            SpinSystem(name="singlet", groups=GROUPS[1:]),
            spectrometer_frequency_hz=FREQUENCY_HZ,
            reference_ppm=reference_ppm,
        ).frequency_hz

    torch.testing.assert_close(frequencies(3.65), frequencies(4.65) + 100.0, rtol=0, atol=1e-9)
