import math

import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import hard_press

from seqgen.errors import InputError
from seqgen.simulate.acquire import fid, lines, spectrum
from seqgen.simulate.ensemble import Ensemble, ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.propagate import pulse_propagator
from seqgen.spin.hamiltonian import group_model


def test_ensemble_is_every_combination():
    members = ensemble((-5.0, 5.0), (0.9, 1.0, 1.1))
    assert members.size == 6
    assert members.b0_hz.tolist() == [-5.0] * 3 + [5.0] * 3
    assert members.b1_scale.tolist() == [0.9, 1.0, 1.1] * 2
    assert members.weight.tolist() == pytest.approx([1 / 6] * 6)
    assert members.linewidth_hz.tolist() == members.drift_hz.tolist() == [0.0] * 6


def test_linewidth_and_drift_vary_fastest():
    members = ensemble((0.0, 1.0), linewidths_hz=(2.0, 4.0), drifts_hz=(0.0, -3.0))
    assert members.linewidth_hz.tolist() == [2.0, 2.0, 4.0, 4.0] * 2
    assert members.drift_hz.tolist() == [0.0, -3.0] * 4


def test_weights_are_divided_by_their_sum():
    members = ensemble((-5.0, 0.0, 5.0), weights=(1.0, 2.0, 1.0))
    values = torch.tensor([[4.0, 0.0], [8.0, 2.0], [0.0, 4.0]], dtype=torch.float64)
    assert members.mean(values).tolist() == [5.0, 2.0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ensemble((0.0, 1.0), weights=(1.0,)), "2 members needs as many weights, but got 1"),
        (lambda: ensemble((0.0, 1.0), weights=(2.0, -1.0)), "smallest is -1"),
        (lambda: ensemble((0.0, 1.0), weights=(0.0, 0.0)), "must be finite"),
        (lambda: ensemble((float("nan"), 1.0)), "must be finite"),
        (lambda: ensemble(linewidths_hz=(float("nan"),)), "must be finite"),
        (lambda: ensemble(()), "at least|E >= 1"),
        (lambda: ensemble(b1_scales=(-0.1,)), "0 or more"),
        (lambda: ensemble(linewidths_hz=(-0.1,)), "0 or more"),
        (
            lambda: Ensemble(
                b0_hz=torch.zeros(2),
                b1_scale=torch.ones(1),
                linewidth_hz=torch.zeros(2),
                drift_hz=torch.zeros(2),
                weight=torch.ones(2) / 2,
            ),
            "one value of everything per member",
        ),
    ],
)
def test_what_is_no_ensemble_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


@pytest.mark.parametrize("time_zero_s", [None, 0.0345])
def test_drift_is_an_offset_that_the_receiver_sees(time_zero_s):
    """Spins of an ensemble that drifts by 12 Hz are spins 12 Hz away, at the echo and later."""
    signals = []
    for offsets_hz, members in (([-40.0, 25.0], ensemble(drifts_hz=(12.0,))), ([-28.0, 37.0], ensemble())):
        model = model_of(offsets_hz, {(0, 1): 9.0})
        shot = prepare([hard_press(edit=(60, 0.2))], model, members, time_zero_s=time_zero_s)
        signals.append(fid(lines(play(shot), model), 80, 1e-3, members=members))
    torch.testing.assert_close(*signals, rtol=0, atol=1e-9)


def test_members_keep_their_linewidth_and_drift_in_the_spectrum():
    """Each member alone, with its width and its shift put in by hand."""
    model = model_of([-40.0, 25.0], {(0, 1): 9.0})
    members = ensemble((0.0, 5.0), (1.0, 0.9), linewidths_hz=(0.0, 3.0), drifts_hz=(-8.0, 0.0, 4.0))
    found = lines(play(prepare([hard_press()], model, members)), model)
    axis = torch.linspace(-80, 80, 161, dtype=torch.float64)
    together = spectrum(found, axis, fwhm_lorentz_hz=5.0, members=members)
    for k in range(members.size):
        width, drift = float(members.linewidth_hz[k]), float(members.drift_hz[k])
        decay = math.pi * (5.0 + width) + 2j * math.pi * (axis - drift - found.frequency_hz[:, None])
        torch.testing.assert_close(together[k], found.amplitude[k] @ (1 / decay), rtol=0, atol=1e-12)
    assert members.mean(together).shape == axis.shape


@pytest.mark.parametrize("gauss_hz", [0.0, 4.0])
def test_fid_and_spectrum_of_an_ensemble_are_a_fourier_pair(gauss_hz):
    model = model_of([-40.0, 25.0], {(0, 1): 9.0})
    members = ensemble(linewidths_hz=(1.0, 3.0), drifts_hz=(-8.0, 4.0))
    found = lines(play(prepare([hard_press()], model, members)), model)
    first_s, phase, n, dwell_s = 2e-3, 0.6, 2**15, 5e-5
    t = first_s + torch.arange(n, dtype=torch.float64) * dwell_s
    samples = fid(found, n, dwell_s, first_sample_s=first_s, receiver_phase_rad=phase, members=members)
    damp = torch.exp(-math.pi * 5.0 * (t - first_s) - math.pi**2 / (4 * math.log(2)) * (gauss_hz * (t - first_s)) ** 2)
    axis = torch.linspace(-60, 60, 25, dtype=torch.float64)
    turns = torch.exp(-2j * math.pi * (t - first_s)[:, None] * axis)
    by_sum = (samples * damp) @ turns * dwell_s - samples[:, :1] * dwell_s / 2
    closed = spectrum(
        found,
        axis,
        fwhm_lorentz_hz=5.0,
        fwhm_gauss_hz=gauss_hz,
        receiver_phase_rad=phase,
        first_sample_s=first_s,
        members=members,
    )
    torch.testing.assert_close(closed, by_sum, rtol=0, atol=2e-6)


def test_gradients_of_the_whole_ensemble_through_filters_and_averages():
    """Waveform to weighted mean power of the spectra: through crushers, positions of members, widths and drifts."""
    model = model_of([-40.0, 25.0, 60.0], {(0, 1): 9.0, (1, 2): -12.0})
    members = ensemble((-6.0, 6.0), (0.9, 1.1), linewidths_hz=(0.0, 2.0), drifts_hz=(0.0, 3.0), weights=range(1, 17))
    shot = prepare([hard_press(te1_s=0.02, edit=(60, 0.2))], model, members)
    vectors = model.eigenvectors.to(torch.complex128)
    axis = torch.linspace(-80, 80, 12, dtype=torch.float64)

    def loss(b1_hz):
        u = pulse_propagator(model, b1_hz, 1e-3, offset_hz=members.offset_hz, b1_scale=members.b1_scale, j_step_s=1e-3)
        rho = play(shot, replaced={2: (vectors.mT @ u @ vectors)[:, None]})
        values = spectrum(lines(rho, model), axis, fwhm_lorentz_hz=5.0, members=members)
        return members.mean(values.real**2 + values.imag**2).sum()

    g = torch.Generator().manual_seed(0)
    for size in (200.0, 0.0):
        b1 = (size * torch.randn(1, 4, generator=g, dtype=torch.complex128)).requires_grad_()
        assert torch.autograd.gradcheck(loss, (b1,), eps=1e-4, rtol=1e-4, atol=1e-8)


def test_members_belong_to_their_lines():
    model = model_of([-40.0], {})
    found = lines(play(prepare([hard_press()], model, ensemble((0.0, 5.0)))), model)
    for receive in (
        lambda members: fid(found, 8, 1e-3, members=members),
        lambda members: spectrum(found, torch.zeros(3).double(), fwhm_lorentz_hz=4.0, members=members),
    ):
        with pytest.raises(InputError, match="ensemble of 3 members"):
            receive(ensemble((0.0, 5.0, 6.0)))
