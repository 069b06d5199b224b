import math

import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.library import spin_system
from seqgen.simulate.acquire import concatenate, fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.spin.hamiltonian import group_model, molecule_models
from seqgen.spin.reduction import reduced_groups
from seqgen.spin.system import SpinGroup, SpinSystem
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

METHYL = {(0, 3): 7.2, (1, 3): 7.2, (2, 3): 7.2}


def shaped_echo(te_s=0.03):
    """A smooth, strong, phase-modulated pulse of 8 ms between excitation and readout: all is mixed."""
    n = 80
    t = torch.arange(n, dtype=torch.float64) / n
    pulse = Interval(
        dwell_s=1e-4,
        b1_hz=180 * torch.sin(math.pi * t) ** 2 * torch.exp(4j * torch.sin(5 * t)),
        gradient_hz_per_m=torch.zeros(n, 3, dtype=torch.float64),
        use="preparation",
        centre_s=4e-3,
    )
    silent = delay(0.5)
    readout = Interval(
        dwell_s=0.5,
        b1_hz=silent.b1_hz,
        gradient_hz_per_m=silent.gradient_hz_per_m,
        receiver=Receiver(n_samples=512, dwell_s=0.5 / 512),
    )
    return Timeline(
        intervals=(ideal_pulse(math.pi / 2, 0.3, "excitation"), delay(te_s / 2), pulse, delay(te_s / 2), readout)
    )


def signal(models, j_step_s=2e-5, **kwargs):
    parts = [lines(play(prepare([shaped_echo()], m, j_step_s=j_step_s, time_zero_s=0.04, **kwargs)), m) for m in models]
    return fid(concatenate(parts), 200, 1e-3)[0].numpy()


def assert_same(group, atol, j_step_s=2e-5):
    full = signal([group_model(group, FREQUENCY_HZ, REFERENCE_PPM)], j_step_s)
    small = signal(molecule_models(SpinSystem(name="test", groups=(group,)), FREQUENCY_HZ, REFERENCE_PPM), j_step_s)
    assert np.abs(full).max() > 0.1
    np.testing.assert_allclose(small, full, rtol=0, atol=atol * np.abs(full).max())


def test_a_group_that_cannot_be_reduced_comes_back_itself():
    group = group_at_hz([10.0, 40.0], {(0, 1): 7.0})
    assert reduced_groups(group) == (group,)


def test_methyl_and_a_neighbour_are_spins_3_2_and_1_2():
    parts = reduced_groups(group_at_hz([-50.0] * 3 + [60.0], METHYL | {(0, 1): -14.0, (0, 2): -14.0, (1, 2): -14.0}))
    assert [part.dimension for part in parts] == [(4, 2), (2, 2)]
    # (2S+1)/8 of the trace each, the doublet twice.
    assert [part.multiplier for part in parts] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("geminal_hz", [0.0, -14.4])
def test_equivalent_protons_give_the_signal_of_the_full_group(geminal_hz):
    couplings = METHYL | ({pair: geminal_hz for pair in ((0, 1), (0, 2), (1, 2))} if geminal_hz else {})
    assert_same(group_at_hz([-50.0] * 3 + [60.0], couplings), 1e-11)


def test_unequal_couplings_within_a_set_are_never_seen():
    assert_same(group_at_hz([-50.0] * 3 + [60.0], METHYL | {(0, 1): -14.0, (0, 2): 3.0, (1, 2): 8.0}), 1e-8)


def test_two_sets_and_a_loose_spin():
    couplings = {(0, 2): 7.0, (0, 3): 7.0, (1, 2): 7.0, (1, 3): 7.0}
    parts = reduced_groups(group_at_hz([-30.0, -30.0, 45.0, 45.0, 90.0], couplings))
    # Triplet with triplet; a triplet beside a singlet; beside the other singlet two spins that nothing connects; loose.
    assert sorted(part.dimension for part in parts) == [(2,), (2,), (2,), (3,), (3, 3)]
    assert_same(group_at_hz([-30.0, -30.0, 45.0, 45.0, 90.0], couplings), 1e-11)


def test_chemical_equivalence_alone_reduces_nothing():
    """AA'XX': J(A,X) is not J(A,X')."""
    group = group_at_hz([-30.0, -30.0, 45.0, 45.0], {(0, 2): 7.0, (0, 3): 5.0, (1, 2): 5.0, (1, 3): 7.0})
    assert reduced_groups(group) == (group,)


@pytest.mark.parametrize("nucleus", ["31P", "14N"])
def test_a_heteronucleus_is_an_offset(nucleus):
    group = group_at_hz([25.0, -40.0, 0.0], {(0, 1): 9.0, (0, 2): 11.0, (1, 2): 3.0}, nuclei=("1H", "1H", nucleus))
    parts = reduced_groups(group)
    assert len(parts) == (2 if nucleus == "31P" else 3)
    assert all(part.nuclei == ("1H", "1H") for part in parts)
    # The group with the heteronucleus in its matrices is of second order in the J step: refine until they meet.
    full = [signal([group_model(group, FREQUENCY_HZ, REFERENCE_PPM)], step) for step in (2e-5, 1e-5)]
    small = signal(molecule_models(SpinSystem(name="test", groups=(group,)), FREQUENCY_HZ, REFERENCE_PPM), 1e-5)
    np.testing.assert_allclose((4 * full[1] - full[0]) / 3, small, rtol=0, atol=1e-8)


def test_14n_splits_a_proton_into_three_equal_lines():
    group = group_at_hz([20.0, 0.0], {(0, 1): 6.0}, nuclei=("1H", "14N"))
    found = sorted(
        (float(model.transition_hz[0]), model.group.multiplier)
        for model in molecule_models(SpinSystem(name="test", groups=(group,)), FREQUENCY_HZ, REFERENCE_PPM)
    )
    assert [f for f, _ in found] == pytest.approx([14.0, 20.0, 26.0])
    assert [weight for _, weight in found] == pytest.approx([1 / 3] * 3)


def test_heteronuclei_without_coupling_to_1h_leave_no_trace():
    group = group_at_hz([20.0, 0.0, 0.0], {(1, 2): 12.0}, nuclei=("1H", "31P", "31P"))
    (part,) = reduced_groups(group)
    assert (part.labels, part.multiplier) == (("S0",), 1.0)


def valine():
    """Val, 8 spins: alpha, beta, two methyls; shifts and couplings of Govindaraju 2000, as FID-A carries them."""
    shift = (3.5953, 2.2577, *[1.0271] * 3, *[0.9764] * 3)
    j = np.zeros((8, 8))
    j[0, 1], j[1, 2:5], j[1, 5:8] = 4.405, 6.971, 7.071
    j = j + j.T
    return SpinGroup(
        name="valine",
        labels=tuple(f"H{k}" for k in range(8)),
        shift_ppm=shift,
        j_hz=tuple(tuple(float(v) for v in row) for row in j),
    )


def test_valine_is_small():
    parts = reduced_groups(valine())
    assert max(math.prod(part.dimension) for part in parts) == 64
    # Every level is there: dimensions times multiplicities add up to 256 (multiplier is multiplicity d / 256).
    assert sum(part.multiplier for part in parts if "H1" in part.labels) == pytest.approx(1.0)


@pytest.mark.slow
def test_valine_reduced_is_valine_in_full():
    assert_same(valine(), 1e-10, j_step_s=2e-4)


@pytest.mark.parametrize("name", ["Lac", "Ala", "PCh", "GPC", "Cho", "GSH", "Tau", "mI"])
def test_metabolites_keep_their_protons(name):
    """The first point after an ideal excitation counts protons, whatever was reduced."""
    system = spin_system(name)
    shot = Timeline(intervals=(ideal_pulse(math.pi / 2, math.pi / 2, "excitation"), shaped_echo().intervals[-1]))
    models = molecule_models(system, 123.2e6, 4.65)
    total = sum(complex(lines(play(prepare([shot], m)), m).amplitude.sum()) for m in models)
    assert total == pytest.approx(sum(group.n_protons for group in system.groups), abs=1e-9)
