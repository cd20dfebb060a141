"""``optbench check``: test the gradients, Hessians and optima that problems state."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from optbench.cli.arguments import SPEC, add_command
from optbench.cli.console import make_console, print_table

if TYPE_CHECKING:
    from rich.text import Text

    from optbench.verify.findings import Finding


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        execute,
        "Check problems: gradient and Hessian against numerical differences, the optimum, mini-batches, shapes, metrics.",
        "optbench check                   every problem, with its default parameters\n"
        "optbench check logistic:data=digits mlp:activation=relu",
    )
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help=SPEC)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random points (default 0)")


def execute(arguments: argparse.Namespace) -> int:
    from optbench import check

    console, checks = make_console(), []
    for problem_check in check(arguments.problems or None, seed=arguments.seed):
        checks.append(problem_check)
        problem = problem_check.problem
        headings = ("check", "error", "limit", "", "note")
        title = f"{problem.spec}  (d = {problem.dim})"
        print_table(console, title, headings, map(_cells, problem_check.findings), text_columns=(0, 3, 4))
    passed = sum(problem_check.passed for problem_check in checks)
    console.print(f"{passed} of {len(checks)} problems passed")
    return 0 if passed == len(checks) else 1


def _cells(finding: Finding) -> tuple[str | Text, ...]:
    from rich.text import Text

    verdict = {True: Text("ok", "green"), False: Text("WRONG", "bold red"), None: Text("-", "dim")}[finding.passed]
    numbers = ("" if number is None else f"{number:.1e}" for number in (finding.error, finding.limit))
    return finding.check, *numbers, verdict, finding.note
