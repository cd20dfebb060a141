"""Numerical derivatives, and the checks that every problem has to pass: is what it states true?

Each check takes any `Problem`, a plug-in's too, and compares what it states (gradient, Hessian, optimum, constants,
mini-batches, shapes) with what its values say. Points are displaced along all coordinates in one batched call, in chunks
that bound the memory. `check_problem` bundles the checks into rows for a table; nothing is printed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from optbench.core.errors import InputError
from optbench.core.progress import ProgressBar
from optbench.core.registry import PROBLEMS
from optbench.core.specs import as_list
from optbench.problem import Problem, as_problem
from optbench.verify.gradients import check_gradient, check_hessian
from optbench.verify.limits import LIMITS, TINY, order
from optbench.verify.optima import ConstantsCheck, check_constants, check_optimum
from optbench.verify.samples import check_noise, check_samples, check_shapes

# ---- all checks of a problem -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One row of the table of checks.

    Attributes
    ----------
    check : str
        What was checked.
    figure, limit : float or None
        The measured error and the largest that passes; None where nothing was measured.
    passed : bool or None
        None for what the problem does not offer.
    note : str
        How it was measured, or why it was not.
    """

    check: str
    figure: float | None
    limit: float | None
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class ProblemCheck:
    """All findings about one problem."""

    problem: Problem
    rows: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed; what the problem does not offer does not count."""
        return all(row.passed is not False for row in self.rows)


def check(
    problems: Problem | type[Problem] | str | Sequence[Problem | type[Problem] | str] | None = None,
    seed: int = 0,
    *,
    progress: bool | ProgressBar | None = None,
) -> list[ProblemCheck]:
    """Check what problems state: gradients, Hessians, optima, constants, mini-batches and shapes.

    >>> [problem_check.passed for problem_check in optbench.check(["quadratic", "logistic:data=digits"])]

    Parameters
    ----------
    problems : Problem, str, or a list of them
        Problems, their classes, or specs; by default every registered problem with its default parameters.
    seed : int
        Seed of all random points, directions and partitions.
    progress : bool, optional
        Whether to show a progress bar; by default in terminals and notebooks, if the call takes longer than a second.

    Raises
    ------
    InputError
        If there is no such problem, or the seed is negative.
    """
    if seed < 0:
        raise InputError(f"seed must be at least 0, not {seed}")
    entries = as_list(PROBLEMS.names() if problems is None else problems)
    selected, checks = [as_problem(entry) for entry in entries], []
    with ProgressBar.of("checking", progress) as bar:
        bar.start(len(selected))
        for problem in selected:
            checks.append(check_problem(problem, seed))
            bar.advance(1)
    return checks


def check_problem(problem: Problem, seed: int = 0) -> ProblemCheck:
    """Run every check that the problem offers something for.

    A check that raises becomes a failed row with the message of the error.

    Parameters
    ----------
    seed : int
        Seed of all random points, directions and partitions.
    """
    rows: list[Finding] = []
    for name, find in CHECKS.items():
        try:
            # what is not finite fails by its figure; the products are small, and threads that wait for one another
            # made the check of a network eight times as slow on a busy machine
            with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
                rows += find(problem, seed)
        except Exception as error:  # a broken plug-in is a finding, not a traceback
            lines = str(error).splitlines()
            message = f": {lines[0]}" if lines else ""
            rows.append(Finding(name, None, None, False, f"{type(error).__name__}{message}"))
    return ProblemCheck(problem, tuple(rows))


def _finding(check: str, figure: float, limit: float, note: str) -> Finding:
    return Finding(check, figure, limit, figure <= limit, note if math.isfinite(figure) else f"not finite; {note}")


def _not_offered(check: str, why: str) -> Finding:
    return Finding(check, None, None, None, f"not offered: {why}")


def _find_shapes(problem: Problem, seed: int) -> Iterable[Finding]:
    error = check_shapes(problem, seed)
    yield _finding(
        "shapes", error, LIMITS[problem.backend.precision].stack, "(R, d) and (S, L, d) against single points"
    )


def _find_gradient(problem: Problem, seed: int) -> Iterable[Finding]:
    checks = check_gradient(problem, seed=seed)
    worst = max(checks, key=lambda c: (not c.passed, c.relative_error / c.limit))
    part = f"{worst.coordinates} of {problem.dim}" if worst.coordinates < problem.dim else f"all {problem.dim}"
    note = f"{part} coordinates at {len(checks)} points, h = {worst.h:.1e}, forward {worst.forward_error:.1e}"
    retried = sum(c.retried for c in checks)
    if retried:
        note += f", {retried} retried near a kink" if worst.passed else f", {retried} retried"
    if not worst.passed:
        note += f", worst coordinate {worst.worst}"
    yield _finding("gradient", worst.relative_error, worst.limit, note)


def _find_hessian(problem: Problem, seed: int) -> Iterable[Finding]:
    if not problem.has_hessian and type(problem).hvp is Problem.hvp:
        defined = type(problem).hessian is not Problem.hessian
        why = f"d is above {problem.max_hessian_dim}" if defined else "no second derivatives"
        yield from (_not_offered(name, why) for name in ("hessian", "hessian symmetry", "hvp"))
        return
    checks, limits = check_hessian(problem, seed=seed), LIMITS[problem.backend.precision]
    worst = checks[0]
    if worst.relative_error is not None and worst.asymmetry is not None:
        worst = max(checks, key=lambda c: order((c.relative_error or 0.0) / c.limit))
        part = f"{worst.columns} of {problem.dim}" if worst.columns < problem.dim else f"all {problem.dim}"
        note = f"{part} columns at {len(checks)} points"
        yield _finding("hessian", worst.relative_error or 0.0, worst.limit, note)
        asymmetry = max((c.asymmetry or 0.0 for c in checks), key=order)
        yield _finding("hessian symmetry", asymmetry, limits.symmetry, "|H - H^T| / |H|")
        error = max((c.product_error for c in checks), key=order)
        yield _finding("hvp", error, limits.stack, "against the Hessian")
        return
    yield from (_not_offered(name, "products only") for name in ("hessian", "hessian symmetry"))
    worst = max(checks, key=lambda c: order(c.product_error / c.limit))
    yield _finding("hvp", worst.product_error, worst.limit, "against differences of the gradient")


def _find_optimum(problem: Problem, seed: int) -> Iterable[Finding]:
    optimum, limits = problem.optimum, LIMITS[problem.backend.precision]
    if optimum is None:
        yield _not_offered("optimum", "f* is not known")
        return
    found = check_optimum(problem, seed=seed)
    if found.gradient_norm is None or found.value_error is None:
        yield _not_offered("x*", "f* is known, a minimizer is not")
    else:
        yield _finding("gradient at x*", found.gradient_norm, limits.x_star, "relative to the gradient at the start")
        yield _finding("f(x*) - f*", found.value_error, limits.f_star, optimum.method)
    width = f"certified to {found.interval:.1e}" if found.interval >= 0 else "the lower bound is above f*"
    yield _finding("lower <= f*", max(0.0, -found.interval), 0.0, width)
    yield _finding(
        "f >= f*", found.undercut, limits.f_star, f"{found.values} values around x* and after a short descent"
    )


def _find_constants(problem: Problem, seed: int) -> Iterable[Finding]:
    L, mu = problem.smoothness, problem.strong_convexity
    limit = LIMITS[problem.backend.precision].constants
    found = check_constants(problem, seed=seed) if L is not None or mu is not None else ConstantsCheck(0, 0)
    if L is None:
        yield _not_offered("smoothness L", "not known")
    else:
        note = f"L = {L:.6g}, largest curvature met {found.largest:.6g}"
        yield _finding("smoothness L", max(found.largest - L, 0.0) / (L + TINY), limit, note)
    if mu is None:
        yield _not_offered("convexity mu", "not known to be convex")
    else:
        note = f"mu = {mu:.6g}, smallest curvature met {found.smallest:.6g}"
        yield _finding("convexity mu", max(mu - found.smallest, 0.0) / (found.largest + TINY), limit, note)


def _find_samples(problem: Problem, seed: int) -> Iterable[Finding]:
    limits = LIMITS[problem.backend.precision]
    if problem.n_samples is None:
        yield _not_offered("mini-batches", "not a sum over samples")
    else:
        found = check_samples(problem, seed)
        error = max(found.value_error, found.gradient_error, key=order)
        note = f"mean over {found.batches} batches of {problem.n_samples} samples against the full sum"
        yield _finding("mini-batches", error, limits.samples, note)
        yield _finding(
            "batches by seed", found.stack_error, limits.stack, "(S, b) with (S, L, d) against single batches"
        )
    sampler = problem.sampler((0,), None)
    if sampler is not None and not sampler.integer:
        yield _finding(
            "noise", check_noise(problem, seed=seed), limits.noise, "standard errors of the mean of 256 draws"
        )


CHECKS: dict[str, Callable[[Problem, int], Iterable[Finding]]] = {
    "shapes": _find_shapes,
    "gradient": _find_gradient,
    "hessian": _find_hessian,
    "optimum": _find_optimum,
    "constants": _find_constants,
    "mini-batches": _find_samples,
}
