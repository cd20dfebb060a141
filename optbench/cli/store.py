"""``optbench store``: what a results folder contains, and its maintenance."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from optbench.cli.arguments import add_command
from optbench.cli.console import make_console, print_table
from optbench.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20  # lines of findings that are printed


def add_parser(commands: Any) -> None:
    store = commands.add_parser(
        "store",
        help="Look at results folders, and maintain them",
        description="Look at results folders, and maintain them. Each command explains itself: optbench store list --help.",
    )
    nested = store.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_list, _add_check, _add_repair, _add_compact, _add_merge, _add_export, _add_drop):
        add(nested)


def _add(commands: Any, name: str, execute: Any, description: str, examples: str) -> argparse.ArgumentParser:
    left = "what was stored before is still there" if name not in ("drop", "export") else "nothing is half written"
    return add_command(commands, name, execute, description, examples, imports=False, after_interrupt=left)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store", nargs="?", default="results", metavar="FOLDER", help="the results folder (default results)"
    )


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    for name, what in (("problem", "spec or name of a problem"), ("optimizer", "name of an optimizer or a method")):
        text = f"only its runs: {what}; may be repeated"
        parser.add_argument(f"--{name}", dest=f"{name}s", action="append", default=[], metavar="NAME", help=text)


def _add_list(commands: Any) -> None:
    parser = _add(
        commands,
        "list",
        _list,
        "Show what a results folder contains: one line for each problem, with its runs by how they ended, the largest "
        "number of steps, the versions of the code, the date of the newest run, and the size.",
        "optbench store list\noptbench store list server --details",
    )
    _add_folder(parser)
    parser.add_argument("--details", action="store_true", help="one line for each problem and method")


def _list(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import stored_rows
    from optbench.results.store import Store

    store = Store(arguments.store)
    rows, console = stored_rows(store), make_console()
    by = ["problem", "method"] if arguments.details else ["problem"]
    statuses = [*rows["status"].unique()]
    headings = [*by, "runs", *statuses, "steps", "codes", "newest", "size", "files"]
    lines = [_line([str(name) for name in names], part, statuses) for names, part in rows.groupby(by)]
    if lines:
        # the first of these columns are dropped first where the console is narrow
        order = [
            "files",
            "codes",
            "steps",
            *(name for name in statuses if name not in ("failed", "invalid")),
            "size",
            "newest",
        ]
        optional = [headings.index(name) for name in order]
        text = range(1, len(by))
        print_table(console, str(store.path), headings, lines, text_columns=text, short_columns=[0], optional=optional)
    others = [f"{plural(len(store.table_files(kind)), 'file')} of {kind}" for kind in store.kinds]
    total = [plural(int(rows["current"].sum()), "run"), plural(rows["file"].nunique(), "file"), _size(rows)]
    hidden = int((~rows["current"]).sum())
    replaced = [f"{plural(hidden, 'row')} of older code or earlier attempts"] if hidden else []
    console.print(", ".join([*total, *replaced, *others]))
    return 0


def _line(names: list[str], rows: pd.DataFrame, statuses: list[str]) -> list[str]:
    counts = rows.loc[rows["current"], "status"].value_counts()
    line = [*names, str(counts.sum()), *(str(counts[name]) if name in counts else "–" for name in statuses)]
    newest = max(rows["created"])[:10]
    return [
        *line,
        str(rows["steps"].max()),
        str(rows["code"].nunique()),
        newest,
        _size(rows),
        str(rows["file"].nunique()),
    ]


def _size(rows: pd.DataFrame) -> str:
    return f"{rows['bytes'].sum() / 1e6:.2f} MB"


def _add_check(commands: Any) -> None:
    parser = _add(
        commands,
        "check",
        _check,
        "Verify every file of a results folder: its bytes, its columns, and whether its runs are consistent. Nothing is "
        "changed. The exit status is 1 if anything is wrong.",
        "optbench store check\noptbench store check server",
    )
    _add_folder(parser)


def _check(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import check
    from optbench.results.store import Store

    store = Store(arguments.store)
    findings = check(store)
    count = len(store.files) + sum(len(store.table_files(kind)) for kind in store.kinds)
    _print_lines(findings)
    if findings:
        print(
            f"optbench: {len(findings)} of {plural(count, 'file')} are not well; see optbench store repair",
            file=sys.stderr,
        )
        return 1
    print(f"{plural(count, 'file')} verified: all is well")
    return 0


def _print_lines(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        print(line)
    if len(lines) > SHOWN:
        print(f"and {len(lines) - SHOWN} more")


def _add_repair(commands: Any) -> None:
    parser = _add(
        commands,
        "repair",
        _repair,
        "Move files that cannot be used to the folder quarantine, and remove temporary files that killed processes left. "
        "optbench run computes the runs of damaged files again; nothing is taken from them, because a part that looks "
        "intact may not be.",
        "optbench store repair\noptbench store repair server",
    )
    _add_folder(parser)


def _repair(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import repair
    from optbench.results.store import Store

    store = Store(arguments.store)
    damaged, lost, removed = repair(store)
    _print_lines([f"{path.relative_to(store.path)}: {reason}" for path, reason in damaged.items()])
    if damaged:
        known = f", with at least {plural(lost, 'run')}," if lost else ""
        moved = f"{plural(len(damaged), 'file')}{known} moved to {store.path / 'quarantine'}"
        print(f"{moved}; optbench run computes the runs again")
    print(f"{plural(len(removed), 'temporary file')} removed" if removed or damaged else "nothing to repair")
    return 0


def _add_compact(commands: Any) -> None:
    parser = _add(
        commands,
        "compact",
        _compact,
        "Merge many small files into few large ones, and drop copies of runs and failed rows of runs that succeeded. All "
        "tables stay the same. Other processes may read and write the folder meanwhile.",
        "optbench store compact\noptbench store compact server",
    )
    _add_folder(parser)


def _compact(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import compact
    from optbench.results.store import Store

    (files_before, files), (rows_before, rows) = compact(Store(arguments.store))
    print(f"{plural(files_before, 'file')} became {files}; {plural(rows_before - rows, 'superseded row')} dropped")
    return 0


def _add_merge(commands: Any) -> None:
    parser = _add(
        commands,
        "merge",
        _merge,
        "Copy the runs, races and other tables that a results folder lacks from other folders. Files are verified, and "
        "nothing is overwritten.",
        "optbench store merge server laptop -o both\noptbench store merge server -o results",
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="results folders to copy from")
    parser.add_argument("-o", "--store", required=True, metavar="TARGET", help="the folder to copy to")


def _merge(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import merge
    from optbench.results.store import Store

    copied, runs, damaged = merge(Store(arguments.store), [Store(source) for source in arguments.sources])
    print(f"{plural(copied, 'file')} with {plural(runs, 'new run')} copied to {arguments.store}")
    if damaged:
        _print_lines([f"{path}: {reason}" for path, reason in damaged.items()])
        print(f"optbench: {plural(len(damaged), 'damaged file')} not copied; see optbench store check", file=sys.stderr)
        return 1
    return 0


def _add_export(commands: Any) -> None:
    parser = _add(
        commands,
        "export",
        _export,
        "Write the table of runs, or of their curves, as CSV, Parquet or JSON, by the suffix of the file: .csv, .parquet, "
        ".json or .jsonl.",
        "optbench store export -o runs.csv\noptbench store export server --curves --optimizer adam -o curves.parquet",
    )
    _add_folder(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--curves", action="store_true", help="one line for each run and checkpoint")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    _add_conditions(parser)


def _export(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import export, find
    from optbench.results.runs import Runs
    from optbench.results.store import Store

    rows = find(Store(arguments.store).load().rows, problems=arguments.problems, optimizers=arguments.optimizers)
    runs = Runs(rows.reset_index(drop=True))
    path = export(runs, arguments.output, curves=arguments.curves, force=arguments.force)
    print(f"{plural(len(runs), 'run')} written to {path}")
    return 0


def _add_drop(commands: Any) -> None:
    parser = _add(
        commands,
        "drop",
        _drop,
        "Delete runs that meet all given conditions. Their number is shown first, and nothing is deleted without --yes or "
        "an answer in the terminal. Races and other tables stay.",
        "optbench store drop --failed\noptbench store drop --problem rosenbrock --optimizer adam\n"
        "optbench store drop server --older-code --yes",
    )
    _add_folder(parser)
    _add_conditions(parser)
    parser.add_argument("--failed", action="store_true", help="only failed runs")
    parser.add_argument("--invalid", action="store_true", help="only invalid runs; with --failed, both")
    parser.add_argument("--older-code", action="store_true", help="only runs that newer code has computed again")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _drop(arguments: argparse.Namespace) -> int:
    from optbench.reports.wording import plural
    from optbench.results.maintenance import drop, find, stored_rows
    from optbench.results.store import Store

    conditions = {
        name: getattr(arguments, name) for name in ("problems", "optimizers", "failed", "invalid", "older_code")
    }
    if not any(conditions.values()):
        raise InputError("name what to delete: --problem, --optimizer, --failed, --invalid or --older-code")
    store = Store(arguments.store)
    stored = stored_rows(store)
    rows = find(stored, **conditions)
    if rows.empty:
        print("no run meets these conditions")
        return 0
    by_problem = rows["problem"].value_counts().sort_index()
    _print_lines([f"{count:6} {problem}" for problem, count in by_problem.items()])
    print(f"{len(rows)} of {plural(len(stored), 'stored run')}")
    if not arguments.yes and not _agreed():
        return 0
    print(f"{plural(drop(store, rows), 'run')} deleted")
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("nothing was deleted; add --yes to delete these runs")
    answer = input("Delete them? [y/N] ").strip().lower() in ("y", "yes")
    if not answer:
        print("nothing was deleted")
    return answer
