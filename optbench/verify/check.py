"""All checks of a problem.

The checks are in the other modules of this package. They take any `Problem`, also of a plug-in, and yield one `Finding` for
each comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from optbench.core.errors import InputError
from optbench.core.progress import ProgressBar
from optbench.core.registry import PROBLEMS
from optbench.core.specs import as_list
from optbench.problem import Problem, ProblemLike, as_problem
from optbench.verify.findings import Finding
from optbench.verify.gradients import gradient_findings, hessian_findings
from optbench.verify.optima import constants_findings, optimum_findings
from optbench.verify.samples import history_findings, metrics_findings, samples_findings, shapes_findings


@dataclass(frozen=True)
class ProblemCheck:
    """The findings of all checks of one problem."""

    problem: Problem
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; checks of what the problem does not offer do not count."""
        return all(finding.passed is not False for finding in self.findings)


def check(
    problems: ProblemLike | Sequence[ProblemLike] | None = None,
    seed: int = 0,
    *,
    progress: bool | ProgressBar | None = None,
) -> list[ProblemCheck]:
    """Check what problems state: gradients, Hessians, optima, constants, mini-batches, shapes and metrics.

    Parameters
    ----------
    problems : Problem, str, or a list of them
        Problems, their classes, or specs; by default every registered problem with its default parameters.
    seed : int
        Seed of all random points, directions and partitions.
    progress : bool, optional
        Whether to show a progress bar; by default in terminals and notebooks, if the call takes longer than a second.

    Returns
    -------
    list of ProblemCheck
        The findings for each problem; ``passed`` tells whether no check failed.

    Raises
    ------
    InputError
        If there is no such problem, or the seed is negative.

    Examples
    --------
    >>> [problem_check.passed for problem_check in optbench.check(["quadratic:dim=5", "beale"])]
    [True, True]
    """
    if seed < 0:
        raise InputError(f"seed must be at least 0, not {seed}")
    selected = [as_problem(entry) for entry in as_list(PROBLEMS.names() if problems is None else problems)]
    checks = []
    with ProgressBar.of("checking", progress) as bar:
        bar.start(len(selected))
        for problem in selected:
            checks.append(check_problem(problem, seed))
            bar.advance(1)
    return checks


def check_problem(problem: Problem | type[Problem] | str, seed: int = 0) -> ProblemCheck:
    """Check everything that a problem offers.

    A check that raises an error becomes a failed finding with the message of the error.

    Parameters
    ----------
    problem : Problem, class or str
        Any problem, also of a plug-in; or a spec such as ``"quadratic:dim=10"``.
    seed : int
        Seed of all random points, directions and partitions, at least 0.

    Returns
    -------
    ProblemCheck
        The problem and its findings, in the order of the checks.

    Examples
    --------
    >>> check = optbench.check_problem("beale")
    >>> check.passed, check.findings[1].check
    (True, 'repeated calls')
    """
    problem = as_problem(problem)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            # numbers that are not finite fail by their error; one thread, because threads that wait for one another make
            # the check of a network eight times as slow on a busy machine
            with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
                findings += check(problem, seed)
        except (Exception, SystemExit) as error:  # a broken plug-in is a finding, not a traceback
            lines = str(error).splitlines()
            message = f": {lines[0]}" if lines else ""
            findings.append(Finding(name, None, None, False, f"{type(error).__name__}{message}"))
    return ProblemCheck(problem, tuple(findings))


CHECKS: dict[str, Callable[[Problem, int], Iterable[Finding]]] = {
    "shapes": shapes_findings,
    "repeated calls": history_findings,  # before the others call the problem many times
    "gradient": gradient_findings,
    "hessian": hessian_findings,
    "optimum": optimum_findings,
    "constants": constants_findings,
    "mini-batches": samples_findings,
    "metrics": metrics_findings,
}
