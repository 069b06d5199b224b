import math

import numpy as np
import pytest
import torch

from seqgen.design.objective import area_loss, crlb_loss, crlb_sd, window_energy, window_loss


@pytest.mark.parametrize("half_width_hz", [1.0, 6.0, 60.0])
def test_energy_of_a_lorentzian_in_a_window(half_width_hz):
    """|A/(pi w + 2 pi i f)|^2 integrated from -h to h is A^2 arctan(2 h / w) / (pi^2 w)."""
    width_hz, amplitude, step_hz = 4.0, 1.7, 0.002
    f = torch.arange(-half_width_hz + step_hz / 2, half_width_hz, step_hz, dtype=torch.float64)
    line = amplitude / torch.complex(torch.full_like(f, math.pi * width_hz), 2 * math.pi * f)
    wanted = amplitude**2 * math.atan(2 * half_width_hz / width_hz) / (math.pi**2 * width_hz)
    assert float(window_energy(line, step_hz)) == pytest.approx(wanted, rel=1e-6)


def test_energy_ignores_the_receiver_phase_and_keeps_leading_axes():
    spectrum = torch.randn(3, 2, 50, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    energy = window_energy(spectrum, 0.5)
    assert energy.shape == (3, 2)
    turned = window_energy(spectrum * np.exp(1.234j), 0.5)
    assert torch.allclose(energy, turned, rtol=1e-12)


def loss(target, interferers, reference, eta):
    return float(window_loss(*(torch.tensor(v, dtype=torch.float64) for v in (target, interferers, reference)), eta))


def test_scaling_laws_of_the_window_loss():
    base = loss(2.0, 0.5, 8.0, 0.02)
    assert base == pytest.approx(math.log(0.66 / 2.0))
    # A larger voxel or other units change nothing.
    assert loss(2e6, 0.5e6, 8e6, 0.02) == pytest.approx(base)
    # Without a price, amplitude of all signals is free, and a k-fold target costs ln k less.
    assert loss(2.0, 0.5, 8.0, 0.0) == pytest.approx(loss(0.2, 0.05, 8.0, 0.0)) == pytest.approx(math.log(0.25))
    assert loss(6.0, 0.5, 8.0, 0.02) - base == pytest.approx(-math.log(3.0))
    # With a price, the same contamination at less signal is worse.
    assert loss(0.2, 0.05, 8.0, 0.02) > base
    # No interferer at all: the loss is that of the signal alone, ln(eta E_ref / E_T).
    assert loss(2.0, 0.0, 8.0, 0.02) == pytest.approx(math.log(0.08))


def test_the_area_loss_is_that_of_areas_and_blind_to_antiphase_lines():
    """By hand: |A_T| = 2, |A_I| = 0.6 and 0.8, |A_ref| = 4, eta 0.01."""
    two, reference = torch.tensor(2.0), torch.tensor(4.0)
    loss_of = lambda *others: float(area_loss(two, [torch.tensor(x) for x in others], reference, 0.01))  # noqa: E731
    assert loss_of(0.6, 0.8) == pytest.approx(math.log((0.36 + 0.64 + 0.16) / 4))
    assert loss_of() == pytest.approx(math.log(0.04))
    assert loss_of(0.6) > loss_of(0.3) > loss_of()


def test_crlb_loss_against_the_inverse_fisher_matrix_of_all_parameters():
    """NumPy: real and imaginary parts stacked, metabolites and nuisances together, full inverse."""
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(60, 4)) + 1j * rng.normal(size=(60, 4))
    columns[:, 1] += 2 * columns[:, 0]
    nuisance = rng.normal(size=(60, 5)) + 1j * rng.normal(size=(60, 5))
    noise_sd = 0.3
    design = np.concatenate([np.concatenate([x.real, x.imag]) for x in (columns, nuisance)], axis=1)
    assert design.shape == (120, 9)
    bounds = np.sqrt(np.diag(np.linalg.inv(design.T @ design / noise_sd**2)))
    got = crlb_loss(crlb_sd(torch.from_numpy(columns), 2, torch.from_numpy(nuisance), noise_sd))
    assert float(got) == pytest.approx(np.log(bounds[:2]).mean(), rel=1e-9)
    # Ten times the signal: every bound a tenth.
    ten = crlb_loss(crlb_sd(torch.from_numpy(10 * columns), 2, torch.from_numpy(nuisance), noise_sd))
    assert float(ten) == pytest.approx(float(got) - math.log(10), rel=1e-9)


def test_losses_pass_gradcheck():
    g = torch.Generator().manual_seed(1)
    spectra = torch.randn(2, 12, dtype=torch.complex128, generator=g, requires_grad=True)

    def window(x):
        energy = window_energy(x, 0.7)
        return window_loss(energy[0], energy[1], torch.tensor(3.0, dtype=torch.float64), 0.05)

    assert torch.autograd.gradcheck(window, spectra)
    columns = torch.randn(12, 3, dtype=torch.complex128, generator=g, requires_grad=True)
    nuisance = torch.randn(12, 4, dtype=torch.complex128, generator=g)
    assert torch.autograd.gradcheck(lambda x: crlb_loss(crlb_sd(x, 2, nuisance, 0.4)), columns)
