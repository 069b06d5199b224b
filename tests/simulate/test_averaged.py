"""Fixed pulses as matrices between coherence orders, against `play`, which averages density matrices."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, hard_press, lobe, readout, selective

from seqgen.errors import InputError
from seqgen.simulate.acquire import lines
from seqgen.simulate.averaged import average, elements_of
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.propagate import pulse_propagator
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Timeline, delay, ideal_pulse

EDIT, LAST = 2, 3
OFFSETS_HZ, COUPLINGS_HZ = (20.0, -35.0, 90.0), {(0, 1): 12.0, (1, 2): 7.0, (0, 2): -4.0}
MEMBERS = ensemble([-8.0, 5.0], [0.8, 1.1])


def model_of(offsets_hz=OFFSETS_HZ, couplings_hz=COUPLINGS_HZ):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def shaped(phase_rad):
    t = np.linspace(-1, 1, 40)
    b1 = 700.0 * np.sinc(2 * t) * (0.5 + 0.5 * np.cos(np.pi * t)) * np.exp(1j * (phase_rad + 0.3 * t))
    return torch.tensor(b1)


def edited_press(axes=(Z, X, Y)):
    """Selective pulses along three axes, a stand-in between the second and the third."""

    def crushed(axis, spoiled):
        pulse = selective(shaped(math.pi / 2), 5e-5, axis, 4e4, "refocusing", carrier_hz=40.0)
        return (lobe(spoiled, 4000.0, 5e-4), pulse, lobe(spoiled, 4000.0, 5e-4))

    return Timeline(
        intervals=(
            selective(0.5 * shaped(0.0), 5e-5, axes[0], 4e4, "excitation"),
            lobe(axes[0], -4e4 * 1e-3, 5e-4),
            delay(4e-3),
            *crushed(axes[1], X),
            delay(3e-3),
            ideal_pulse(math.pi / 3, 0.4, "preparation"),
            delay(4e-3),
            *crushed(axes[2], Y),
            delay(7e-3),
            readout(),
        ),
        name="edited press",
    )


def prepared(model, timeline=None, **changes):
    return prepare([timeline or edited_press()], model, MEMBERS, positions_per_slice=4, **changes)


def editing_propagator(model, b1_hz):
    u = pulse_propagator(model, b1_hz[None], 5e-4, offset_hz=MEMBERS.offset_hz, b1_scale=MEMBERS.b1_scale)
    vectors = model.eigenvectors.to(u.dtype)
    return (vectors.mT @ u @ vectors)[:, None]


def random_b1(seed=0):
    return 150.0 * torch.randn(12, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_elements_of_opposite_orders_are_transposed_and_complete():
    model = model_of()
    for order in range(4):
        pairs = elements_of(model, order)
        wanted = {tuple(pair) for pair in torch.nonzero(model.order == order).tolist()}
        assert {tuple(pair) for pair in pairs.tolist()} == wanted
        assert len(pairs) == len(wanted) == math.comb(6, 3 + order)
        assert torch.equal(elements_of(model, -order), pairs.flip(1)) or order == 0


@pytest.mark.parametrize("most_bytes", [2**28, 0])
def test_lines_and_gradients_are_those_of_play(most_bytes):
    """Value, gradient by waveform and delays, matrices or positions; from another state than the thermal one."""
    model = model_of()
    shot = prepared(model)
    assert len(shot.pathways) > 2
    m = model.order[:, 0].to(torch.float64)
    start = model.initial_state * (1 + 0.1 * torch.tensor([1.0, 2.0, 0.5, 0.0])[:, None, None]) + 0.2 * torch.diag(m**2)
    fast = average(shot, start=start, variable=(EDIT,), most_bytes=most_bytes)
    slow = replace(shot, model=replace(model, initial_state=start))
    b1 = random_b1().requires_grad_()
    times = torch.tensor([4e-3, 5e-3, 6e-3, 8e-3], dtype=torch.float64, requires_grad=True)
    u = editing_propagator(model, b1)
    found = fast.lines(replaced={EDIT: u}, delays_s=times.unbind())
    wanted = lines(play(slow, replaced={EDIT: u}, delays_s=times.unbind()), model)
    assert found.amplitude.shape == (4, len(model.transition))
    assert float((found.amplitude - wanted.amplitude).detach().abs().max()) < 1e-13
    assert float(wanted.amplitude.detach().abs().max()) > 0.01
    weight = torch.randn(found.amplitude.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    both = [
        torch.autograd.grad((one.amplitude * weight).sum().real, (b1, times), retain_graph=True)
        for one in (found, wanted)
    ]
    for mine, theirs in zip(*both, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-12 * float(theirs.abs().max())


def test_gradcheck():
    """Finite differences of every amplitude by propagator and delays."""
    model = model_of((20.0, -35.0), {(0, 1): 12.0})
    fast = average(prepared(model), variable=(EDIT,))
    u = editing_propagator(model, random_b1(3)).detach().requires_grad_()
    times = torch.tensor([0.4, 0.5, 0.6, 0.8], dtype=torch.float64, requires_grad=True)

    def amplitude(u, times):
        return fast.lines(replaced={EDIT: u}, delays_s=(1e-2 * times).unbind()).amplitude

    assert torch.autograd.gradcheck(amplitude, (u, times))


def test_gradcheck_of_matrices_alone():
    """Without a variable pulse the state stays a vector from the excitation to the end."""
    model = model_of((20.0, -35.0), {(0, 1): 12.0})
    fast = average(prepared(model))
    times = torch.tensor([0.4, 0.5, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda times: fast.lines(delays_s=(1e-2 * times).unbind()).amplitude, times)


@pytest.mark.parametrize("variable", [(), (EDIT,), (0,), (0, EDIT), (LAST,), (0, 1, EDIT, LAST)])
def test_pulses_that_may_vary_but_do_not(variable):
    model = model_of()
    shot = prepared(model)
    found = average(shot, variable=variable).lines().amplitude
    assert float((found - lines(play(shot), model).amplitude).abs().max()) < 1e-13


@pytest.mark.parametrize(("variable", "axes"), [((), (Z, X, Y)), ((EDIT,), (Z, X, Y)), ((), (Z, X, X))])
def test_several_timings_at_once(variable, axes):
    """A batch is what its timings are one by one, whether its delays are shared or not; also pulses along one axis."""
    model = model_of()
    shot = prepared(model, edited_press(axes))
    fast = average(shot, variable=variable)
    assert (fast.unaveraged is None) == (axes[1] != axes[2])
    third, last = torch.tensor([[1e-3, 6e-3, 2e-3], [5e-3, 7e-3, 8e-3]], dtype=torch.float64)
    found = fast.lines(delays_s=[4e-3, torch.tensor(5e-3, dtype=torch.float64), third, last]).amplitude
    assert found.shape == (3, 4, len(model.transition))
    for k in range(3):
        wanted = lines(play(shot, delays_s=[4e-3, 5e-3, float(third[k]), float(last[k])]), model).amplitude
        assert float((found[k] - wanted).abs().max()) < 1e-13


def test_one_pulse_and_ideal_pulses():
    model = model_of()
    fid = Timeline(intervals=(ideal_pulse(1.1, 0.2, "excitation"), readout()))
    for timeline in (fid, hard_press(edit=(70, 0.3))):
        shot = prepare([timeline], model, MEMBERS)
        found = average(shot).lines().amplitude
        assert float((found - lines(play(shot), model).amplitude).abs().max()) < 1e-13
        assert float(found.abs().max()) > 0.05


def test_a_fixed_pulse_is_not_replaced():
    model = model_of()
    with pytest.raises(InputError, match="Pulse 2 was averaged as a fixed one"):
        average(prepared(model)).lines(replaced={EDIT: editing_propagator(model, random_b1())})
