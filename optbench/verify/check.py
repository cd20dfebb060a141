"""All checks of a problem: is what it states true?

`check_problem` compares what a problem states (gradient, Hessian, optimum, constants, mini-batches, shapes, metrics) with
what its values say, and returns one `Finding` for each check, a row of a table. The checks themselves are in the other
modules of this package; they take any `Problem`, a plug-in's too. Nothing is printed here.
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
from optbench.problem import Problem, ProblemLike, as_problem
from optbench.verify.errors import LIMITS, TINY, nan_is_largest
from optbench.verify.gradients import check_gradient, check_hessian
from optbench.verify.optima import ConstantsCheck, check_constants, check_optimum
from optbench.verify.samples import check_metrics, check_noise, check_samples, check_shapes


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    check : str
        What was checked.
    error, limit : float or None
        The measured error and the largest that passes; None where nothing was measured.
    passed : bool or None
        None for what the problem does not offer.
    note : str
        How the error was measured, or why it was not.
    """

    check: str
    error: float | None
    limit: float | None
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class ProblemCheck:
    """The findings of all checks of one problem.

    Attributes
    ----------
    problem : Problem
    findings : tuple of Finding
    """

    problem: Problem
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; what the problem does not offer does not count."""
        return all(finding.passed is not False for finding in self.findings)


def check(
    problems: ProblemLike | Sequence[ProblemLike] | None = None,
    seed: int = 0,
    *,
    progress: bool | ProgressBar | None = None,
) -> list[ProblemCheck]:
    """Check what problems state: gradients, Hessians, optima, constants, mini-batches, shapes and metrics.

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
    """Check everything that a problem offers.

    A check that raises an error becomes a failed finding with the message of the error.

    Parameters
    ----------
    seed : int
        Seed of all random points, directions and partitions.
    """
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            # what is not finite fails by its error; one thread, because the products are small, and threads that wait
            # for one another make the check of a network eight times as slow on a busy machine
            with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
                findings += check(problem, seed)
        except Exception as error:  # a broken plug-in is a finding, not a traceback
            lines = str(error).splitlines()
            message = f": {lines[0]}" if lines else ""
            findings.append(Finding(name, None, None, False, f"{type(error).__name__}{message}"))
    return ProblemCheck(problem, tuple(findings))


def _measured(check: str, error: float, limit: float, note: str) -> Finding:
    return Finding(check, error, limit, error <= limit, note if math.isfinite(error) else f"not finite; {note}")


def _not_offered(check: str, why: str) -> Finding:
    return Finding(check, None, None, None, f"not offered: {why}")


def _shapes_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    error = check_shapes(problem, seed)
    yield _measured(
        "shapes", error, LIMITS[problem.backend.precision].stack, "(R, d) and (S, L, d) against single points"
    )


def _gradient_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    checks = check_gradient(problem, seed=seed)
    worst = max(checks, key=lambda c: (not c.passed, c.relative_error / c.limit))
    part = f"{worst.coordinates} of {problem.dim}" if worst.coordinates < problem.dim else f"all {problem.dim}"
    note = f"{part} coordinates at {len(checks)} points, h = {worst.h:.1e}, forward {worst.forward_error:.1e}"
    retried = sum(c.retried for c in checks)
    if retried:
        note += f", {retried} retried near a kink" if worst.passed else f", {retried} retried"
    if not worst.passed:
        note += f", worst coordinate {worst.worst}"
    yield _measured("gradient", worst.relative_error, worst.limit, note)


def _hessian_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    if not problem.has_hvp:
        defined = type(problem).hessian is not Problem.hessian
        why = f"d is above {problem.max_hessian_dim}" if defined else "no second derivatives"
        yield from (_not_offered(name, why) for name in ("hessian", "hessian symmetry", "hvp"))
        return
    checks, limits = check_hessian(problem, seed=seed), LIMITS[problem.backend.precision]
    worst = checks[0]
    if worst.relative_error is not None and worst.asymmetry is not None:
        worst = max(checks, key=lambda c: nan_is_largest((c.relative_error or 0.0) / c.limit))
        part = f"{worst.columns} of {problem.dim}" if worst.columns < problem.dim else f"all {problem.dim}"
        note = f"{part} columns at {len(checks)} points"
        yield _measured("hessian", worst.relative_error or 0.0, worst.limit, note)
        asymmetry = max((c.asymmetry or 0.0 for c in checks), key=nan_is_largest)
        yield _measured("hessian symmetry", asymmetry, limits.symmetry, "|H - H^T| / |H|")
        error = max((c.product_error for c in checks), key=nan_is_largest)
        yield _measured("hvp", error, limits.stack, "against the Hessian")
        return
    yield from (_not_offered(name, "products only") for name in ("hessian", "hessian symmetry"))
    worst = max(checks, key=lambda c: nan_is_largest(c.product_error / c.limit))
    yield _measured("hvp", worst.product_error, worst.limit, "against differences of the gradient")


def _optimum_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    optimum, limits = problem.optimum, LIMITS[problem.backend.precision]
    if optimum is None:
        yield _not_offered("optimum", "f* is not known")
        return
    result = check_optimum(problem, seed=seed)
    if result.gradient_norm is None or result.value_error is None:
        yield _not_offered("x*", "f* is known, a minimizer is not")
    else:
        yield _measured("gradient at x*", result.gradient_norm, limits.x_star, "relative to the gradient at the start")
        yield _measured("f(x*) - f*", result.value_error, limits.f_star, optimum.method)
    width = f"certified to {result.interval:.1e}" if result.interval >= 0 else "the lower bound is above f*"
    yield _measured("lower <= f*", max(0.0, -result.interval), 0.0, width)
    yield _measured(
        "f >= f*", result.undercut, limits.f_star, f"{result.values} values around x* and after a short descent"
    )


def _constants_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    L, mu = problem.smoothness, problem.strong_convexity
    limit = LIMITS[problem.backend.precision].constants
    result = check_constants(problem, seed=seed) if L is not None or mu is not None else ConstantsCheck(0, 0)
    if L is None:
        yield _not_offered("smoothness L", "not known")
    else:
        note = f"L = {L:.6g}, largest curvature met {result.largest:.6g}"
        yield _measured("smoothness L", max(result.largest - L, 0.0) / (L + TINY), limit, note)
    if mu is None:
        yield _not_offered("convexity mu", "not known to be convex")
    else:
        note = f"mu = {mu:.6g}, smallest curvature met {result.smallest:.6g}"
        yield _measured("convexity mu", max(mu - result.smallest, 0.0) / (result.largest + TINY), limit, note)


def _samples_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    limits = LIMITS[problem.backend.precision]
    if problem.n_samples is None:
        yield _not_offered("mini-batches", "not a sum over samples")
    else:
        result = check_samples(problem, seed)
        error = max(result.value_error, result.gradient_error, key=nan_is_largest)
        note = f"mean over {result.batches} batches of {problem.n_samples} samples against the full sum"
        yield _measured("mini-batches", error, limits.samples, note)
        yield _measured(
            "batches by seed", result.stack_error, limits.stack, "(S, b) with (S, L, d) against single batches"
        )
    sampler = problem.sampler((0,), None)
    if sampler is not None and not sampler.integer:
        yield _measured(
            "noise", check_noise(problem, seed=seed), limits.noise, "standard errors of the mean of 256 draws"
        )


def _metrics_findings(problem: Problem, seed: int) -> Iterable[Finding]:
    error, limit = check_metrics(problem, seed), LIMITS[problem.backend.precision].stack
    yield _measured("metrics", error, limit, "evaluate() against value() and metrics()")


CHECKS: dict[str, Callable[[Problem, int], Iterable[Finding]]] = {
    "shapes": _shapes_findings,
    "gradient": _gradient_findings,
    "hessian": _hessian_findings,
    "optimum": _optimum_findings,
    "constants": _constants_findings,
    "mini-batches": _samples_findings,
    "metrics": _metrics_findings,
}
