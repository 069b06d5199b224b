"""The model that the optimiser differentiates: its gradients, and that it is what the written file plays."""

import math

import numpy as np
import pytest
import torch
from press_files import F0_HZ, SCANNER, WATER_PPM, build, random_pulse, write

from seqgen import library
from seqgen.design.forward import PlayedShot
from seqgen.design.spectra import pulse_acquire
from seqgen.errors import InputError
from seqgen.pulse.parameterise import spline_waveform
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.simulate.molecule import molecule_lines

TE_S = (0.041, 0.034)


def seconds(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


@pytest.fixture(scope="module")
def ensemble_problem(design_spec, design_problem):
    return design_problem(design_spec(b0_offsets_hz=(-8.0, 8.0), b1_scales=(0.8, 1.0)))


@pytest.mark.parametrize("loss", [{"window": 1.0}, {"window": 0.7, "crlb": 0.4}])
def test_directional_derivatives_of_the_whole_loss(design_spec, design_problem, loss):
    """Central differences in spline coefficients, TE1 and TE2, along a random direction and along each time alone."""
    spec = design_spec(loss=loss)
    problem = design_problem(spec, names=("Glu", "Gln", "NAA") if "crlb" in loss else ("Glu", "Gln"))
    shape = spline_waveform(
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        knot_spacing_s=spec.knot_spacing_s,
        b1_max_hz=spec.b1_max_hz,
        energy_max_hz2_s=spec.energy_max_hz2_s,
    )
    generator = torch.Generator().manual_seed(5)
    n = shape.n_parameters
    x = torch.cat([0.4 * torch.randn(n, generator=generator, dtype=torch.float64), torch.tensor(TE_S) / 0.01])
    x = x.to(torch.float64).requires_grad_()

    def value(at):
        return problem.loss_and_metrics(shape.waveform_hz(at[:-2]), 0.01 * at[-2], 0.01 * at[-1])[0]

    (gradient,) = torch.autograd.grad(value(x), x)
    random = torch.randn(n + 2, generator=generator, dtype=torch.float64)
    for direction in (random, torch.eye(n + 2, dtype=torch.float64)[-2], torch.eye(n + 2, dtype=torch.float64)[-1]):
        step = 1e-4
        with torch.no_grad():
            difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(float(difference), rel=1e-5, abs=1e-7)


def test_the_gradient_is_finite_and_right_at_zero_amplitude(design_spec, design_problem):
    problem = design_problem(design_spec())
    b1 = torch.zeros(1000, dtype=torch.complex128, requires_grad=True)
    loss, _ = problem.loss_and_metrics(b1, *seconds(*TE_S))
    (gradient,) = torch.autograd.grad(loss, b1)
    direction = random_pulse(1.0).b1_hz
    step = 1e-3
    with torch.no_grad():
        up, down = (problem.loss_and_metrics(s * direction, *seconds(*TE_S))[0] for s in (step, -step))
    expected = float((up - down) / (2 * step))
    # PyTorch's gradient of a real loss by a complex variable is dL/dx + i dL/dy.
    assert float((gradient.conj() * direction).sum().real) == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ["Glu", "Gln"])
def test_the_model_is_what_the_written_file_plays(design_spec, design_problem, name, tmp_path):
    """Line amplitudes of the optimiser's model, moved to other echo times, against the file that was read back."""
    pulse = random_pulse(250.0)
    te_s = (0.0452, 0.0391)
    spec = design_spec(b0_offsets_hz=(0.0,), b1_scales=(1.0,))
    steps = {"positions_per_slice": 6, "j_step_s": 2e-4}
    model = design_problem(spec, **steps).model
    got = model.molecule_lines(name, pulse.b1_hz, 2e-5, pulse.carrier_offset_hz, *seconds(*te_s))
    built = build(pulse, te1_s=te_s[0], te2_s=te_s[1], receiver_phase_rad=0.0)
    cycle = phase_cycle(shots(read_seq(write(tmp_path / "edited.seq", built))))
    place = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM}
    wanted = molecule_lines(cycle, library.spin_system(name), **place, **steps)
    decay = math.exp(-sum(te_s) / 0.16)
    assert np.allclose(got.frequency_hz, wanted.frequency_hz)
    assert float((got.amplitude - decay * wanted.amplitude).abs().max()) < 1e-4
    assert float(wanted.amplitude.abs().max()) > 0.05


def test_plain_press_moves_its_echo_times(design_spec, design_problem):
    spec = design_spec()
    short = design_problem(spec, edited=False, te1_s=0.03, te2_s=0.03)
    long = design_problem(spec, edited=False, te1_s=0.05, te2_s=0.06)
    one, other = (problem.loss_and_metrics(None, *seconds(0.05, 0.06))[1] for problem in (short, long))
    assert one.loss == pytest.approx(other.loss, abs=1e-9)
    assert one.signal == pytest.approx(other.signal, abs=1e-9)


def test_metrics_and_loss_belong_together_for_one_member(design_spec, design_problem):
    problem = design_problem(design_spec(signal_price=0.03))
    loss, metrics = problem.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))
    assert float(loss) == metrics.loss
    assert metrics.loss == pytest.approx(math.log(metrics.contamination**2 + 0.03 / metrics.signal**2), rel=1e-9)


def test_the_ensemble_is_a_mean_of_its_members(design_spec, design_problem, ensemble_problem):
    pulse = random_pulse().b1_hz
    _, whole = ensemble_problem.loss_and_metrics(pulse, *seconds(*TE_S))
    single = [
        design_problem(design_spec(b0_offsets_hz=(b0,), b1_scales=(b1,))).loss_and_metrics(pulse, *seconds(*TE_S))[1]
        for b0 in (-8.0, 8.0)
        for b1 in (0.8, 1.0)
    ]
    # Members share the positions of the ensemble, which reach a little further: 1e-3 for two positions per slice.
    assert whole.loss == pytest.approx(np.mean([m.loss for m in single]), abs=5e-2)
    assert whole.signal == pytest.approx(np.mean([m.signal for m in single]), rel=5e-2)


def test_the_receiver_phase_puts_the_target_into_absorption(design_spec, design_problem):
    problem = design_problem(design_spec())
    pulse = random_pulse().b1_hz
    te1_s, te2_s = seconds(*TE_S)
    shot = PlayedShot(b1_hz=pulse, te1_s=te1_s, te2_s=te2_s)
    phase_rad = problem.receiver_phase_rad([shot])[0]
    amplitude = problem.model.molecule_lines("Glu", pulse, 2e-5, problem.carrier_hz, *seconds(*TE_S)).amplitude
    window = (amplitude @ problem.window.response["Glu"]).sum().item() * np.exp(-1j * phase_rad)
    assert window.real > 0
    assert abs(window.imag) < 1e-5 * window.real


def test_reference_energy_is_that_of_pulse_acquire(design_spec, design_problem):
    """E_ref from the lines after an ideal pulse; their sum is the number of protons."""
    problem = design_problem(design_spec())
    glu = library.spin_system("Glu")
    place = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM}
    from seqgen.timeline import Interval, Receiver, Timeline, ideal_pulse

    receiver = Interval(
        dwell_s=1.0,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=Receiver(n_samples=4, dwell_s=0.25),
    )
    hard = Timeline(intervals=(ideal_pulse(math.pi / 2, math.pi / 2, "excitation"), receiver))
    found = molecule_lines([hard], glu, **place)
    assert float(found.amplitude.sum().real) == pytest.approx(sum(group.n_protons for group in glu.groups), rel=1e-9)
    f = problem.window.offset_hz.numpy()
    spectrum = sum(
        complex(a) / (math.pi * 5.0 + 2j * math.pi * (f - float(line_hz)))
        for a, line_hz in zip(found.amplitude[0], found.frequency_hz, strict=True)
    )
    energy = float((np.abs(spectrum) ** 2).sum() * (f[1] - f[0]))
    assert float(problem.reference_energy) == pytest.approx(energy, rel=1e-6)


def test_the_crlb_value_against_numpy(design_spec, design_problem):
    """Full Fisher matrix of four metabolites and the complex spline baseline, from the model's own lines."""
    from scipy.interpolate import BSpline

    names = ("Glu", "Gln", "NAA", "Cr")
    problem = design_problem(design_spec(loss={"crlb": 1.0}), names=names)
    pulse = random_pulse().b1_hz
    loss, _ = problem.loss_and_metrics(pulse, *seconds(*TE_S))
    f = np.arange((1.8 - WATER_PPM) * 123.2, (4.1 - WATER_PPM) * 123.2, 2.0)
    columns = []
    for name in names:
        lines = problem.model.molecule_lines(name, pulse, 2e-5, problem.carrier_hz, *seconds(*TE_S))
        a, line_hz = lines.amplitude[0].numpy(), lines.frequency_hz.numpy()
        columns.append((a[:, None] / (np.pi * 5.0 + 2j * np.pi * (f - line_hz[:, None]))).sum(0))
    n_knots = math.ceil((4.1 - 1.8) / 0.4 - 1e-9)
    spacing = (4.1 - 1.8) / n_knots
    knots = 1.8 + spacing * np.arange(-3, n_knots + 4)
    ppm = np.linspace(1.8, 4.1, f.size)
    splines = BSpline.design_matrix(np.clip(ppm, 1.8, 4.1 - 1e-12), knots, 3).toarray()
    nuisance = [s * factor for s in splines.T for factor in (1.0, 1.0j)]
    stacked = np.array([np.concatenate([c.real, c.imag]) for c in (*columns, *nuisance)]).T
    scale = np.linalg.norm(stacked, axis=0)
    bounds = np.sqrt(np.diag(np.linalg.inv((stacked / scale).T @ (stacked / scale)))) / scale
    assert float(loss) == pytest.approx(np.log(bounds[:2]).mean(), rel=1e-5)


def test_a_metabolite_that_is_missing_is_named(design_spec, design_problem):
    with pytest.raises(InputError, match="names Gln, which the sample does not hold"):
        design_problem(design_spec(), names=("Glu",))


def test_a_template_with_suppression_is_refused(design_spec, design_problem):
    with pytest.raises(InputError, match=r"needs a PRESS shot .* Switch water suppression off"):
        design_problem(design_spec(), water_suppression="wet")


def test_an_edited_model_needs_a_waveform(design_spec, design_problem):
    with pytest.raises(InputError, match="give its waveform b1_hz"):
        design_problem(design_spec()).loss_and_metrics(None, *seconds(*TE_S))
    assert SCANNER.rf_raster_s == 1e-6


def test_areas_are_integrals_of_the_complex_spectra(design_spec, design_problem):
    """Sums over the window of spectra made here from the lines; after pulse-acquire the target's own area is 1."""
    problem = design_problem(design_spec())
    pulse = random_pulse().b1_hz
    _, metrics = problem.loss_and_metrics(pulse, *seconds(*TE_S))
    area = {}
    for name in ("Glu", "Gln"):
        amplitude = problem.model.molecule_lines(name, pulse, 2e-5, problem.carrier_hz, *seconds(*TE_S)).amplitude
        area[name] = abs((amplitude.numpy() @ problem.window.response[name].numpy()).sum())
    reference = pulse_acquire(problem.model, "Glu").amplitude.numpy() @ problem.window.response["Glu"].numpy()
    assert metrics.area_contamination == pytest.approx(area["Gln"] / area["Glu"], rel=1e-9)
    assert metrics.area_signal == pytest.approx(area["Glu"] / abs(reference.sum()), rel=1e-9)
