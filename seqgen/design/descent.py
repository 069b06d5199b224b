"""Minimise a smooth function within bounds: L-BFGS-B or Adam, many starts, resumable, ended by Ctrl-C or a NaN."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize

from seqgen.design.checkpoint import Checkpoint, Descent
from seqgen.errors import InputError
from seqgen.provenance import Progress

GRADIENT_MIN = 1e-5
"""Adam has converged where no component of the projected gradient is larger (SciPy's L-BFGS-B has the same limit)."""
SAME_LOSS = 1e-6
"""Relative difference up to which a loss is the one in the checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """The function at one point."""

    loss: float
    """Its value."""
    gradient: np.ndarray
    """Its gradient, shape (n,)."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Value of each term of the loss, where there are several."""


Objective = Callable[[np.ndarray], Evaluation]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to descend."""

    iterations: int
    """Most iterations of a descent."""
    optimiser: Literal["lbfgsb", "adam"] = "lbfgsb"
    """L-BFGS-B of SciPy, or Adam of torch with a cosine schedule."""
    learning_rate: float = 0.03
    """Step of Adam at the start, in units of the variables; it falls to zero as a cosine."""
    stop_improvement: float = 0.0
    """Stop where `stop_iterations` iterations gained less than this times max(1, |loss|); 0: never."""
    stop_iterations: int = 20
    """See `stop_improvement`."""
    restarts: int = 0
    """How often the last descent begins anew where it ended, without memory and with the full learning rate."""
    starts_full: bool = False
    """Every start takes all iterations, instead of a quarter of them with the best going on."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Search:
    """What was found. The caller reads `status` and `failure`."""

    x: np.ndarray
    """The best point, shape (n,)."""
    loss: float
    """The function there."""
    starts: tuple[Descent, ...]
    """Every start as it ended (of an interrupted search: those that ended)."""
    history: tuple[tuple[float, ...], ...]
    """Loss after every iteration: one tuple per start, then the last descent with its restarts. Where every start ran
    to its end, the last tuple is that of the best of them; of an interrupted search, that of the descent under way."""
    status: str
    """"converged", or why it stopped."""
    terms: tuple[Mapping[str, tuple[float, ...]], ...] = ()
    """Every term of the loss after every iteration, by name: as `history`."""
    interrupted: bool = False
    """True: Ctrl-C."""
    failure: str = ""
    """What was not finite, else empty."""


class _NotFinite(Exception):
    """The loss or its gradient is NaN or infinite."""


class _Runner:
    """Descends again and again; looks up what the checkpoint knows and notes there what it computes."""

    def __init__(
        self,
        objective: Objective,
        settings: Settings,
        bounds: np.ndarray,
        checkpoint: Checkpoint,
        report: Callable[[int], None],
    ) -> None:
        self.objective, self.settings, self.bounds, self.checkpoint = objective, settings, bounds, checkpoint
        self.report = report
        self.best_x: np.ndarray | None = None
        self.best_loss = math.inf
        self.screened: list[Descent] = []
        self.finals: list[Descent] = []
        self.history: list[float] = []
        self.terms: dict[str, list[float]] = {}
        self.last_terms: Mapping[str, float] = {}
        self.steps = 0
        self.ended = 0
        self.iterations = 0
        self.played = 0

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return loss and gradient, from the checkpoint's record as long as it lasts."""
        record = self.checkpoint.record
        if self.played < len(record):
            loss, gradient, self.last_terms = record.at(self.played, x, self.checkpoint.name)
        else:
            evaluation = self.objective(x)
            _require_finite(evaluation)
            loss, gradient, self.last_terms = evaluation.loss, evaluation.gradient, evaluation.terms
            record.append(x, loss, gradient, self.last_terms)
            self.checkpoint.save_if_due()
        self.played += 1
        self._keep(x, loss)
        return loss, gradient

    def _keep(self, x: np.ndarray, loss: float) -> None:
        """Remember the best point of all."""
        if loss < self.best_loss:
            self.best_x, self.best_loss = x.copy(), loss

    def descend(self, name: str, x0: np.ndarray, iterations: int, ended: list[Descent]) -> None:
        """Add a descent to `ended`: the checkpoint's, if it holds it, else a new one."""
        index = self.ended
        x0 = np.clip(x0, *self.bounds)
        if index < len(self.checkpoint.finished):
            descent = self.checkpoint.finished[index]
            descent.require_start(name, x0, self.checkpoint.name)
            self._keep(descent.x, descent.loss)
        else:
            method = _lbfgsb if self.settings.optimiser == "lbfgsb" else _adam
            x, loss, status = method(self, x0, iterations)
            descent = Descent(
                name=name,
                x0=x0,
                x=x,
                loss=loss,
                history=tuple(self.history),
                status=status,
                terms={term: tuple(values) for term, values in self.terms.items()},
            )
            self.checkpoint.finish(descent)
        ended.append(descent)
        self.ended += 1
        self.iterations += len(descent.history)
        self.history, self.terms, self.played = [], {}, 0
        self.steps += iterations

    def stalled(self, loss: float) -> bool:
        """Note the loss of an iteration and tell whether it is time to stop early."""
        self.history.append(loss)
        for term, value in self.last_terms.items():
            self.terms.setdefault(term, []).append(value)
        self.report(self.steps + len(self.history))
        n, limit = self.settings.stop_iterations, self.settings.stop_improvement
        if limit <= 0 or len(self.history) <= n:
            return False
        before, after = min(self.history[:-n]), min(self.history[-n:])
        return before - after < limit * max(1.0, abs(before))

    def status(self, early: bool) -> str:
        """Return the status of a descent that did not converge."""
        n = len(self.history)
        if not early:
            return f"stopped after {n} iterations, not converged"
        gain = f"{self.settings.stop_improvement:g} in {self.settings.stop_iterations} iterations"
        return f"stopped early after {n} iterations, gaining less than {gain}"

    def result(self, *, interrupted: bool = False, failure: str = "") -> "Search":
        """Return what was found: at the end, or by then."""
        if self.best_x is None:
            raise InputError(
                f"{failure} at the first point of the search. Check limits, window and echo times of the design."
            )
        last = (*(loss for descent in self.finals for loss in descent.history), *self.history)
        each = [*(descent.terms for descent in self.finals), {k: tuple(v) for k, v in self.terms.items()}]
        names = dict.fromkeys(name for terms in each for name in terms)
        last_terms = {name: tuple(value for terms in each for value in terms.get(name, ())) for name in names}
        n = self.iterations + len(self.history)
        x, loss = self.best_x, self.best_loss
        if interrupted:
            status = f"interrupted after {n} iterations"
        elif failure:
            status = f"stopped after {n} iterations: {failure}"
        else:
            best = min(self.finals, key=_loss)
            x, loss, status = best.x, best.loss, self.finals[-1].status
        return Search(
            x=x,
            loss=loss,
            starts=tuple(self.screened or self.finals[:1]),
            history=(*(descent.history for descent in self.screened), *((last,) if last else ())),
            status=status,
            terms=(*(descent.terms for descent in self.screened), *((last_terms,) if last else ())),
            interrupted=interrupted,
            failure=failure,
        )


def _loss(descent: Descent) -> float:
    """Return the loss of a descent."""
    return descent.loss


def search(
    objective: Objective,
    starts: Sequence[tuple[str, np.ndarray]],
    *,
    bounds: np.ndarray,
    settings: Settings,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Search:
    """Descend from every start for a quarter of the iterations, from the best of them for all; or as `settings` say.

    Ctrl-C, and a loss or gradient that is not finite, end the search with the best point so far. A search that goes
    on from a checkpoint ends as the unbroken one does, to the last bit on the same machine: the checkpoint replays
    every evaluation to the optimiser, whose hidden state follows from them.

    Args:
        objective: Returns loss and gradient at a point of shape (n,).
        starts: Name and point of each.
        bounds: Least and largest value of each variable, shape (2, n), infinite where there is none.
        settings: How to descend.
        checkpoint: Holds what is done; one that was read from a file is gone on from.
        progress: Called after each iteration.

    Raises:
        InputError: If the function is not finite at its first point, or the checkpoint is of another search.
        KeyboardInterrupt: If Ctrl-C comes before the first evaluation.
    """
    checkpoint = Checkpoint() if checkpoint is None else checkpoint
    several = len(starts) > 1
    full = several and settings.starts_full
    each = (settings.iterations if full else max(1, settings.iterations // 4)) if several else 0
    n_last = settings.restarts + (0 if full else 1)
    total = len(starts) * each + n_last * settings.iterations

    def report(done: int) -> None:
        if progress is not None:
            progress(min(done, total), total)

    run = _Runner(objective, settings, bounds, checkpoint, report)
    try:
        _require_same_function(objective, checkpoint)
        for name, x0 in starts if several else ():
            run.descend(name, x0, each, run.screened)
        name, x0 = ("last descent", min(run.screened, key=_loss).x) if several else starts[0]
        if full:
            run.finals.append(min(run.screened, key=_loss))
        for _ in range(n_last):
            run.descend(name, x0, settings.iterations, run.finals)
            name, x0 = "restart", run.finals[-1].x
    except KeyboardInterrupt:
        checkpoint.save()
        if run.best_x is None:
            raise
        return run.result(interrupted=True)
    except _NotFinite as error:
        return run.result(failure=str(error))
    report(total)
    return run.result()


def _lbfgsb(run: _Runner, x0: np.ndarray, iterations: int) -> tuple[np.ndarray, float, str]:
    """Return (x, loss, status) of L-BFGS-B."""
    last = {"loss": math.nan, "early": False}

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        last["loss"], gradient = run(x)
        return last["loss"], gradient

    def after_iteration(_: np.ndarray) -> None:
        last["early"] = run.stalled(last["loss"])
        if last["early"]:
            raise StopIteration

    result = minimize(
        value_and_gradient,
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(*run.bounds, strict=True)),
        callback=after_iteration,
        options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20},
    )
    status = "converged" if result.success else run.status(bool(last["early"]))
    return np.asarray(result.x), float(result.fun), status


def _adam(run: _Runner, x0: np.ndarray, iterations: int) -> tuple[np.ndarray, float, str]:
    """Return (x, loss, status) of Adam at its best point; steps out of the bounds end on them."""
    low, high = (torch.as_tensor(bound) for bound in run.bounds)
    x = torch.tensor(x0, dtype=torch.float64)
    optimiser = torch.optim.Adam([x], lr=run.settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=iterations)
    loss, gradient = run(x0)
    best_x, best_loss, early, converged = x0, loss, False, False
    for _ in range(iterations):
        x.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()
        schedule.step()
        x.clamp_(low, high)
        at = x.numpy().copy()
        loss, gradient = run(at)
        if loss < best_loss:
            best_x, best_loss = at, loss
        early = run.stalled(loss)
        converged = bool(np.abs(np.clip(at - gradient, *run.bounds) - at).max() <= GRADIENT_MIN)
        if early or converged:
            break
    return best_x, best_loss, "converged" if converged else run.status(early)


def _require_finite(evaluation: Evaluation) -> None:
    """Say what is NaN or infinite, and in which term."""
    if not math.isfinite(evaluation.loss):
        terms = [name for name, value in evaluation.terms.items() if not math.isfinite(value)]
        which = f" (term {', '.join(terms)})" if terms else ""
        raise _NotFinite(f"the loss is {evaluation.loss}{which}")
    if not np.isfinite(evaluation.gradient).all():
        raise _NotFinite("the gradient of the loss is not finite")


def _require_same_function(objective: Objective, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose last loss is another one here: other inputs, versions or machine."""
    known = checkpoint.last_point()
    if known is None:
        return
    x, loss = known
    got = objective(x).loss
    if not abs(got - loss) <= SAME_LOSS * max(1.0, abs(loss)):
        raise InputError(
            f"{checkpoint.name} holds a loss of {loss:.9g} where this design has {got:.9g}: it was written with other "
            "input files, or another version. Start again without --resume."
        )
