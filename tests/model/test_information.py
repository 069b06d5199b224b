import math

import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.model.information import (
    complex_columns,
    crlb,
    fisher_matrix,
    orthonormal_nuisance,
    without_nuisance,
)
from seqgen.model.lineshape import lorentz_response

NOISE_SD = 0.3


def random_columns(m=30, p=4, batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, m, p, dtype=torch.complex128, generator=generator)


def test_amplitude_of_a_single_lorentzian_in_closed_form():
    # FID a exp(-pi L t), sampled for ever at `dwell`: sum |d|^2 = 1/(1 - exp(-2 pi L dwell)).
    dwell, fwhm_hz, n = 2.5e-4, 5.0, 8192
    t = torch.arange(n, dtype=torch.float64) * dwell
    column = torch.exp((-math.pi * fwhm_hz + 300j) * t)[:, None]
    expected = NOISE_SD * math.sqrt(1 - math.exp(-2 * math.pi * fwhm_hz * dwell))
    assert float(crlb(column, NOISE_SD).sd) == pytest.approx(expected, rel=1e-10)


def test_integral_spectrum_agrees_with_the_fid():
    # The docstring's noise scaling: the whole axis, sampled at 1/(acquisition time), holds what the FID holds:
    # sum over the axis of |S|^2 = acquisition time * int |fid|^2 dt = T/(2 pi L) (Parseval).
    dwell, n, fwhm_hz = 5e-5, 2**15, 6.0
    axis = (torch.arange(n, dtype=torch.float64) - n // 2) / (n * dwell)
    column = lorentz_response(torch.zeros(1, dtype=torch.float64), axis, fwhm_hz).T
    spectral_sd = NOISE_SD * math.sqrt(n * dwell * dwell)
    continuous = NOISE_SD * math.sqrt(dwell * 2 * math.pi * fwhm_hz)
    # What lies beyond the spectral width is missing: relative 1e-4 here.
    assert float(crlb(column, spectral_sd).sd) == pytest.approx(continuous, rel=1e-3)


def test_bounds_equal_the_spread_of_least_squares():
    columns = random_columns()
    bounds = crlb(columns, NOISE_SD)
    d = columns.numpy()
    stacked = np.concatenate((d.real, d.imag))
    rng = np.random.default_rng(3)
    n_draws = 4000
    noise = NOISE_SD * rng.standard_normal((stacked.shape[0], n_draws))
    estimates = np.linalg.lstsq(stacked, noise, rcond=None)[0]
    # Relative spread of a standard deviation from n draws: 1/sqrt(2 n) = 1.1 %; 4 sigma.
    np.testing.assert_allclose(estimates.std(axis=1), bounds.sd.numpy(), rtol=0.045)
    np.testing.assert_allclose(np.corrcoef(estimates), bounds.correlation.numpy(), atol=0.065)


def test_batches_equal_single_members():
    columns = random_columns(batch=(2, 3))
    bounds = crlb(columns, torch.full((2, 3), NOISE_SD, dtype=torch.float64))
    one = crlb(columns[1, 2], NOISE_SD)
    torch.testing.assert_close(bounds.sd[1, 2], one.sd)
    torch.testing.assert_close(bounds.correlation[1, 2], one.correlation)


def test_gradcheck():
    columns = random_columns(m=6, p=3, batch=(2,)).requires_grad_()
    sd = torch.tensor(NOISE_SD, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, s: crlb(d, s).sd, (columns, sd))


def test_prior_information_is_that_of_one_more_measurement():
    columns = random_columns()
    prior = torch.tensor([0.0, 4.0, 0.0, 25.0], dtype=torch.float64)
    extra = torch.diag(prior.sqrt()).to(torch.complex128) * NOISE_SD
    torch.testing.assert_close(
        crlb(columns, NOISE_SD, prior_information=prior).sd, crlb(torch.cat((columns, extra)), NOISE_SD).sd
    )


def test_removing_nuisances_keeps_the_bounds():
    columns, nuisance = random_columns(p=3), random_columns(p=5, seed=8)
    full = crlb(torch.cat((columns, complex_columns(nuisance)), dim=1), NOISE_SD)
    reduced = crlb(without_nuisance(columns, orthonormal_nuisance(complex_columns(nuisance))), NOISE_SD)
    torch.testing.assert_close(reduced.sd, full.sd[:3])
    assert (reduced.sd > crlb(columns, NOISE_SD).sd).all()


def test_fisher_matrix_counts_real_parameters():
    # A column and i times it are independent real parameters.
    columns = complex_columns(random_columns(p=1))
    information = fisher_matrix(columns, NOISE_SD)
    assert float(information[0, 1]) == pytest.approx(0.0, abs=1e-12)
    assert float(information[0, 0]) == pytest.approx(float((columns[:, 0].abs() ** 2).sum()) / NOISE_SD**2)


def test_singular_information_names_the_parameters():
    columns = random_columns()
    twins = torch.cat((columns, columns[:, 1:2]), dim=1)
    with pytest.raises(InputError, match="cannot tell apart Gln, Glx"):
        crlb(twins, NOISE_SD, names=["Glu", "Gln", "Cr", "Cho", "Glx"])
    with pytest.raises(InputError, match="do not depend on Gln"):
        crlb(columns * torch.tensor([1, 0, 1, 1]), NOISE_SD, names=["Glu", "Gln", "Cr", "Cho"])
    with pytest.raises(InputError, match="not finite"):
        crlb(columns * math.nan, NOISE_SD)
