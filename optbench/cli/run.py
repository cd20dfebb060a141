"""``optbench run``: a study, or a comparison of given optimizers on given problems."""

from __future__ import annotations

import argparse
import contextlib
import logging
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
from optbench.cli.console import CommandProgress, make_console, print_table, say
from optbench.core.errors import InputError
from optbench.core.types import Status
from optbench.runner.options import StudyOptions

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from optbench.results.runs import Runs

# columns of the summary that a narrow terminal does without, in this order
OPTIONAL_COLUMNS = ("oracle", "tried", "95 % interval", "calls to 1e-8", "diverged", "calls to 1e-2")


MAX_REASONS = 8  # of failed runs that are printed


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "run",
        execute,
        "Run a study: every optimizer on every problem, over a grid of learning rates and several seeds. Results are kept: "
        "a second run computes only what is missing, and an interrupted run continues.",
        "optbench run                     the default suite\n"
        "optbench run study.toml          a study of your own\n"
        "optbench run --problem logistic --optimizer adam --optimizer lbfgs --seeds 10\n"
        "optbench run --problem rosenbrock --optimizer momentum:beta=0.5/0.9/0.99\n"
        "optbench run --problem quadratic --optimizer adam --lr 1e-3:1:10 --steps 2000\n"
        "optbench run --import mine.py --problem quadratic --optimizer my_rule",
        after_interrupt="finished runs are stored, and the same command continues from there",
    )
    parser.add_argument(
        "study", nargs="?", metavar="STUDY", help="name of a suite (optbench list) or path of a TOML file"
    )
    add_methods(parser, "likewise; several values of a parameter: beta=0.9/0.99")
    add_options(parser, StudyOptions)
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: all cores where that pays)")
    parser.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster of this scheduler instead")
    parser.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="seconds that a chunk of runs may take before they fail (default: 3600 for plug-ins, else none)",
    )
    parser.add_argument(
        "--memory-limit",
        type=float,
        metavar="GB",
        help="memory of the process that computes a chunk (Linux; default for plug-ins: about that of the machine)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that are stored as failed")
    add_device_and_store(parser)
    parser.add_argument("--no-report", action="store_true", help="do not write the page")
    parser.add_argument("--details", action="store_true", help="print a table for each problem as well")


def execute(arguments: argparse.Namespace) -> int:
    from optbench import run
    from optbench.reports.wording import plural
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
    counts = [len({getattr(plan, name).spec for plan in study.plans}) for name in ("recipe", "problem")]
    announcement = f"{study.title}, {plural(counts[0], 'optimizer')} on {plural(counts[1], 'problem')}"
    with _executor(arguments.dask) as executor:
        runs = run(
            study,
            store=store,
            jobs=arguments.jobs,
            executor=executor,
            retry_failed=arguments.retry_failed,
            time_limit=arguments.time_limit,
            memory_limit=arguments.memory_limit,
            isolate=True,
            progress=CommandProgress(announcement),
        )
    if not len(runs):
        return 1
    console = make_console()
    _print_summary(console, runs, details=arguments.details)
    if not arguments.no_report:
        from optbench import report  # it loads the libraries that draw

        page = report(
            runs,
            store.path / "report.html",
            title=study.title,
            timings=store,
            jobs=arguments.jobs,
            command=arguments.command_line,
        )
        console.print(
            f"results  {Path(arguments.store)}/\nreport   {Path(arguments.store) / page.name}", soft_wrap=True
        )
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
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the loss of a cluster is reported by `run`
    with client:
        yield client.get_executor(pure=False)


def _print_summary(console: Console, runs: Runs, *, details: bool) -> None:
    """The answer in three lines, one table, and with `details` a table for each problem."""
    from optbench.analysis.grid import complete_set
    from optbench.reports import alerts, answer, overview_table, summary_table, unresolved_targets
    from optbench.reports.wording import plural
    from optbench.results.runs import Runs

    for line in alerts(runs):
        console.print(f"WRONG: {line}", style="bold red")
    for line in answer(runs):
        console.print(line)
    for line in unresolved_targets(runs):
        console.print(line)
    console.print()
    parts = [(str(problem), Runs(rows)) for problem, rows in runs.rows.groupby("problem")]
    complete = complete_set(runs)
    if len(complete.problems) > 1 and len(complete.methods) > 1:
        _print_frame(console, f"{len(complete.problems)} problems together", overview_table(runs))
    elif len(parts) > 1:
        details = True  # there is nothing that could stand for all of them
    for problem, part in parts if details or len(parts) == 1 else []:
        _print_frame(console, problem, summary_table(part).drop(columns="problem"))
    if len(parts) > 1 and not details:
        methods = runs.rows["method"].nunique()
        counts = (len(parts) - len(complete.problems), "problem"), (methods - len(complete.methods), "method")
        lacks = " and ".join(plural(count, noun) for count, noun in counts if count)
        if lacks:
            console.print(f"Not shown: {lacks} (no known optimum, or not run together with the others).")
        console.print("--details prints a table for each problem.")


def _print_frame(console: Console, title: str, table: pd.DataFrame) -> None:
    headings = [str(name) for name in table.columns]
    optional = [headings.index(name) for name in OPTIONAL_COLUMNS if name in headings]
    text = [headings.index(name) for name in ("method", "oracle") if name in headings]
    print_table(console, title, headings, table.to_numpy().tolist(), text_columns=text, optional=optional)


def _print_failures(runs: Runs) -> int:
    """Print why runs failed and what can be done. Returns the exit status; missing runs have been reported already."""
    from optbench.reports import alerts
    from optbench.reports.wording import names, plural

    failed = runs.rows[runs.rows["status"] == Status.FAILED]
    reasons = [rows for _, rows in failed.groupby("error", sort=False)]
    for rows in reasons[:MAX_REASONS]:
        methods, problems = (names(sorted(rows[column].unique())) for column in ("method", "problem"))
        what = f"{plural(len(rows), 'run')} of {methods} on {problems}"
        say(f"{what} failed: {rows['error'].iloc[0]}")
    if len(reasons) > MAX_REASONS:
        others = sum(map(len, reasons[MAX_REASONS:]))
        say(f"{plural(others, 'run')} failed for other reasons")
    if reasons:
        say("--retry-failed computes failed runs again; changed code does so by itself")
    return int(bool(len(failed) or alerts(runs)))
