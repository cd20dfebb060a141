"""The command line: list, check, run, race, report.

A command parses, calls one library function with the same argument names, and prints. Libraries that take long to import
are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench import __version__
from optbench.core.errors import InputError, OptbenchError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

    from optbench.results.runs import Runs
    from optbench.runner.study import Study
    from optbench.verify.check import Finding

_SPEC = "a name, with parameters after a colon: quadratic:dim=100,condition=1e4"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 well, 1 something that was computed is wrong, 2 a bad request."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    options.command_line = shlex.join(["optbench", *arguments])
    with warnings.catch_warnings(), _command_known(options.command_line):
        warnings.showwarning = _show_warning
        warnings.filterwarnings("always", module="optbench")
        try:
            return int(options.function(options))
        except OptbenchError as error:
            print(f"optbench: {error}", file=sys.stderr)
            return 2
        except MemoryError as error:
            print(f"optbench: there is not enough memory ({error or 'none left'}); ask for less", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(
                "optbench: interrupted; what was done is stored, and the same command goes on from there",
                file=sys.stderr,
            )
            return 130
        except BrokenPipeError:
            # the reader of a pipe (head, less) has gone; nothing is left to say to it
            sys.stderr.close()
            return 141


@contextlib.contextmanager
def _command_known(line: str) -> Iterator[None]:
    """Let what is stored tell the command, whichever process stores it, until the command has ended."""
    before = os.environ.get("OPTBENCH_COMMAND")
    os.environ["OPTBENCH_COMMAND"] = line
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPTBENCH_COMMAND"]
        else:
            os.environ["OPTBENCH_COMMAND"] = before


def _show_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    print(f"optbench: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="optbench",
        description="Compare gradient-based optimizers honestly: which reaches the goal first on this problem, and how "
        "much does the answer depend on the learning rate and the seed?",
        epilog="Begin with: optbench run. It compares all optimizers on quadratics, logistic regression and a small "
        "network, prints a table and writes a page.",
    )
    parser.add_argument("--version", action="version", version=f"optbench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    list_ = _command(
        commands,
        "list",
        _list,
        "Show the problems, optimizers, schedules and suites there are, with their parameters.",
        "optbench list                    everything, a line each\n"
        "optbench list logistic adam      what they are, and what their parameters mean",
    )
    list_.add_argument("names", nargs="*", metavar="NAME", help="show the full description of these")

    check = _command(
        commands,
        "check",
        _check,
        "Check problems: gradient and Hessian against numerical differences, the stated optimum, mini-batches, shapes.",
        "optbench check                   every registered problem, with default parameters\n"
        "optbench check logistic:data=digits mlp:activation=relu",
    )
    check.add_argument("problems", nargs="*", metavar="PROBLEM", help=_SPEC)
    check.add_argument("--seed", type=int, default=0, help="seed of the random points (default 0)")

    run = _command(
        commands,
        "run",
        _run,
        "Run a study: every optimizer on every problem, over a grid of learning rates and several seeds. Results are kept, "
        "so that a second run computes only what is missing and an interrupted one goes on.",
        "optbench run                     the default suite\n"
        "optbench run study.toml          a study of your own\n"
        "optbench run --problem logistic:data=digits --optimizer adam --optimizer lbfgs --seeds 10 --steps 2000\n"
        "optbench run --problem rosenbrock:dim=10 --optimizer momentum:beta=0.5/0.9/0.99 --lr 1e-5:1e-2:10",
    )
    run.add_argument("study", nargs="?", metavar="STUDY", help="name of a suite (optbench list) or path of a TOML file")
    run.add_argument("--problem", action="append", metavar="SPEC", help=f"{_SPEC}; may be repeated")
    run.add_argument(
        "--optimizer", action="append", metavar="SPEC", help="likewise; several values of a parameter: beta=0.9/0.99"
    )
    run.add_argument(
        "--lr",
        metavar="RATES",
        help="step sizes for optimizers that do not fix theirs: 0.1, or 1e-3,1e-2, or low:high:count, log-spaced "
        "(default 1e-4:10:16; for random search its scale)",
    )
    run.add_argument("--seeds", type=int, metavar="N", help="number of seeds (default 5)")
    budget = run.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, metavar="N", help="steps of every run (default 1000)")
    budget.add_argument("--calls", type=float, metavar="N", help="oracle calls of every run instead")
    run.add_argument("--batch-size", metavar="B", help="samples a mini-batch, or several: 16,64 (default: all samples)")
    run.add_argument(
        "--linear-scaling",
        action="store_true",
        default=None,
        help="multiply the learning rate by N for a batch N times the first",
    )
    run.add_argument(
        "--schedule",
        action="append",
        metavar="SPEC",
        help="learning-rate schedule: cosine:warmup=0.05; may be repeated",
    )
    run.add_argument(
        "--checkpoint-count",
        type=int,
        metavar="N",
        help="about how many iterates of a run are recorded, log-spaced; all of them, if more than its steps (default 100)",
    )
    run.add_argument("--device", default="cpu", help="cpu or gpu (default cpu)")
    run.add_argument("--precision", choices=["float64", "float32"], help="(default float64)")
    run.add_argument("--jobs", type=int, metavar="N", help="processes (default: all cores where that pays)")
    run.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster of this scheduler instead")
    run.add_argument("--retry-failed", action="store_true", help="try runs again that are stored as failed")
    run.add_argument(
        "-o", "--output", default="results", metavar="FOLDER", help="where results are kept (default results)"
    )
    run.add_argument("--no-report", action="store_true", help="do not write the page")

    race = _command(
        commands,
        "race",
        _race,
        "Time single runs: seconds a step, in turn, paired and with nothing but the steps on the clock. The configurations "
        "are all optimizers on all problems. They run A B C A B C ..., one round a seed, pinned to one core and thread; "
        "what the oracle takes is told apart. Timings are kept beside the results of optbench run; where those hold the "
        "same method on the same problem, seconds to target are shown too. Close other programs first.",
        "optbench race --problem quadratic:dim=1000 --optimizer adam --optimizer sgd\n"
        "optbench race --problem mlp --optimizer adam --optimizer momentum:beta=0.99 --batch-size 64 --rounds 20\n"
        "optbench race --problem logistic:data=digits --optimizer adam --precision float32 --plain -o elsewhere",
    )
    race.add_argument("--problem", action="append", metavar="SPEC", help=f"{_SPEC}; may be repeated")
    race.add_argument(
        "--optimizer",
        action="append",
        metavar="SPEC",
        help="likewise, with one value a parameter: adam:lr=0.01; ratios are to the first",
    )
    race.add_argument("--steps", type=int, default=500, metavar="N", help="steps of every run (default 500)")
    race.add_argument(
        "--rounds", type=int, default=10, metavar="N", help="runs of every configuration, at least 3 (default 10)"
    )
    race.add_argument("--batch-size", type=int, metavar="B", help="samples a mini-batch (default: all samples)")
    race.add_argument(
        "--schedule", default="constant", metavar="SPEC", help="learning-rate schedule (default constant)"
    )
    race.add_argument("--device", default="cpu", help="cpu or gpu (default cpu)")
    race.add_argument("--precision", choices=["float64", "float32"], default="float64", help="(default float64)")
    race.add_argument("--plain", action="store_true", help="run update rules as they are written, not fused")
    race.add_argument("--seed", type=int, default=0, help="seed of the first round; the next has the next (default 0)")
    race.add_argument(
        "-o", "--output", default="results", metavar="FOLDER", help="where timings are kept (default results)"
    )

    report = _command(
        commands,
        "report",
        _report,
        "Write the page again from stored results, of several folders side by side.",
        "optbench report results                   writes results/report.html\n"
        "optbench report results -o site           writes site/index.html\n"
        "optbench report laptop server -o both     two machines (or commits) side by side\n"
        "optbench report results --table latex     the summary as a table for a paper, on the screen",
    )
    report.add_argument("stores", metavar="FOLDER", nargs="+", help="results folder of optbench run")
    report.add_argument(
        "--table", choices=["markdown", "latex"], help="print the summary table in this form and write no page"
    )
    report.add_argument("-o", "--output", metavar="PATH", help="folder, or file ending in .html")
    report.add_argument("--title", default="optbench report", help="title of the page")
    report.add_argument("--jobs", type=int, metavar="N", help="processes that draw (default: as many as pay)")
    report.add_argument(
        "--history", metavar="FOLDER", help="results folder of asv (default .asv/results, where there is one)"
    )
    return parser


def _command(commands: Any, name: str, function: Any, description: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=description.split(":")[0].split(". ")[0].rstrip("."),
        description=description,
        epilog="examples:\n  " + examples.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(function=function)
    return parser


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # a pipe or a file has no width; tables are not to be folded there
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False, soft_wrap=False)


# ---- list ------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES
    from optbench.core.specs import parameters
    from optbench.optimizers.schedules import schedule_parameters
    from optbench.runner.study import suites

    console = _console()
    if options.names:
        for name in options.names:
            _describe(console, name)
        return 0
    for registry, title in ((PROBLEMS, "Problems"), (OPTIMIZERS, "Optimizers"), (SCHEDULES, "Schedules")):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        for heading in ("name", "parameters and defaults", "what it is"):
            table.add_column(heading, overflow="fold", max_width=48 if heading.startswith("par") else None)
        for name in registry.names():
            target = registry[name]
            declared = schedule_parameters(name) if registry is SCHEDULES else parameters(target)
            source = registry.plugin_of(name)
            line = _first_line(target) + (f" (from {source})" if source else "")
            table.add_row(Text(name, "bold"), Text(" ".join(map(str, declared.values()))), Text(line))
        console.print(table)
        console.print()
    table = Table(title="Suites", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("name")
    table.add_column("title")
    for name, title in suites().items():
        table.add_row(Text(name, "bold"), Text(title))
    console.print(table)
    return 0


def _describe(console: Console, name: str) -> None:
    import inspect

    from rich.text import Text

    from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES

    found = [registry for registry in (PROBLEMS, OPTIMIZERS, SCHEDULES) if name in registry.names()]
    if not found:
        from difflib import get_close_matches

        everything = [n for registry in (PROBLEMS, OPTIMIZERS, SCHEDULES) for n in registry.names()]
        near = get_close_matches(name, everything, n=1, cutoff=0.5)
        raise InputError(
            f"nothing is called {name!r}; " + (f"did you mean {near[0]!r}?" if near else "see optbench list")
        )
    for registry in found:
        target = registry[name]
        console.print(Text(f"{registry.kind} {name}", "bold"))
        console.print(Text(inspect.getdoc(target) or "no description"))
        citation = getattr(target, "citation", "")
        if citation:
            console.print(Text(f"\nSource: {citation}"))
        if inspect.isfunction(target):
            console.print(Text("\n" + inspect.getsource(target), "dim"))
        console.print()


def _first_line(target: Any) -> str:
    lines = (target.__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


# ---- check -----------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from optbench.core.registry import PROBLEMS
    from optbench.core.specs import parse_spec
    from optbench.problem import make_problem
    from optbench.verify.check import check_problem

    if options.seed < 0:
        raise InputError(f"--seed must be at least 0, not {options.seed}")
    problems = [make_problem(*parse_spec(spec)) for spec in options.problems or PROBLEMS.names()]
    console, wrong = _console(), 0
    for problem in problems:
        checked = check_problem(problem, seed=options.seed)
        wrong += not checked.passed
        console.print(Text(f"{problem.spec}  (d = {problem.dim})", "bold"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("check", "figure", "limit", "", "note"):
            table.add_column(heading, justify="right" if heading in ("figure", "limit") else "left", overflow="fold")
        for row in checked.rows:
            table.add_row(*_check_row(row))
        console.print(table)
        optimum = problem.optimum
        if optimum is not None:
            console.print(Text(f"f* = {optimum.f:.12g}  ({optimum.method})"))
        console.print()
    console.print(f"{len(problems) - wrong} of {len(problems)} problems passed")
    return 1 if wrong else 0


def _check_row(row: Finding) -> tuple[str | Text, ...]:
    from rich.text import Text

    verdict = {True: Text("ok", "green"), False: Text("WRONG", "bold red"), None: Text("-", "dim")}[row.passed]
    figures = ("" if figure is None else f"{figure:.1e}" for figure in (row.figure, row.limit))
    return row.check, *figures, verdict, row.note


# ---- run -------------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from optbench.results.store import Store
    from optbench.runner.execute import execute

    console = _console()
    store = Store(options.output)
    store.check_writable()
    study = _study_of(options)
    with _Bar() as bar, _Cluster(options.dask) as executor:
        runs = execute(
            study.plans,
            store=store,
            jobs=options.jobs,
            executor=executor,
            retry_failed=options.retry_failed,
            on_start=bar.start,
            progress=bar.advance,
        )
    _print_summary(console, runs)
    if not options.no_report:
        from optbench.reports import build_page

        page = build_page(
            runs,
            Path(options.output) / "report.html",
            title=study.title,
            command=options.command_line,
            gpu=store.load_table("gpu"),
            races=store.load_races(),
            jobs=options.jobs,
        )
        console.print(f"results  {options.output}\nreport   {page}", soft_wrap=True)
    return _verdict(runs)


def _study_of(options: argparse.Namespace) -> Study:
    from optbench.runner.study import load_study, study_of

    given = {
        "lr": options.lr,
        "seeds": options.seeds,
        "steps": options.steps,
        "calls": options.calls,
        "batch_size": _whole_numbers(options.batch_size),
        "linear_scaling": options.linear_scaling,
        "schedule": options.schedule,
        "checkpoint_count": options.checkpoint_count,
        "precision": options.precision,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    if options.study is not None or not (options.problem or options.optimizer):
        if options.problem or options.optimizer:
            raise InputError("give either a study or --problem and --optimizer, not both")
        name = "default" if options.study is None else options.study
        return load_study(name, device=options.device, overrides=overrides)
    if not options.problem or not options.optimizer:
        absent = "--optimizer" if options.problem else "--problem"
        raise InputError(f"{absent} is missing; for example: optbench run --problem quadratic --optimizer adam")
    table = {"problems": options.problem, "optimizers": options.optimizer}
    content = {"title": "optbench: a comparison", "seeds": 5, "stop_at_target": True, "compare": [table]}
    return study_of(content, where="command line", device=options.device, overrides=overrides)


def _whole_numbers(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--batch-size must be a whole number or several, such as 16,64; not {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]


class _Bar:
    """A progress bar with the time that is left; nothing but a first line where nobody watches."""

    def __enter__(self) -> _Bar:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = _console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def start(self, work: float, runs: int, found: int) -> None:
        self.console.print(f"{runs} runs to compute" + (f", {found} found in the results folder" if found else ""))
        self.task = self.bar.add_task("running", total=max(work, 1.0))
        if runs:
            self.bar.start()

    def advance(self, done: float) -> None:
        self.bar.advance(self.task, done)


class _Cluster:
    """The executor of a Dask cluster, or none."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.client: Any = None

    def __enter__(self) -> Any:
        if self.address is None:
            return None
        try:
            from distributed import Client
        except ImportError:
            raise InputError("--dask needs the package distributed: pip install 'optbench[cluster]'") from None
        try:
            self.client = Client(self.address, timeout=10)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"no Dask scheduler answers at {self.address!r} ({error})") from None
        return self.client.get_executor(pure=False)

    def __exit__(self, *exception: object) -> None:
        if self.client is not None:
            self.client.close()


def _print_summary(console: Console, runs: Runs) -> None:
    from rich.table import Table
    from rich.text import Text

    from optbench.reports import summary_table
    from optbench.results.runs import Runs

    for problem in sorted(runs.rows["problem"].unique()):
        table = summary_table(Runs(runs.rows[runs.rows["problem"] == problem])).drop(columns="problem")
        shown = Table(title=Text(problem, "bold"), title_justify="left", box=None, pad_edge=False, header_style="dim")
        for name in table.columns:
            shown.add_column(str(name), justify="left" if name == "method" else "right")
        for line in table.itertuples(index=False):
            shown.add_row(*(Text(str(cell)) for cell in line))
        console.print(shown)
        console.print()


def _verdict(runs: Runs) -> int:
    failed = runs.rows[runs.rows["status"] == "failed"]
    for error, rows in failed.groupby("error"):
        methods = ", ".join(sorted(rows["method"].unique()))
        print(f"optbench: {len(rows)} runs of {methods} failed: {error}", file=sys.stderr)
    return 1 if len(failed) else 0


# ---- race ------------------------------------------------------------------------------------------------------------


def _race(options: argparse.Namespace) -> int:
    from optbench.analysis.timing import race_summary, seconds_to_target
    from optbench.results.schema import RACE_COLUMNS, to_arrow, to_frame
    from optbench.results.store import Store
    from optbench.runner.race import compete, make_race_plans

    for name in ("problem", "optimizer"):
        if not getattr(options, name):
            raise InputError(f"--{name} is missing; for example: optbench race --problem quadratic --optimizer adam")
    plans = make_race_plans(
        options.problem,
        options.optimizer,
        rounds=options.rounds,
        steps=options.steps,
        batch_size=options.batch_size,
        schedule=options.schedule,
        device=options.device,
        precision=options.precision,
        fused=not options.plain,
        seed=options.seed,
    )
    store = Store(options.output)
    store.check_writable()
    # a line and no bar, whose thread would run beside what is timed
    what = f"{len(plans)} configuration{'s' * (len(plans) > 1)}, {options.rounds} rounds of {options.steps} steps"
    _console(stderr=True).print(f"{what}; no figures until the end, so that nothing runs beside them")
    try:
        rows = compete(plans)
    except KeyboardInterrupt:
        print("optbench: interrupted; nothing of this race is stored", file=sys.stderr)
        return 130
    path = store.write_race(rows)
    races = to_frame(to_arrow(rows, RACE_COLUMNS))
    runs = store.load()
    _print_race(race_summary(races), seconds_to_target(runs, races), f"{rows[0]['machine']}, {_pinning(rows[0])}")
    _console().print(f"timings  {path}", soft_wrap=True)
    return 0


def _pinning(row: dict[str, Any]) -> str:
    core = "not pinned to a core" if row["core"] is None else f"core {row['core']} of {row['cores']}"
    return f"{core}, one thread, {row['backend']} {row['precision']}"


def _print_race(summary: pd.DataFrame, reached: pd.DataFrame, where: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from optbench.reports.wording import duration

    console = _console()
    console.print(Text(where, "dim"))
    for problem, rows in summary.groupby("problem", sort=False):
        title = Text(str(problem), "bold")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
        its = reached[reached["race_problem"] == problem]
        first = rows["configuration"].iloc[0]
        headings = ["configuration", "a step", "95 %", f"times {first}", "95 %", "oracle", "the rest", "95 %"]
        headings += ["tuned, to 1e-4", "95 %"] if len(its) else []
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "configuration" else "right", overflow="fold")
        for row in rows.to_dict("records"):
            cells = [
                row["configuration"] + ("*" if row["disturbed"] else "") + (" (diverged)" if not row["finite"] else "")
            ]
            cells += duration(row["seconds"], row["seconds_low"], row["seconds_high"])
            cells += [f"{row['ratio']:.2f}", f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"]
            cells += [f"{100 * row['oracle_share']:.0f} %"]
            cells += duration(row["optimizer_seconds"], row["optimizer_low"], row["optimizer_high"])
            cells += _to_target(its, row["method"]) if len(its) else []
            table.add_row(*map(Text, cells))
        console.print(table)
        marks = rows[rows["disturbed"]].assign(reason=rows["reason"].str.split("; ")).explode("reason")
        for reason, those in marks.groupby("reason", sort=False):
            console.print(Text(f"* disturbed: {', '.join(those['configuration'])}: {reason}", "yellow"))
        console.print()


def _to_target(reached: pd.DataFrame, method: str) -> tuple[str, str]:
    """Seconds to target of a method, if it was tuned; of several budgets, which its name tells in runs, the best."""
    from optbench.reports.wording import duration

    names = reached["method"]
    rows = reached[(names == method) | names.str.startswith(f"{method}, ")].sort_values("seconds")
    if rows.empty:
        return "", ""
    return duration(*rows.iloc[0][["seconds", "seconds_low", "seconds_high"]])


# ---- report ----------------------------------------------------------------------------------------------------------


ASV_RESULTS = ".asv/results"  # as asv.conf.json has it


def _report(options: argparse.Namespace) -> int:
    from optbench.analysis import comparison as beside
    from optbench.reports import build_page, latex, load_history, markdown, summary_table
    from optbench.results.store import Store

    names = beside.labels(options.stores)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the results folder {twice!r} is given twice; name every folder once")
    stores = {name: Store(path) for name, path in zip(names, options.stores, strict=True)}
    held = {name: (store.load(), store.load_races(), store.load_table("gpu")) for name, store in stores.items()}
    for path, (runs, races, gpu) in zip(options.stores, held.values(), strict=True):
        if not len(runs) and races.empty and gpu.empty:
            raise InputError(f"there are no results in {path!r}; optbench run -o {path} makes some")
    runs, races, gpu = next(iter(held.values()))
    if len(held) > 1:
        import pandas as pd

        runs = beside.side_by_side({name: found[0] for name, found in held.items()})
        races = beside.races_beside({name: found[1] for name, found in held.items()})
        gpu = pd.concat([found[2] for found in held.values()], ignore_index=True)
    if options.table:
        print({"markdown": markdown, "latex": latex}[options.table](summary_table(runs)))
        return 0
    output = Path(options.output or (Path(options.stores[0]) / "report.html" if len(held) == 1 else "report.html"))
    past = options.history or (ASV_RESULTS if Path(ASV_RESULTS).is_dir() else None)
    page = build_page(
        runs,
        output,
        title=options.title,
        command=options.command_line,
        races=races,
        gpu=gpu,
        history=load_history(past) if past else None,
        jobs=options.jobs,
    )
    _console().print(f"report   {page}", soft_wrap=True)
    return 0
