"""``optbench run``: a study, or a comparison of given optimizers on given problems."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.cli.arguments import (
    add_command,
    add_device_and_store,
    add_methods,
    add_options,
    check_methods,
    given_options,
)
from optbench.cli.console import CommandProgress, make_console, print_table
from optbench.core.errors import InputError
from optbench.runner.options import StudyOptions

if TYPE_CHECKING:
    from rich.console import Console

    from optbench.results.runs import Runs

# columns of the summary that a narrow terminal does without, in this order
OPTIONAL_COLUMNS = ("oracle", "tried", "calls to 1e-2", "diverged", "calls to 1e-8")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "run",
        execute,
        "Run a study: every optimizer on every problem, over a grid of learning rates and several seeds. Results are kept. "
        "So a second run computes only what is missing, and an interrupted run goes on.",
        "optbench run                     the default suite\n"
        "optbench run study.toml          a study of your own\n"
        "optbench run --problem logistic:data=digits --optimizer adam --optimizer lbfgs --seeds 10 --steps 2000\n"
        "optbench run --problem rosenbrock:dim=10 --optimizer momentum:beta=0.5/0.9/0.99 --lr 1e-5:1e-2:10\n"
        "optbench run --import mine.py --problem quadratic --optimizer my_rule --optimizer adam",
        after_interrupt="results so far are stored, and the same command goes on from there",
    )
    parser.add_argument(
        "study", nargs="?", metavar="STUDY", help="name of a suite (optbench list) or path of a TOML file"
    )
    add_methods(parser, "likewise; several values of a parameter: beta=0.9/0.99")
    add_options(parser, StudyOptions)
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: all cores where that pays)")
    parser.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster of this scheduler instead")
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that are stored as failed")
    add_device_and_store(parser)
    parser.add_argument("--no-report", action="store_true", help="do not write the page")


def execute(arguments: argparse.Namespace) -> int:
    from optbench import report, run
    from optbench.results.store import Store
    from optbench.runner.study import load_study

    request: Any = "default" if arguments.study is None else arguments.study
    if arguments.problems or arguments.optimizers:
        if arguments.study is not None:
            raise InputError("give either a study or --problem and --optimizer, not both")
        check_methods(arguments, "run")
        table = {"problems": arguments.problems, "optimizers": arguments.optimizers}
        request = {"title": "optbench: a comparison", "compare": [table]}
    study = load_study(request, device=arguments.device, **given_options(arguments, StudyOptions))
    store = Store(arguments.store)
    with _executor(arguments.dask) as executor:
        runs = run(
            study,
            store=store,
            jobs=arguments.jobs,
            executor=executor,
            retry_failed=arguments.retry_failed,
            progress=CommandProgress("running"),
        )
    console = make_console()
    _print_summary(console, runs)
    if not arguments.no_report:
        page = report(
            runs,
            Path(arguments.store) / "report.html",
            title=study.title,
            timings=store,
            jobs=arguments.jobs,
            command=arguments.command_line,
        )
        console.print(f"results  {arguments.store}\nreport   {page}", soft_wrap=True)
    return _print_failures(runs)


@contextlib.contextmanager
def _executor(address: str | None) -> Iterator[Any]:
    """The executor of a Dask cluster, or None without an address."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--dask needs the package distributed: pip install 'optbench[cluster]'") from None
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {address!r} ({error})") from None
    with client:
        yield client.get_executor(pure=False)


def _print_summary(console: Console, runs: Runs) -> None:
    from optbench.reports import summary_table
    from optbench.results.runs import Runs

    for problem, rows in runs.rows.groupby("problem"):
        table = summary_table(Runs(rows)).drop(columns="problem")
        headings = [str(name) for name in table.columns]
        optional = [headings.index(name) for name in OPTIONAL_COLUMNS if name in headings]
        print_table(console, str(problem), headings, table[headings].to_numpy().tolist(), optional=optional)


def _print_failures(runs: Runs) -> int:
    failed = runs.rows[runs.rows["status"] == "failed"]
    for error, rows in failed.groupby("error"):
        methods = ", ".join(sorted(rows["method"].unique()))
        print(f"optbench: {len(rows)} runs of {methods} failed: {error}", file=sys.stderr)
    return 1 if len(failed) else 0
