import pytest

from seqgen.errors import InputError
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem


def group(**changes):
    values = {"name": "pair", "labels": ("A", "B"), "shift_ppm": (1.0, 2.0), "j_hz": ((0.0, 7.0), (7.0, 0.0))}
    return SpinGroup(**(values | changes))


def test_empty_nuclei_mean_protons():
    assert group().nuclei == ("1H", "1H")


def test_n_protons_counts_copies_and_leaves_heteronuclei_out():
    assert group(nuclei=("1H", "31P"), multiplier=3.0).n_protons == 3.0
    assert group(multiplier=1.5).n_protons == 3.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shift_ppm": (1.0,)}, "one shift"),
        ({"nuclei": ("1H",)}, "one nucleus"),
        ({"labels": (), "shift_ppm": (), "j_hz": ()}, "one shift"),
        ({"j_hz": ((0.0, 7.0),)}, "2 x 2"),
        ({"j_hz": ((0.0, 7.0), (7.0,))}, "2 x 2"),
        ({"j_hz": ((0.0, 7.0), (6.0, 0.0))}, r"J\[A, B\] = 7.0 and its mirror is 6.0"),
        ({"j_hz": ((1.0, 7.0), (7.0, 0.0))}, r"J\[A, A\]"),
    ],
)
def test_an_unusable_group_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        group(**changes)


def test_a_system_needs_groups():
    with pytest.raises(InputError, match="no spin groups"):
        SpinSystem(name="Glu", groups=())


@pytest.mark.parametrize(("t1_s", "t2_s"), [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1), (0.1, 0.21), (float("nan"), 0.1)])
def test_impossible_relaxation_is_refused(t1_s, t2_s):
    with pytest.raises(InputError, match="t2_s <= 2 t1_s"):
        Relaxation(t1_s=t1_s, t2_s=t2_s)


def test_relaxation_may_reach_its_bound():
    assert Relaxation(t1_s=0.1, t2_s=0.2).t2_s == 0.2
