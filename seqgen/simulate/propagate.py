r"""Propagators of coupled spins through RF pulses, differentiable, with memory that hardly grows with the pulse.

Shift, offset, gradient and RF are sums of one-spin operators: over a J step of length h their propagator is the
Kronecker product K of exact 2 x 2 rotations. The couplings H_J act by one fixed matrix E per step. Plain splitting
(Strang), E(h/2) K_S E(h) ... K_1 E(h/2), is of second order. Isotropic coupling commutes with rotations common to all
spins, so its error comes from the shifts H_S alone, and that can be undone by fixed matrices at no cost per step:

    U = P E(h/2) K_S E(h) ... E(h) K_1 E(h/2) P^T,    E(t) = exp(-i t (H_J + (h^2/24) [H_J, [H_J, H_S]])),
    P = exp(-(h^2/12) [H_S, H_J]),

the modified potential of Takahashi & Imada with the processor of Blanes, Casas & Ros: fourth order in h. (Errors
linear in J are those of a sum of midpoints for an integral, so they telescope to the ends: that is P.)
Sources: Takahashi, Imada, J Phys Soc Jpn 53:3765 (1984), doi:10.1143/JPSJ.53.3765; Blanes, Casas, Ros, SIAM J Sci
Comput 21:711 (1999), doi:10.1137/S1064827598332497; derivation and measured errors in docs/engine.md.

The gradient runs the unitaries backwards (`_PulsePropagator.backward`): of every J step the one-spin rotations are
held, its d x d matrix only while all of them stay small. Members of an ensemble are worked off in blocks that fit into
the cache.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.rotation import Moments, accumulate, matrices, moments, rotations
from seqgen.spin.hamiltonian import GroupModel
from seqgen.spin.operators import symmetric_isometry

DESIGN_J_STEP_S = 5e-4
"""J step for optimisation: lines of Glu and Gln within 1e-4 of the largest of exact steps (tests/simulate)."""
RESULT_J_STEP_S = 2e-4
"""J step for reported results and basis sets: within 2e-6 of the largest line of exact steps, 300 Hz pulses."""
_RF_TURNS, _SHIFT_TURNS = 0.25, 0.05
"""At `RESULT_J_STEP_S`, a J step is cut until RF turns spins by no more than the first, and the shifts of two coupled
spins drift apart by no more than the second (250 Hz); coarser J steps allow more (`_cut_j_step_s`)."""
_MOST_J_STEPS = 1_000_000
"""Most J steps of a pulse."""
_WINDOWS_PER_STEP = 8
"""RF samples shorter than a J step over this are merged, to fourth order, into windows of that length."""
_MOST_TURNS_PER_WINDOW = 0.1
"""Windows are kept so short that offset, RF and its modulation together turn by no more than this in one."""
_CPU_BLOCK_BYTES, _GPU_BLOCK_BYTES = 2**19, 2**28
"""Size of the propagators of a block of members: half the second-level cache of a core, or enough to fill a GPU."""
_BLOCKS_PER_CHUNK = 2
"""Matrices of J steps that are built at once, in blocks."""
_KEPT_BYTES = 2**23
"""Rotations and matrices of all J steps are kept for the gradient if the latter are no larger; else made again."""
_OFFSET = 4
"""Place of the offsets among the inputs of `_Pulse.rotations`: those before it may be shared by all members."""


def pulse_propagator(
    model: GroupModel,
    b1_hz: Tensor,
    dwell_s: float,
    *,
    offset_hz: Tensor,
    b1_scale: Tensor | None = None,
    j_step_s: float = RESULT_J_STEP_S,
    gradient_hz_per_m: Tensor | None = None,
    position_m: Tensor | None = None,
) -> Tensor:
    """Return the propagator of an RF pulse in the product basis.

    Args:
        model: The spin group at its field.
        b1_hz: RF in the frame of the spectrometer frequency, Hz, complex, shape (B, T) or (1, T). Its precision and
            device are those of the result.
        dwell_s: Duration of a sample, s.
        offset_hz: Offset common to all spins (field offset plus gradient times position), Hz, shape (B,).
        b1_scale: Relative B1 of each member, shape (B,); default 1.
        j_step_s: Longest time between applications of the coupling, s, cut for strong RF and far-apart shifts
            (`_cut_j_step_s`). Samples may be longer or shorter.
        gradient_hz_per_m: A gradient that changes while the pulse plays, Hz/m, shape (B, T) or (1, T); default none.
        position_m: Positions along it, m, shape (B,): its offset, position times gradient, adds to `offset_hz`.

    Returns:
        Unitary matrices, shape (B, d, d). Differentiable once in `b1_hz`, `offset_hz` and `b1_scale`.

    Raises:
        InputError: If shapes do not belong together, a number is not finite, or a duration is not positive.
    """
    _require_pulse(b1_hz, dwell_s, offset_hz, b1_scale, j_step_s)
    _require_gradient(b1_hz, offset_hz, gradient_hz_per_m, position_m)
    real = b1_hz.real.dtype
    offset_hz = offset_hz.to(b1_hz.device, real)
    b1_scale = torch.ones_like(offset_hz) if b1_scale is None else b1_scale.to(b1_hz.device, real)
    peak_hz = float(b1_hz.detach().abs().max() * b1_scale.detach().abs().max())
    j_step_s = _cut_j_step_s(model, peak_hz, j_step_s, b1_hz.shape[1] * dwell_s)
    reach_hz = float(offset_hz.detach().abs().max()) + float(model.offset_hz.abs().max())
    reach_hz += peak_hz + modulation_hz(b1_hz.detach(), dwell_s)
    if gradient_hz_per_m is not None and position_m is not None:
        reach_hz += float(gradient_hz_per_m.abs().max() * position_m.abs().max())
    edges_s = _edges_s(b1_hz.shape[1], dwell_s, j_step_s, reach_hz).to(b1_hz.device)
    windows = moments(b1_hz, dwell_s, edges_s, gradient_hz_per_m)
    area, along = windows.area, torch.zeros(1, 1, 1, dtype=real, device=b1_hz.device)
    if position_m is not None:
        area, along = windows.at(position_m.detach().to(b1_hz.device, torch.float64)[:, None, None])
    pulse = _Pulse(
        model=model,
        duration_s=windows.duration_s.to(real),
        splitting=_splitting(model, b1_hz.shape[1] * dwell_s / edges_s.shape[0], b1_hz.dtype, b1_hz.device),
    )
    u: Tensor = _PulsePropagator.apply(  # type: ignore[no-untyped-call]
        area.to(b1_hz.dtype),
        windows.first.to(b1_hz.dtype),
        windows.twist.to(real),
        along.to(real),
        offset_hz,
        b1_scale,
        pulse,
    )
    return u


def _cut_j_step_s(model: GroupModel, peak_hz: float, j_step_s: float, duration_s: float) -> float:
    """Return the J step for a pulse of some peak amplitude on a group, s: no longer than `j_step_s`.

    The splitting's error grows with the fourth power of how far RF and shift differences turn in one step; errors that
    belong to `j_step_s` hold for RF up to 1.2 kHz (800 Hz at the step of a design) and coupled shifts within 250 Hz.
    Couplings that RF does not leave alone (to a heteronucleus in the matrices) make it second order: a tenth of the
    step then.

    Raises:
        InputError: If the pulse would take more than a million steps.
    """
    relative = j_step_s / RESULT_J_STEP_S
    coupled = torch.tensor(model.group.j_hz, dtype=torch.float64) != 0
    apart = (model.offset_hz[:, None] - model.offset_hz[None, :]).abs()[coupled]
    apart_hz = float(apart.max()) if len(apart) else 0.0
    limits = [j_step_s, j_step_s * _SHIFT_TURNS / max(_SHIFT_TURNS, RESULT_J_STEP_S * apart_hz)]
    if peak_hz > 0:
        limits.append(_RF_TURNS * math.sqrt(relative) / peak_hz)
    if not bool(model.pulsed.all()):
        limits.append(j_step_s / 10)
    step_s = min(limits)
    if duration_s / step_s > _MOST_J_STEPS:
        raise InputError(
            f"A pulse of {duration_s:.4g} s needs {duration_s / step_s:.3g} J steps of {step_s:.3g} s, but the limit "
            f"is {_MOST_J_STEPS}. Raise j_step_s ({RESULT_J_STEP_S:g} s for results), or check the pulse's amplitude, "
            f"{peak_hz:.4g} Hz."
        )
    return step_s


def modulation_hz(b1_hz: Tensor, dwell_s: float) -> float:
    """Return the frequency at which a waveform's peak would have to turn to change as fast as it ever does, Hz."""
    peak = float(b1_hz.abs().max())
    if b1_hz.shape[1] < 2 or peak == 0:
        return 0.0
    return float((b1_hz[:, 1:] - b1_hz[:, :-1]).abs().max()) / (2 * math.pi * dwell_s * peak)


def _require_pulse(b1_hz: Tensor, dwell_s: float, offset_hz: Tensor, b1_scale: Tensor | None, j_step_s: float) -> None:
    """Refuse what is no pulse."""
    if b1_hz.ndim != 2 or not b1_hz.is_complex() or b1_hz.shape[1] == 0:
        raise InputError(f"b1_hz must be complex of shape (B, T), T >= 1, but is {b1_hz.dtype} {tuple(b1_hz.shape)}.")
    if offset_hz.ndim != 1 or len(offset_hz) == 0 or b1_hz.shape[0] not in (1, len(offset_hz)):
        raise InputError(
            f"offset_hz must have the shape (B,), B >= 1, and b1_hz (B, T) or (1, T), but they have "
            f"{tuple(offset_hz.shape)} and {tuple(b1_hz.shape)}."
        )
    if b1_scale is not None and b1_scale.shape != offset_hz.shape:
        raise InputError(
            f"b1_scale must have the shape of offset_hz, {tuple(offset_hz.shape)}, but has {tuple(b1_scale.shape)}."
        )
    if not bool(torch.isfinite(torch.view_as_real(b1_hz.detach())).all()):
        raise InputError("b1_hz holds NaN or infinite samples: a waveform must be finite. Check what made it.")
    for name, values in (("offset_hz", offset_hz), ("b1_scale", b1_scale)):
        if values is not None and not bool(torch.isfinite(values.detach()).all()):
            raise InputError(f"{name} must be finite, but holds NaN or infinity. Check what made it.")
    if not (dwell_s > 0 and math.isfinite(dwell_s)):
        raise InputError(f"dwell_s must be positive and finite, but is {dwell_s} s. Give the duration of a sample.")
    if not j_step_s > 0:
        raise InputError(
            f"j_step_s must be positive, but is {j_step_s} s. Use {RESULT_J_STEP_S:g} for results, "
            f"{DESIGN_J_STEP_S:g} while designing."
        )


def _require_gradient(
    b1_hz: Tensor, offset_hz: Tensor, gradient_hz_per_m: Tensor | None, position_m: Tensor | None
) -> None:
    """Refuse a gradient without positions, or positions without a gradient, and wrong shapes of both."""
    if gradient_hz_per_m is None and position_m is None:
        return
    if gradient_hz_per_m is None or position_m is None:
        raise InputError("gradient_hz_per_m and position_m belong together, but only one of them was given.")
    if position_m.shape != offset_hz.shape or gradient_hz_per_m.shape not in (
        (1, b1_hz.shape[1]),
        (len(offset_hz), b1_hz.shape[1]),
    ):
        raise InputError(
            f"gradient_hz_per_m must have the shape (B, T) or (1, T) and position_m (B,), but they have "
            f"{tuple(gradient_hz_per_m.shape)} and {tuple(position_m.shape)} for B = {len(offset_hz)} and "
            f"T = {b1_hz.shape[1]}."
        )
    for name, values in (("gradient_hz_per_m", gradient_hz_per_m), ("position_m", position_m)):
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{name} must be finite, but holds NaN or infinity. Check what made it.")


@lru_cache(maxsize=64)
def _edges_s(n_samples: int, dwell_s: float, j_step_s: float, reach_hz: float) -> Tensor:
    """Return the edges of the windows in which RF is one rotation, s, float64, shape (S, W + 1) for S J steps.

    Samples that are short against a J step and against the fastest motion (reach) are merged; others are kept as they
    are, cut where a J step ends (windows of zero length fill up).
    """
    n_steps = max(1, math.ceil(n_samples * dwell_s / j_step_s - 1e-9))
    step_s = n_samples * dwell_s / n_steps
    window_s = min(step_s / _WINDOWS_PER_STEP, _MOST_TURNS_PER_WINDOW / reach_hz if reach_hz > 0 else math.inf)
    step = torch.arange(n_steps, dtype=torch.int64)[:, None]
    if window_s >= 2 * dwell_s:
        n_windows = math.ceil(step_s / window_s - 1e-9)
        ticks = step * n_windows + torch.arange(n_windows + 1, dtype=torch.int64)
        return ticks.to(torch.float64) * (step_s / n_windows)
    first, last = step * n_samples // n_steps, -((-(step + 1) * n_samples) // n_steps)
    edge = first + torch.arange(int((last - first).max()) + 1, dtype=torch.int64)
    low, high = (end.to(torch.float64) * n_samples / n_steps for end in (step, step + 1))
    return torch.minimum(torch.maximum(edge.to(torch.float64), low), high) * dwell_s


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Splitting:
    """The fixed matrices of the splitting for one J step."""

    first: Tensor
    """P E(h/2), shape (d, d)."""
    step: Tensor
    """E(h), symmetric, shape (d, d)."""
    last: Tensor
    """E(-h/2) P^T, shape (d, d)."""


@lru_cache(maxsize=32)
def _splitting(model: GroupModel, step_s: float, dtype: torch.dtype, device: torch.device) -> _Splitting:
    """Return E and P of the module's docstring for a J step."""
    coupling, shift = model.coupling_rad_per_s, model.shift_rad_per_s

    def commutator_with_shift(matrix: Tensor) -> Tensor:
        """Return [H_S, X]."""
        return (shift[:, None] - shift[None, :]) * matrix

    shift_coupling = commutator_with_shift(coupling)
    potential = coupling + (step_s**2 / 24) * (shift_coupling @ coupling - coupling @ shift_coupling)
    energy, vectors = torch.linalg.eigh(potential)
    processor = torch.linalg.matrix_exp(-(step_s**2) / 12 * shift_coupling).to(torch.complex128)
    vectors = vectors.to(torch.complex128)

    def propagator(time_s: float) -> Tensor:
        u: Tensor = (vectors * torch.exp(-1j * energy * time_s)) @ vectors.mT
        return u

    return _Splitting(
        first=(processor @ propagator(step_s / 2)).to(device, dtype),
        step=propagator(step_s).to(device, dtype),
        last=(propagator(-step_s / 2) @ processor.mT).to(device, dtype),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pulse:
    """What a pulse's propagator depends on and is not differentiated in."""

    model: GroupModel
    """The spin group."""
    duration_s: Tensor
    """Durations of the windows, s, shape (S, W)."""
    splitting: _Splitting
    """Fixed matrices."""

    def rotations(
        self, area: Tensor, first: Tensor, twist: Tensor, along: Tensor, offset_hz: Tensor, b1_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the transposed rotations of every J step as two Kronecker factors, (S, B, p, p) and (S, B, q, q).

        Args:
            area: `Moments.area`, shape (B or 1, S, W).
            first: `Moments.first`.
            twist: `Moments.twist`.
            along: Turns of a gradient that changes in time, shape (B, S, W), or zeros of shape (1, 1, 1).
            offset_hz: Shape (B,).
            b1_scale: Shape (B,).
        """
        windows = Moments(
            area=area[:, :, None], first=first[:, :, None], twist=twist[:, :, None], duration_s=self.duration_s[:, None]
        )
        pulsed = self.model.pulsed.to(offset_hz)
        spin_offset_hz = self.model.offset_hz.to(offset_hz) + offset_hz[:, None] * pulsed
        scale = b1_scale[:, None] * pulsed
        transverse, longitudinal = windows.turns(spin_offset_hz[:, None, :, None], scale[:, None, :, None])
        longitudinal = longitudinal + along[:, :, None] * pulsed[:, None]
        single = matrices(accumulate(rotations(transverse, longitudinal))).mT.transpose(0, 1)
        factors = [
            of_total_spin(single[:, :, spin], dimension) for spin, dimension in enumerate(self.model.group.dimension)
        ]
        # Two factors of about equal size: their product is built in one go, and their gradients are two traces.
        sizes = [factor.shape[-1] for factor in factors]
        cut = min(range(len(sizes)), key=lambda k: abs(math.prod(sizes[:k]) - math.prod(sizes[k:])))
        return _kronecker(factors[:cut], single), _kronecker(factors[cut:], single)


def of_total_spin(single: Tensor, dimension: int) -> Tensor:
    """Return the matrices of rotations for spin S = (dimension - 1) / 2, from those for spin 1/2, shape (..., 2, 2)."""
    result = single
    for larger in range(3, dimension + 1):
        isometry = symmetric_isometry(larger).to(single.device, single.dtype)
        result = isometry.mT @ kronecker(result, single) @ isometry
    return result


def kronecker(left: Tensor, right: Tensor) -> Tensor:
    """Return Kronecker products of matrices: (..., p, p) and (..., q, q) to (..., p q, p q)."""
    p, q = left.shape[-1], right.shape[-1]
    product = left[..., :, None, :, None] * right[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], p * q, p * q)


def _kronecker(factors: list[Tensor], like: Tensor) -> Tensor:
    """Return the Kronecker product of some factors; of none, ones of shape (S, B, 1, 1)."""
    if not factors:
        return torch.ones(*like.shape[:2], 1, 1, dtype=like.dtype, device=like.device)
    product = factors[0]
    for factor in factors[1:]:
        product = kronecker(product, factor)
    return product


class _PulsePropagator(torch.autograd.Function):
    """The propagators of a pulse over an ensemble, block by block of its members."""

    @staticmethod
    def forward(
        ctx: Any,
        area: Tensor,
        first: Tensor,
        twist: Tensor,
        along: Tensor,
        offset_hz: Tensor,
        b1_scale: Tensor,
        pulse: _Pulse,
    ) -> Tensor:
        """Return U, shape (B, d, d); arguments as `_Pulse.rotations`."""
        inputs = (area, first, twist, along, offset_hz, b1_scale)
        size = area.shape[1] * offset_hz.shape[0] * pulse.model.dimension**2 * area.element_size()
        keep = any(ctx.needs_input_grad) and size <= _KEPT_BYTES
        results, ctx.kept = [], []
        for part in _blocks(inputs, pulse):
            block = _Block(part, pulse, ctx.needs_input_grad if keep else ())
            results.append(_product(block.steps, keep=keep))
            ctx.kept.append(block if keep else None)
        u = torch.cat(results)
        ctx.save_for_backward(*inputs, u)
        ctx.pulse = pulse
        return u

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs; a block that was not kept is made again."""
        if torch.is_grad_enabled():
            raise InputError(
                "pulse_propagator is differentiable once, but a second derivative was asked for (create_graph). Take "
                "finite differences of the gradient instead."
            )
        *inputs, u = ctx.saved_tensors
        wanted = [k for k in range(len(inputs)) if ctx.needs_input_grad[k]]
        collected: list[list[Tensor]] = [[] for _ in inputs]
        start = 0
        for part, kept in zip(_blocks(tuple(inputs), ctx.pulse), ctx.kept, strict=True):
            members = slice(start, start + part[_OFFSET].shape[0])
            start = members.stop
            block = kept or _Block(part, ctx.pulse, ctx.needs_input_grad)
            for k, found in zip(wanted, block.gradients(u[members], gradient[members]), strict=True):
                collected[k].append(found)
        results: list[Tensor | None] = []
        for k, parts in enumerate(collected):
            shared = inputs[k].shape[0] == 1
            results.append((torch.stack(parts).sum(0) if shared else torch.cat(parts)) if parts else None)
        return (*results, None)


class _Block:
    """Some members of an ensemble: rotations as a function of the inputs, matrices of the J steps made from them."""

    def __init__(self, inputs: tuple[Tensor, ...], pulse: _Pulse, needs_gradient: tuple[bool, ...]) -> None:
        """Make the rotations; `needs_gradient` says which of the inputs they are to be differentiated in."""
        needs_gradient = needs_gradient[: len(inputs)] or (False,) * len(inputs)
        self.leaves = [
            tensor.detach().requires_grad_(need) for tensor, need in zip(inputs, needs_gradient, strict=True)
        ]
        with torch.set_grad_enabled(any(needs_gradient)):
            self.factors = pulse.rotations(*self.leaves)
        left, right = self.factors
        self.steps = _Steps(left.detach(), right.detach(), pulse.splitting)

    def gradients(self, u: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs that need one, from the propagators and their gradient."""
        through = _gradient_of_factors(self.steps, u, gradient)
        # Of a lone spin, one of the factors is a constant 1.
        live = [pair for pair in zip(self.factors, through, strict=True) if pair[0].requires_grad]
        wanted = [leaf for leaf in self.leaves if leaf.requires_grad]
        return torch.autograd.grad([f for f, _ in live], wanted, [g for _, g in live], retain_graph=True)


def _blocks(inputs: tuple[Tensor, ...], pulse: _Pulse) -> Iterator[tuple[Tensor, ...]]:
    """Yield the inputs of one block of members after the other; what is shared by all members goes into each."""
    n_members, block = inputs[_OFFSET].shape[0], _members_per_block(inputs[0], pulse.model.dimension)
    for start in range(0, n_members, block):
        yield tuple(
            tensor if k < _OFFSET and tensor.shape[0] == 1 else tensor[start : start + block]
            for k, tensor in enumerate(inputs)
        )


def _members_per_block(like: Tensor, dimension: int) -> int:
    """Return how many propagators make a block on the device of `like`."""
    size = _CPU_BLOCK_BYTES if like.device.type == "cpu" else _GPU_BLOCK_BYTES
    return max(1, size // (dimension**2 * like.element_size()))


class _Steps:
    """The transposed matrices K_s^T E of all J steps of a block of members, built some steps at a time."""

    def __init__(self, left: Tensor, right: Tensor, splitting: _Splitting) -> None:
        """Take the Kronecker factors of K^T, shapes (S, B, p, p) and (S, B, q, q)."""
        self.left, self.right, self.splitting = left, right, splitting
        self.n_members, self.dimension = left.shape[1], splitting.step.shape[0]
        at_once = max(1, _BLOCKS_PER_CHUNK * _members_per_block(left, self.dimension) // self.n_members)
        self.chunks = [slice(k, min(k + at_once, left.shape[0])) for k in range(0, left.shape[0], at_once)]
        self._kept: dict[int, Tensor] = {}

    def matrices(self, index: int, *, keep: bool = False) -> Tensor:
        """Return the matrices of a chunk, shape (C, B, d, d)."""
        if index in self._kept:
            return self._kept[index]
        left, right = self.left[self.chunks[index]], self.right[self.chunks[index]]
        # Written in place: the product of broadcast factors would come in an order that has to be copied.
        p, q = left.shape[-1], right.shape[-1]
        rotation = left.new_empty(*left.shape[:2], p, q, p, q)
        torch.mul(left[..., :, None, :, None], right[..., None, :, None, :], out=rotation)
        result = (rotation.reshape(-1, p * q) @ self.splitting.step).reshape(*left.shape[:2], p * q, p * q)
        if keep:
            self._kept[index] = result
        return result


def _product(steps: _Steps, *, keep: bool) -> Tensor:
    """Multiply up U^T = P E(h/2) (K_1^T E) ... (K_S^T E) E(-h/2) P^T; returns U, shape (B, d, d).

    Transposed, so that every product with a fixed matrix is one large matrix product over members and rows.
    """
    n_members, d = steps.n_members, steps.dimension
    u_t = steps.splitting.first.expand(n_members, -1, -1)
    for index in range(len(steps.chunks)):
        for step in steps.matrices(index, keep=keep):
            u_t = torch.bmm(u_t, step)
    return (u_t.reshape(-1, d) @ steps.splitting.last).reshape(n_members, d, d).mT


def _gradient_of_factors(steps: _Steps, u: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of both Kronecker factors, run backwards from the end of the pulse.

    With Y = U^T = A N Z, N = K^T E: the gradient of a generator g in dN = g N is C = N Z (Y^H dL/dY) Z^H N^H, one
    conjugation by unitary matrices per step, and that of a factor its partial trace times the factor.
    """
    left, right, last = steps.left, steps.right, steps.splitting.last
    p, q = left.shape[-1], right.shape[-1]
    c = last @ (u.conj() @ gradient.mT) @ last.mH
    left_gradient, right_gradient = torch.empty_like(left), torch.empty_like(right)
    for index in range(len(steps.chunks) - 1, -1, -1):
        matrices_of_chunk, rows = steps.matrices(index), steps.chunks[index]
        generators = torch.empty_like(matrices_of_chunk)
        for k in range(len(generators) - 1, -1, -1):
            c = torch.bmm(torch.bmm(matrices_of_chunk[k], c), matrices_of_chunk[k].mH, out=generators[k])
        apart = generators.reshape(-1, steps.n_members, p, q, p, q)
        left_gradient[rows] = apart.diagonal(dim1=3, dim2=5).sum(-1) @ left[rows]
        right_gradient[rows] = apart.diagonal(dim1=2, dim2=4).sum(-1) @ right[rows]
    return left_gradient, right_gradient
