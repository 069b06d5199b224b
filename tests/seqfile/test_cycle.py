import math

import pytest
from press_files import SCANNER, build, random_pulse, write

from seqgen.errors import InputError
from seqgen.seqfile.cycle import is_reference, phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots


def cycle_of(reference=False, **changes):
    return phase_cycle(built_shots(build(random_pulse(), **changes).blocks, SCANNER, "built"), reference=reference)


def excitation_and_receiver(timeline):
    excitation = next(i for _, i in timeline.pulses() if i.use == "excitation")
    middle = excitation.b1_hz[excitation.n_samples // 2]
    return math.degrees(math.atan2(middle.imag, middle.real)), math.degrees(timeline.readouts()[0][1].phase_rad)


@pytest.mark.parametrize("averages", [2, 4])
@pytest.mark.parametrize("dummies", [0, 1, 2, 5])
@pytest.mark.parametrize("reference", [False, True])
def test_the_two_steps_are_found_whatever_the_number_of_dummy_scans(dummies, reference, averages):
    """With two averages one step of the cycle occurs only behind the dummy scans."""
    cycle = cycle_of(reference, dummy_scans=dummies, averages=averages)
    assert len(cycle) == 2
    assert [len(t.pulses()) for t in cycle] == [4 if reference else 8] * 2
    (a, rx_a), (b, rx_b) = (excitation_and_receiver(timeline) for timeline in cycle)
    assert abs(a - b) == pytest.approx(180, abs=1e-6)
    assert abs(rx_a - rx_b) == pytest.approx(180, abs=1e-6)


@pytest.mark.parametrize("seq_format", ["1.5.0", "1.4.1"])
def test_the_same_from_a_file(seq_format, tmp_path):
    found = shots(read_seq(write(tmp_path / "cycle.seq", build(random_pulse(), averages=4), seq_format)))
    assert [is_reference(shot) for shot in found] == [False] * 4 + [True] * 2
    assert len(phase_cycle(found)) == len(phase_cycle(found, reference=True)) == 2


def test_a_file_without_reference_says_so():
    with pytest.raises(InputError, match="no water reference"):
        cycle_of(True, water_reference_averages=0)


def test_shots_of_another_kind_are_no_steps_of_one_cycle():
    """Two editing conditions in one file: the first kind alone is taken, not their mixture."""
    one = built_shots(build(random_pulse(200.0)).blocks, SCANNER, "on")
    other = built_shots(build(random_pulse(100.0)).blocks, SCANNER, "off")
    assert len(phase_cycle((*one[1:2], *other[1:2]))) == 1
