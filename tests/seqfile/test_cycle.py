import math
from dataclasses import replace

import pytest
from press_files import SCANNER, build, random_pulse, write

from seqgen.errors import InputError
from seqgen.seqfile.cycle import editing_conditions, is_reference, phase_cycle
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


def relabelled(shots, drop=(), **labels):
    return tuple(
        replace(shot, labels={k: v for k, v in (shot.labels | labels).items() if k not in drop}) for shot in shots
    )


def on_and_off(carrier_off_hz=-301.0, peak_off_hz=200.0):
    """A shot of either editing condition, as built: both with SET 0."""
    on, off = (
        built_shots(build(replace(random_pulse(peak), carrier_offset_hz=carrier)).blocks, SCANNER, "shot")[1:2]
        for peak, carrier in ((200.0, -301.0), (peak_off_hz, carrier_off_hz))
    )
    return on, off


@pytest.mark.parametrize("off", [{"peak_off_hz": 100.0}, {"carrier_off_hz": 350.0}])
def test_shots_of_another_kind_are_no_steps_of_one_cycle(off):
    """Two editing conditions in a file that states no steps: the first kind alone is taken, not their mixture."""
    on, off = (relabelled(shots, drop=("PHS",)) for shots in on_and_off(**off))
    assert [t.name for t in phase_cycle((*on, *off))] == [on[0].timeline.name]
    assert phase_cycle((*on, *off))[0] is on[0].timeline
    assert editing_conditions((*on, *off)) == (0,)


def test_conditions_of_a_file_that_states_steps_are_told_apart_by_set():
    on, off = on_and_off()
    off = relabelled(off, SET=1)
    both = (*on, *off)
    assert editing_conditions(both) == (0, 1)
    assert phase_cycle(both) == (on[0].timeline,)
    assert phase_cycle(both, condition=1) == (off[0].timeline,)
    with pytest.raises(InputError, match="SET 2"):
        phase_cycle(both, condition=2)


def test_stated_steps_are_one_cycle_whatever_they_play():
    """ISIS inverts in every second step."""
    on, off = on_and_off(peak_off_hz=1e-4)
    assert len(phase_cycle((*on, *relabelled(off, PHS=1)))) == 2


def test_noise_is_no_step():
    on, off = on_and_off()
    noise = relabelled(off, NOISE=1)
    assert phase_cycle((*noise, *on)) == (on[0].timeline,)


@pytest.mark.parametrize("drop", [("AVG",), ("SET",), ("PHS",), ("REP",), ("REF",)])
def test_one_label_of_a_foreign_file_states_nothing(drop):
    """PHS beside a SET that counts something else: conditions are those of files that carry all of seqgen's labels."""
    on, off = on_and_off(carrier_off_hz=350.0)
    both = relabelled((*on, *relabelled(off, SET=1, PHS=1)), drop=drop)
    assert editing_conditions(both) == (0,)
    assert phase_cycle(both) == (on[0].timeline,)
