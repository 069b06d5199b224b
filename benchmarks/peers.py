"""`python -m benchmarks.peers`: the same work on other people's simulators and on ours, timed side by side.

MRSandbox (J. P. Merkofer, MIT): value and gradient of the line amplitudes of Glu and Gln after a shaped pulse.
QuTiP with qutip-qtrl (BSD): one GRAPE evaluation, fidelity and gradient, for a unitary target on five spins.
Both are optional (extra "peers") and imported when first used; nothing else of seqgen needs them.

Every adapter prepares what does not depend on the waveform once and returns a function of the waveform alone, so that
a timing counts what an optimiser repeats. All run in double precision on one thread. Timings are taken in a process of
its own, started by `fair_environment`: variables such as OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE make NumPy's and
SciPy's OpenBLAS use kernels or block sizes meant for another processor, which slows QuTiP and not torch (MKL);
they are read when the library loads and therefore have to be absent before Python starts. By hand:
`env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m benchmarks.peers`.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.epoch import (
    DURATION_S,
    F0_HZ,
    N_STEPS,
    Epoch,
    models,
    our_epoch,
    pulse,
    value_and_gradient,
)
from benchmarks.measure import side_by_side
from seqgen.simulate.propagate import DESIGN_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel

PROTON_MHZ_PER_T = 42.5774785
"""Any value serves: MRSandbox gets the field that makes F0_HZ of it."""

Evaluation = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From controls in Hz, shape (T, 2), to (fidelity |Tr(U_target^H U)| / d, its gradient of shape (T, 2))."""


# Value and gradient of line amplitudes.


def keras_on_torch() -> None:
    """Have Keras, on which MRSandbox stands, run on torch and keep its settings out of the home directory.

    Keras reads both variables as it is first imported, and would otherwise write ~/.keras/keras.json.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ.setdefault("KERAS_HOME", str(Path(tempfile.gettempdir()) / "seqgen-peers-keras"))


@contextlib.contextmanager
def mrsandbox_precision(name: str) -> Iterator[None]:
    """Set MRSandbox's precision, "float64" or "float32" (its default), and put back what it was: it is global."""
    keras_on_torch()
    from mrsandbox.backend import precision

    before = precision.REAL
    precision.set_precision(name)
    try:
        yield
    finally:
        precision.set_precision(before)


def mrsandbox_system(model: GroupModel):
    """Return MRSandbox's SpinSystem of a model of 1H spins, with shifts counted from the model's reference.

    A pulse of MRSandbox then rotates with the spectrometer frequency, as ours does, and its samples are exact: counted
    from 0 ppm they would stand still in the frame of DSS, and the carrier would be sampled at their middles. The scale
    of 2 turns its unit (1/2 for a proton along x) into ours (1).
    """
    keras_on_torch()
    from mrsandbox import SpinSystem

    return SpinSystem(
        name=model.group.name,
        nucleus="1H",
        shifts_ppm=tuple(float(offset) / (F0_HZ * 1e-6) for offset in model.offset_hz),
        j_hz=model.group.j_hz,
        scale=2.0 * model.group.multiplier,
        gamma_mhz_t=PROTON_MHZ_PER_T,
    )


def mrsandbox_engine():
    """Return MRSandbox's engine at F0_HZ with receiver phase 0: +x real and positive."""
    keras_on_torch()
    from mrsandbox import Engine

    return Engine(F0_HZ * 1e-6 / PROTON_MHZ_PER_T, receiver_phase_deg=0.0)


def mrsandbox_pulse(b1_hz: Tensor, duration_s: float):
    """Return MRSandbox's ShapedPulse of a waveform; differentiable where no sample is zero.

    It takes amplitudes and a frequency per sample, and plays sample n at the phase
    2 pi (sum_{k<n} f_k + f_n / 2) dt, so the frequencies that give the phases p are
    f_n = p_n / (pi dt) + 2 sum_{k<n} (-1)^(n-k) p_k / (pi dt).
    """
    keras_on_torch()
    from mrsandbox import ShapedPulse
    from mrsandbox.backend import precision

    n = b1_hz.shape[0]
    index = torch.arange(n)
    alternating = 1.0 - 2.0 * ((index[:, None] - index[None, :]) % 2).to(torch.float64)
    frequencies = (torch.eye(n, dtype=torch.float64) + 2 * alternating.tril(-1)) / (math.pi * duration_s / n)
    real = getattr(torch, precision.REAL)
    return ShapedPulse(
        None,
        duration_s,
        b1_hz.abs().to(real),
        frequency_hz=(frequencies @ b1_hz.angle()).to(real),
        peak_hz=1.0,
    )


def mrsandbox_epoch(
    groups: Sequence[GroupModel], duration_s: float = DURATION_S, *, precision: str = "float64"
) -> Epoch:
    """Return MRSandbox's epoch on its torch backend: the same work and the same result as `our_epoch`.

    Computed: thermal state, ideal 90 degrees about y (sum Ix), the shaped pulse with the full Hamiltonian (its expm of
    every sample, multiplied up in pairs), the amplitudes of all d x d transitions by `Engine.lines`, of which those
    that our engine lists are taken in its order; then the loss and torch's gradient with respect to the waveform.
    `Engine.lines` runs eagerly. The compiled way (`Engine.graph`, which is torch.compile here) gives the same numbers,
    needs most of a minute to compile and is then slower than the eager one: Inductor generates no code for complex
    numbers. Lines are matched by the order of the energy levels, which Glu and Gln at 3 T do not have in common.

    Args:
        groups: Groups of 1H spins without degenerate levels.
        duration_s: Duration of the pulse, s.
        precision: "float64" (complex128), or MRSandbox's default "float32" (complex64, about 1e-4 of the gradient).
    """
    with mrsandbox_precision(precision):
        from mrsandbox import Pulse, Sequence

        engine = mrsandbox_engine()
        systems = [mrsandbox_system(model) for model in groups]
    index, start = [], 0
    for model in groups:
        energy, d = model.energy_rad_per_s, model.energy_rad_per_s.shape[0]
        if float(energy.sort().values.diff().min()) < 1e-6:
            raise ValueError(f"group {model.group.name!r} has degenerate levels: its lines cannot be matched")
        rank = energy.argsort().argsort()
        index.append(start + rank[model.transition[:, 1]] * d + rank[model.transition[:, 0]])
        start += d * d
    taken = torch.cat(index)

    def amplitudes(b1_hz: Tensor) -> Tensor:
        sequence = Sequence(Pulse(90.0, 90.0), mrsandbox_pulse(b1_hz, duration_s))
        return engine.lines(sequence, *systems)[1][taken].to(torch.complex128)[None]

    def run(b1_hz: Tensor) -> tuple[Tensor, Tensor]:
        with mrsandbox_precision(precision):
            return value_and_gradient(amplitudes, b1_hz)

    return run


# GRAPE: fidelity of a unitary target and its gradient.


def grape_problem(n_steps: int = N_STEPS, seed: int = 3) -> tuple[GroupModel, np.ndarray, np.ndarray]:
    """Return (five spins of Glu, target of shape (d, d), controls in Hz of shape (n_steps, 2)).

    The target is what a noisy copy of the pulse does: the fidelity is about 0.7 and its gradient far from zero.
    """
    model = models()[0]
    b1_hz = pulse(n_steps)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n_steps, generator=generator, dtype=torch.float64) * 60
    target = pulse_propagator(
        model,
        (b1_hz + torch.complex(x, y))[None],
        DURATION_S / n_steps,
        offset_hz=torch.zeros(1, dtype=torch.float64),
        j_step_s=DESIGN_J_STEP_S,
    )[0]
    return model, target.numpy(), torch.view_as_real(b1_hz).numpy().copy()


def qutip_grape_evaluation(
    model: GroupModel, target: np.ndarray, duration_s: float = DURATION_S, n_steps: int = N_STEPS
) -> Evaluation:
    """Return qutip-qtrl's GRAPE evaluation: fidelity and gradient for a unitary target up to a global phase.

    `create_pulse_optimizer` with dyn_type UNIT, fid_type UNIT and phase option PSU: fidelity |Tr(U_target^H U)| / d.
    The propagator of every slot comes from the eigenvectors of its Hamiltonian (PropCompDiag), and so does its exact
    derivative (divided differences of the exponential; no approximation). Controls 2 pi Fx and 2 pi Fy, so amplitudes
    are in Hz. Dense NumPy matrices, as qutip-qtrl itself chooses for this size; everything is cached (its default
    memory_optimization 0, the fastest). An evaluation is `fid_computer.get_fid_err` and `get_fid_err_gradient`.
    The slots are given as `tau`: from num_tslots and evo_time qutip-qtrl 0.2.0 makes them in single precision, and the
    fidelity is then wrong by 1e-8.
    """
    import qutip
    from qutip_qtrl import logging_utils
    from qutip_qtrl.pulseoptim import create_pulse_optimizer

    n = model.group.n_spins

    def spin(k: int, axis: str):
        one = {"x": qutip.sigmax(), "y": qutip.sigmay(), "z": qutip.sigmaz()}[axis] / 2
        return qutip.tensor([one if j == k else qutip.qeye(2) for j in range(n)])

    drift = sum(2 * math.pi * float(model.offset_hz[k]) * spin(k, "z") for k in range(n))
    for j in range(n):
        for k in range(j + 1, n):
            drift = drift + 2 * math.pi * model.group.j_hz[j][k] * sum(spin(j, a) * spin(k, a) for a in "xyz")
    optimiser = create_pulse_optimizer(
        drift,
        [2 * math.pi * sum(spin(k, axis) for k in range(n)) for axis in "xy"],
        qutip.qeye(drift.dims[0]),
        qutip.Qobj(target, dims=drift.dims),
        tau=np.full(n_steps, duration_s / n_steps),
        dyn_type="UNIT",
        fid_type="UNIT",
        fid_params={"phase_option": "PSU"},
        init_pulse_type="ZERO",
        log_level=logging_utils.WARN,
    )
    optimiser.pulse_generator.init_pulse()
    dynamics = optimiser.dynamics
    dynamics.initialize_controls(np.zeros((n_steps, 2)))

    def evaluate(controls_hz: np.ndarray) -> tuple[float, np.ndarray]:
        dynamics.update_ctrl_amps(controls_hz.copy())
        error = dynamics.fid_computer.get_fid_err()
        return 1.0 - float(error), -dynamics.fid_computer.get_fid_err_gradient()

    return evaluate


def our_grape_evaluation(
    model: GroupModel, target: np.ndarray, duration_s: float = DURATION_S, *, j_step_s: float = DESIGN_J_STEP_S
) -> Evaluation:
    """Return the engine's GRAPE evaluation: |Tr(U_target^H U)| / d by `pulse_propagator`, gradient by autograd."""
    adjoint = torch.as_tensor(target, dtype=torch.complex128).mH.contiguous()
    nowhere = torch.zeros(1, dtype=torch.float64)

    def evaluate(controls_hz: np.ndarray) -> tuple[float, np.ndarray]:
        controls = torch.tensor(controls_hz, dtype=torch.float64, requires_grad=True)
        b1_hz = torch.view_as_complex(controls)[None]
        u = pulse_propagator(model, b1_hz, duration_s / b1_hz.shape[1], offset_hz=nowhere, j_step_s=j_step_s)[0]
        fidelity = (adjoint * u.mT).sum().abs() / u.shape[-1]
        (gradient,) = torch.autograd.grad(fidelity, controls)
        return float(fidelity.detach()), gradient.numpy()

    return evaluate


# Timings.


def fair_environment() -> dict[str, str]:
    """Return this process's environment with one thread everywhere and no overrides of OpenBLAS's own choices."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    }
    return environment | {key: "1" for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def measure(repeats: int = 7) -> dict[str, float]:
    """Return median seconds and largest differences from our engine at fine steps; run under `fair_environment`."""
    torch.set_num_threads(1)
    groups, b1_hz = models(), pulse()
    model, target, controls_hz = grape_problem()
    epochs = {
        "epoch_ours": our_epoch(groups, j_step_s=DESIGN_J_STEP_S),
        "epoch_mrsandbox": mrsandbox_epoch(groups),
        "epoch_mrsandbox_float32": mrsandbox_epoch(groups, precision="float32"),
    }
    grapes = {
        "grape_ours": our_grape_evaluation(model, target),
        "grape_ours_100_us": our_grape_evaluation(model, target, j_step_s=1e-4),
        "grape_qutip": qutip_grape_evaluation(model, target),
    }

    def again(way: Callable[[np.ndarray], object] | Epoch, start: np.ndarray | Tensor) -> Callable[[int], object]:
        return lambda turn: way(start * (1 + 1e-6 * turn))

    ways = {name: again(way, b1_hz) for name, way in epochs.items()}
    ways |= {name: again(way, controls_hz) for name, way in grapes.items()}
    report = {f"{name}_s": seconds for name, seconds in side_by_side(ways, repeats=repeats).items()}
    for kind, found, exact in (
        ("epoch", {n: way(b1_hz) for n, way in epochs.items()}, our_epoch(groups, j_step_s=5e-6)(b1_hz)),
        (
            "grape",
            {n: way(controls_hz) for n, way in grapes.items()},
            our_grape_evaluation(model, target, j_step_s=5e-6)(controls_hz),
        ),
    ):
        assert all(name.startswith(kind) for name in found)
        for name, result in found.items():
            for part, mine, fine in zip(("value", "gradient"), result, exact, strict=True):
                a, b = (np.asarray(part_of) for part_of in (mine, fine))
                report[f"{name}_{part}_error"] = float(np.abs(a - b).max() / np.abs(b).max())
    return report


def measure_fairly(repeats: int = 7) -> dict[str, float]:
    """Return `measure` from a fresh process in `fair_environment`."""
    code = f"import json; from benchmarks.peers import measure; print(json.dumps(measure({repeats})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=fair_environment()
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="timed calls of each way; the median counts")
    for name, value in measure_fairly(parser.parse_args().repeats).items():
        print(f"{name:40} {value:.3g}")


if __name__ == "__main__":
    main()
