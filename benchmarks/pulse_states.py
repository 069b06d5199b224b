"""`python -m benchmarks.pulse_states`: pulses alone (data/designs/bench_*): epochs, overlaps, states, enhancements.

For every protocol and start: the epochs (values with gradients) of the design, the one that first came to 0.99 of the
unitary maximum, the overlap over the protocol's ensemble with its maximum, and on resonance at nominal B1, by matrix
exponentials of SciPy, the overlap once more, the product operators, and the peak height and root of the energy in the
window against the protocol's hard pulse, each with its bound.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import expm

from benchmarks.counted import design, judged, study_with
from seqgen.axes import ppm_to_hz
from seqgen.model.lineshape import lorentz_response
from seqgen.pipeline.study import load_study
from seqgen.pulse.waveform import RFPulse
from seqgen.simulate.observables import peak_height_bound, window_energy, window_energy_bound, window_energy_matrix
from seqgen.simulate.trajectory import to_eigenbasis
from seqgen.spin.hamiltonian import molecule_models
from seqgen.spin.operators import total_operator
from seqgen.spin.product_operators import expand, parse_operator, to_text

DESIGNS = Path(__file__).resolve().parents[1] / "data" / "designs"
START_NAMES = ("random", "hard", "gaussian")


def exact_state(model, pulse: RFPulse) -> torch.Tensor:
    """Return the state right after a pulse in the product basis, one matrix exponential a sample, phase 0 at centre."""
    n = model.group.n_spins
    fx, fy, fz = (total_operator(n, axis).numpy() for axis in "xyz")
    free = np.diag(model.shift_rad_per_s.numpy()) + model.coupling_rad_per_s.numpy()
    turn = 2 * math.pi * pulse.carrier_offset_hz
    rho, whole = fz.astype(complex), None
    for b1 in 2 * math.pi * pulse.b1_hz.numpy():
        step = expm(-1j * (free - turn * fz + b1.real * fx + b1.imag * fy) * pulse.dwell_s)
        whole = step if whole is None else step @ whole
    half = np.diag(np.exp(-1j * turn * 0.5 * pulse.duration_s * fz.diagonal()))
    u = half @ whole @ half
    return torch.as_tensor(u @ rho @ u.conj().T)


def hard_pulse(study) -> RFPulse:
    """Return the rectangular pulse about +y that the protocol's sequence plays without a design."""
    params, protocol = study.protocol.sequence.params, study.protocol
    amplitude_hz = params.flip_angle_rad / (2 * math.pi * params.pulse_duration_s)
    return RFPulse(
        b1_hz=torch.full((10,), 1j * amplitude_hz, dtype=torch.complex128),
        dwell_s=params.pulse_duration_s / 10,
        carrier_offset_hz=ppm_to_hz(params.carrier_ppm, protocol.spectrometer_frequency_hz, protocol.water_shift_ppm),
    )


def enhancements(study, model, pulse: RFPulse) -> str | None:
    """Return peak height and root of the window energy against the hard pulse, with bounds; None without a line."""
    protocol, spec = study.protocol, study.protocol.design
    low, high = (ppm_to_hz(x, protocol.spectrometer_frequency_hz, protocol.water_shift_ppm) for x in spec.window_ppm)
    if not bool(((model.transition_hz > low) & (model.transition_hz < high)).any()):
        return None
    states = [to_eigenbasis(exact_state(model, each), model) for each in (pulse, hard_pulse(study))]
    axis = torch.arange(low, high, 0.05, dtype=torch.float64)
    response = lorentz_response(model.transition_hz, axis, spec.linewidth_hz)
    i, j = model.transition[:, 0], model.transition[:, 1]
    after, before = (((rho[i, j] * model.transition_weight) @ response).abs() for rho in states)
    at = float(axis[after.argmax()])
    bound = float(peak_height_bound(model, at, spec.linewidth_hz).value)
    matrix = window_energy_matrix(model, (low, high), spec.linewidth_hz)
    energy = [float(window_energy(rho, model, matrix)) for rho in states]
    most = float(window_energy_bound(model, (low, high), spec.linewidth_hz).value)
    ppm = protocol.water_shift_ppm + at / protocol.spectrometer_frequency_hz * 1e6
    return (
        f"highest point of |S| in the window, {ppm:.3f} ppm: {float(after.max()):.4f} /Hz, hard pulse "
        f"{float(before.max()):.4f}, ratio {float(after.max() / before.max()):.3f}, bound {bound:.4f}; "
        f"root of the window energy: ratio {math.sqrt(energy[0] / energy[1]):.3f}, at most "
        f"{math.sqrt(most / energy[1]):.3f} (not necessarily reachable)"
    )


def describe(study, pulse: RFPulse) -> list[str]:
    """Return lines about the states of every group of the target, at nominal B1 on resonance."""
    protocol, spec = study.protocol, study.protocol.design
    models = molecule_models(study.systems[spec.target], protocol.spectrometer_frequency_hz, protocol.water_shift_ppm)
    found = []
    for model in models:
        rho = exact_state(model, pulse)
        found.append(f"{model.group.name}: {to_text(expand(rho), count=8)}")
        if spec.state:
            q = parse_operator(spec.state, model.group.n_spins)
            fz = total_operator(model.group.n_spins, "z")
            size = math.sqrt(float((q.abs() ** 2).sum() * (fz.abs() ** 2).sum()))
            found.append(f"overlap by matrix exponentials {float((rho @ q).diagonal().sum().real) / size:.5f}")
        if line := enhancements(study, model, pulse):
            found.append(line)
    return found


def main():
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="protocols without bench_ and .yaml; default all")
    parser.add_argument("--nominal", action="store_true", help="one member, on resonance, instead of the ensemble")
    parser.add_argument("--starts", nargs="*", default=["random"], choices=START_NAMES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    one = {"b0_offsets_hz": (0.0,), "b1_scales": (1.0,)} if arguments.nominal else {}
    for path in sorted(DESIGNS.glob("bench_*.yaml")):
        name = path.stem.removeprefix("bench_")
        if arguments.names and name not in arguments.names:
            continue
        for start in arguments.starts:
            study = study_with(load_study(path), start=start, **one)
            made = design(study)
            m, pulse = judged(study, made.result), made.result.pulse
            of = ""
            if m.overlap is not None:
                ratio = m.overlap / m.overlap_maximum
                of = f"overlap {m.overlap:.4f} maximum {m.overlap_maximum:.4f} ratio {ratio:.4f} "
                of += f"0.99 at epoch {made.first(0.99)} "
            print(
                f"{name:26}{start:9}{of}signal {m.signal:.3f} contamination {m.contamination:.3f} loss {m.loss:.4f} "
                f"epochs {len(made.epochs)} peak {pulse.peak_hz:.0f} Hz {made.seconds:.0f} s"
            )
            for line in describe(study, pulse):
                print(f"    {line}", flush=True)


if __name__ == "__main__":
    main()
