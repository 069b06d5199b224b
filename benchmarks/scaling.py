"""How far the pulse kernel is from this machine's matrix-product rate, and how cost grows with size."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.epoch import DURATION_S, F0_HZ, exact_amplitudes, line_amplitudes, models, our_epoch, pulse
from benchmarks.measure import cpu_seconds, largest_error
from seqgen.simulate.propagate import DESIGN_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel, group_model
from seqgen.spin.operators import total_operator
from seqgen.spin.system import SpinGroup

PRODUCTS_PER_STEP = 4
"""Products of complex d x d matrices that value and gradient need per J step: E K, U; two for the generator."""


def gemm_rate(d: int = 512) -> float:
    """Return real operations per second of a complex128 matrix product (8 d^3 of them)."""
    a, b = (torch.randn(d, d, dtype=torch.complex128) for _ in range(2))
    return 8 * d**3 / min(cpu_seconds(lambda: a @ b)[0] for _ in range(10))


def kernel_seconds(model: GroupModel, n_members: int, *, n_samples: int = 200, repeats: int = 5) -> float:
    """Return the shortest time of value and gradient of the propagators of a 20 ms pulse, s."""
    b1_hz = pulse(n_samples)[None].requires_grad_()
    offset_hz = torch.linspace(-10, 10, n_members, dtype=torch.float64)

    def run() -> Tensor:
        u = pulse_propagator(model, b1_hz, DURATION_S / n_samples, offset_hz=offset_hz, j_step_s=DESIGN_J_STEP_S)
        return torch.autograd.grad(u.real.sum(), b1_hz)[0]

    run()
    return min(cpu_seconds(run)[0] for _ in range(repeats))


def kernel_error(model: GroupModel, n_members: int) -> float:
    """Return the error of line amplitudes after the pulse of `kernel_seconds`, of its first, middle and last member."""
    offset_hz, b1_hz = torch.linspace(-10, 10, n_members, dtype=torch.float64), pulse()
    u = pulse_propagator(model, b1_hz[None], DURATION_S / len(b1_hz), offset_hz=offset_hz, j_step_s=DESIGN_J_STEP_S)
    fx = total_operator(model.group.n_spins, "x")
    found = line_amplitudes(model, u @ fx @ u.mH)
    some = sorted({0, n_members // 2, n_members - 1})
    exact = torch.cat([exact_amplitudes([model], b1_hz, offset_hz=float(offset_hz[k])) for k in some])
    return largest_error(found[some], exact)


def gemm_fraction(model: GroupModel, n_members: int, rate: float, *, repeats: int = 5) -> float:
    """Return the useful operations of the kernel per second over a matrix-product rate.

    What is not a matrix product, or a product made a second time to save memory, counts 0.
    """
    n_steps = round(DURATION_S / DESIGN_J_STEP_S)
    operations = PRODUCTS_PER_STEP * 8 * model.dimension**3 * n_steps * n_members
    return operations / kernel_seconds(model, n_members, repeats=repeats) / rate


def chain(n_spins: int) -> GroupModel:
    """Return a chain of coupled spins, 0.4 ppm and 7 Hz from one to the next."""
    j_hz = np.diag(np.full(n_spins - 1, 7.0), 1)
    return group_model(
        SpinGroup(
            name=f"chain of {n_spins}",
            labels=tuple(f"H{k}" for k in range(n_spins)),
            shift_ppm=tuple(1.0 + 0.4 * k for k in range(n_spins)),
            j_hz=tuple(tuple(float(value) for value in row) for row in j_hz + j_hz.T),
        ),
        F0_HZ,
        2.35,
    )


SPINS, MEMBERS = (2, 3, 4, 5, 6, 7, 8), (1, 3, 10, 30, 100, 300, 1000)


def costs(quick: bool) -> dict[str, dict[int, float]]:
    """Return seconds of value and gradient against spins, members and RF samples (the last for Glu and Gln)."""
    repeats = 1 if quick else 3
    spins = {n: kernel_seconds(chain(n), 1, repeats=repeats) for n in (SPINS[:-1] if quick else SPINS)}
    glu = models()[0]
    members = {n: kernel_seconds(glu, n, repeats=repeats) for n in (MEMBERS[:5:2] if quick else MEMBERS)}
    samples = {}
    for n in (100, 200, 2000, 20000) if quick else (100, 200, 500, 1000, 2000, 5000, 10000, 20000):
        way, b1_hz = our_epoch(models()), pulse(n)
        way(b1_hz)
        samples[n] = min(cpu_seconds(lambda way=way, b1_hz=b1_hz: way(b1_hz))[0] for _ in range(repeats + 2))
    return {"spins": spins, "members": members, "samples": samples}


def errors(quick: bool) -> dict[str, float]:
    """Return the errors of what `costs` times, against exact steps; chains up to six spins where it is to be quick."""
    report = {f"error_spins_{n}": kernel_error(chain(n), 1) for n in (SPINS[:5] if quick else SPINS)}
    return report | {f"error_members_{n}": kernel_error(models()[0], n) for n in (MEMBERS[:5:2] if quick else MEMBERS)}


def plot(found: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the costs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    labels = (
        ("spins", "spins of a chain, one member", "linear"),
        ("members", "members, Glu (5 spins)", "log"),
        ("samples", "RF samples of the 20 ms pulse,\nGlu and Gln, one member", "log"),
    )
    for axis, (name, label, scale) in zip(axes, labels, strict=True):
        axis.plot(list(found[name]), [seconds * 1e3 for seconds in found[name].values()], "o-", color="#0b5394")
        axis.set(xlabel=label, xscale=scale, yscale="log")
        axis.grid(which="major", alpha=0.3)
    axes[0].set_ylabel("value and gradient, ms")
    axes[2].set_ylim(1, 100)
    figure.suptitle("20 ms pulse, one thread, complex128")
    figure.savefig(path, dpi=120)
    plt.close(figure)
