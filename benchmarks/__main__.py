"""`python -m benchmarks`: one epoch (value and gradient) of a 200-step, 20 ms pulse for Glu and Gln, ours and naive.

The naive way is PyTorch as anyone would write it: complex128, matrix_exp of the full Hamiltonian at every step,
rho -> U rho U^H, autograd. Both compute the line amplitudes of the FID from the eigenvectors of the free Hamiltonian.
Printed: time, ratio, peak memory over what was there before, and our error against the naive way's exact steps.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from seqgen.library import spin_system
from seqgen.simulate.acquire import lines
from seqgen.simulate.propagate import DESIGN_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel, group_model
from seqgen.spin.operators import spin_operator, total_operator

N_STEPS, DURATION_S, CARRIER_PPM, F0_HZ = 200, 0.02, 2.35, 123.25e6


def models() -> list[GroupModel]:
    """Return the five-spin groups of Glu and Gln."""
    return [group_model(spin_system(name).groups[0], F0_HZ, CARRIER_PPM) for name in ("Glu", "Gln")]


def pulse() -> torch.Tensor:
    """Return a smooth random pulse of about 300 Hz peak, complex128, shape (N_STEPS,)."""
    generator = torch.Generator().manual_seed(1)
    knots = torch.randn(2, 1, 21, generator=generator, dtype=torch.float64)
    x, y = torch.nn.functional.interpolate(knots, size=N_STEPS, mode="linear", align_corners=True)[:, 0]
    return torch.complex(x, y) * 150


def members(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return field offsets (Hz) and B1 scales of n members: one point, or a square grid."""
    side = round(math.sqrt(n))
    if side == 1:
        return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    b0, b1 = torch.meshgrid(
        torch.linspace(-10, 10, side, dtype=torch.float64),
        torch.linspace(0.8, 1.2, side, dtype=torch.float64),
        indexing="ij",
    )
    return b0.reshape(-1), b1.reshape(-1)


def start_state(model: GroupModel) -> torch.Tensor:
    """Return sum Ix in the product basis."""
    return total_operator(model.group.n_spins, "x")


def amplitudes(model: GroupModel, u: torch.Tensor) -> torch.Tensor:
    """Return line amplitudes after U on sum Ix."""
    vectors = model.eigenvectors.to(u.dtype)
    rho = vectors.mT @ (u @ start_state(model) @ u.mH) @ vectors
    return lines(rho, model).amplitude


def ours(b1_hz: torch.Tensor, n: int) -> list[torch.Tensor]:
    """Return line amplitudes by the engine."""
    b0, b1 = members(n)
    return [
        amplitudes(
            model,
            pulse_propagator(model, b1[:, None] * b1_hz, DURATION_S / N_STEPS, offset_hz=b0, j_step_s=DESIGN_J_STEP_S),
        )
        for model in models()
    ]


def naive(b1_hz: torch.Tensor, n: int) -> list[torch.Tensor]:
    """Return line amplitudes by matrix_exp of the full Hamiltonian at every step."""
    b0, b1 = members(n)
    result = []
    for model in models():
        count = model.group.n_spins
        fx, fy, fz = (total_operator(count, axis) for axis in "xyz")
        h0 = model.coupling_rad_per_s.to(torch.complex128)
        for k in range(count):
            h0 = h0 + 2 * math.pi * model.offset_hz[k] * spin_operator(count, k, "z")
        h0 = h0 + 2 * math.pi * b0[:, None, None] * fz
        rho = start_state(model).expand(n, -1, -1)
        for step in range(N_STEPS):
            amplitude = (b1 * b1_hz[step])[:, None, None]
            h = h0 + 2 * math.pi * (amplitude.real * fx + amplitude.imag * fy)
            u = torch.linalg.matrix_exp(-1j * h * (DURATION_S / N_STEPS))
            rho = u @ rho @ u.mH
        vectors = model.eigenvectors.to(rho.dtype)
        result.append(lines(vectors.mT @ rho @ vectors, model).amplitude)
    return result


def epoch(way: Callable[[torch.Tensor, int], list[torch.Tensor]], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (all line amplitudes, gradient of a loss of them) of one epoch."""
    b1_hz = pulse().requires_grad_()
    found = torch.cat(way(b1_hz, n), -1)
    weights = torch.linspace(0, 1, found.shape[-1], dtype=torch.float64)
    ((found.real**2 + found.imag**2) * weights).sum().backward()
    assert b1_hz.grad is not None
    return found.detach(), b1_hz.grad


def measure(name: str, n: int, repeats: int) -> dict[str, float]:
    """Return seconds per epoch and peak memory over the imported libraries, in MB; run in a process of its own."""
    torch.set_num_threads(1)
    way = {"ours": ours, "naive": naive}[name]
    before = memory_kb("VmRSS")
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        epoch(way, n)
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "peak_mb": (memory_kb("VmHWM") - before) / 1024}


def memory_kb(key: str) -> int:
    """Return a figure of this process from the Linux kernel: VmRSS (memory now) or VmHWM (its peak), kB."""
    lines_of_status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines_of_status if line.startswith(key + ":"))


def in_own_process(name: str, n: int, repeats: int) -> dict[str, float]:
    """Return `measure` from a fresh process, so that peak memories do not mix."""
    code = f"import json; from benchmarks.__main__ import measure; print(json.dumps(measure({name!r}, {n}, {repeats})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", help="also write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, float | str] = {"machine": platform.platform(), "torch": torch.__version__}
    for n, repeats in ((1, 3), (25, 1 if arguments.quick else 2)):
        values, gradient = epoch(ours, n)
        exact_values, exact_gradient = epoch(naive, n)
        error = float((values - exact_values).abs().max() / exact_values.abs().max())
        gradient_error = float((gradient - exact_gradient).abs().max() / exact_gradient.abs().max())
        rows = {name: in_own_process(name, n, repeats) for name in ("ours", "naive")}
        ratio = rows["naive"]["seconds"] / rows["ours"]["seconds"]
        report |= {f"naive_ratio_{n}": ratio, f"error_{n}": error, f"gradient_error_{n}": gradient_error}
        report |= {f"{name}_{n}_{key}": value for name, row in rows.items() for key, value in row.items()}
        print(f"{n} member(s), Glu and Gln, {N_STEPS} steps of {DURATION_S / N_STEPS * 1e6:.0f} us, one thread:")
        for name, row in rows.items():
            print(f"  {name:6} {row['seconds']:8.3f} s  {row['peak_mb']:8.0f} MB")
        print(f"  ratio {ratio:.1f}; largest error of amplitudes {error:.1e}, of the gradient {gradient_error:.1e}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
