import math

import pytest

from seqgen.errors import InputError
from seqgen.spin.system import PROTON_SHIFT_PPM, Relaxation, SpinGroup, SpinSystem


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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shift_ppm": (1.0, math.nan)}, r"shift_ppm of B must be a finite number, but is nan\. Give"),
        ({"shift_ppm": (-math.inf, 1.0)}, r"shift_ppm of A must be a finite number, but is -inf\. Give"),
        ({"shift_ppm": (math.nan, 1.0), "nuclei": ("31P", "1H")}, "shift_ppm of A must be a finite number"),
        ({"shift_ppm": (1.0, 290.5)}, r"shift_ppm of B must lie between -5 and 20 ppm \(1H\), but is 290\.5\. Give"),
        ({"shift_ppm": (-5.01, 1.0)}, "shift_ppm of A must lie between -5 and 20 ppm"),
        ({"j_hz": ((0.0, math.nan), (math.nan, 0.0))}, r"j_hz of A and B must be a finite number, but is nan\. Give"),
        ({"j_hz": ((0.0, math.inf), (math.inf, 0.0))}, "j_hz of A and B must be a finite number, but is inf"),
        ({"j_hz": ((0.0, 7.0), (7.0, math.nan))}, "j_hz of B and B must be a finite number"),
        ({"multiplier": 0.0}, r"multiplier must be positive and finite, but is 0\.0\. Give"),
        ({"multiplier": -3.0}, "multiplier must be positive"),
        ({"multiplier": math.nan}, "multiplier must be positive"),
        ({"multiplier": math.inf}, "multiplier must be positive and finite"),
    ],
)
def test_values_that_no_molecule_has_are_refused(changes, says):
    with pytest.raises(InputError, match=f"Spin group 'pair': {says}"):
        group(**changes)


def test_shifts_may_reach_their_bounds_and_those_of_other_nuclei_may_exceed_them():
    assert group(shift_ppm=PROTON_SHIFT_PPM).shift_ppm == (-5.0, 20.0)
    # FID-A gives the pseudo-spins that stand for 14N and 31P shifts of 100 and 40 ppm.
    assert group(shift_ppm=(40.0, 2.0), nuclei=("31P", "1H")).shift_ppm == (40.0, 2.0)


def test_a_system_needs_groups():
    with pytest.raises(InputError, match="no spin groups"):
        SpinSystem(name="Glu", groups=())


@pytest.mark.parametrize(("t1_s", "t2_s"), [(0.0, 0.1), (1.0, 0.0), (-1.0, 0.1), (0.1, 0.21), (float("nan"), 0.1)])
def test_impossible_relaxation_is_refused(t1_s, t2_s):
    with pytest.raises(InputError, match="t2_s <= 2 t1_s"):
        Relaxation(t1_s=t1_s, t2_s=t2_s)


def test_relaxation_may_reach_its_bound():
    assert Relaxation(t1_s=0.1, t2_s=0.2).t2_s == 0.2
