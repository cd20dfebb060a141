"""``optbench race``: how long a step takes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from optbench.cli.arguments import (
    add_command,
    add_device_and_store,
    add_methods,
    add_options,
    check_methods,
    given_options,
)
from optbench.cli.console import make_console, print_table
from optbench.runner.options import RaceOptions

if TYPE_CHECKING:
    import pandas as pd


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "race",
        execute,
        "Time single runs: seconds per step. Runs take turns (A B C A B C ...), one round for each seed, on one core and "
        "one thread. Only the steps are timed; the oracle's part has a column of its own. Timings are kept in the results "
        "folder. Where it holds the same method on the same problem, seconds to a target are shown too. Close other "
        "programs first.",
        "optbench race --problem quadratic:dim=1000 --optimizer sgd --optimizer adam\n"
        "optbench race --problem mlp --optimizer adam --batch-size 64 --rounds 20\n"
        "optbench race --problem logistic --optimizer adam --precision float32",
        after_interrupt="nothing of this race is stored",
    )
    add_methods(parser, "likewise, with one value for each parameter: adam:lr=0.01; ratios are to the first")
    add_options(parser, RaceOptions)
    add_device_and_store(parser)


def execute(arguments: argparse.Namespace) -> int:
    from optbench import race
    from optbench.analysis.timing import race_summary, seconds_to_target
    from optbench.reports.wording import plural
    from optbench.results.store import Store

    check_methods(arguments, "race")
    options, store = given_options(arguments, RaceOptions), Store(arguments.store)

    def announce(count: int) -> None:
        asked = RaceOptions(**options)
        what = f"{plural(count, 'configuration')}, {asked.rounds} rounds of {asked.steps} steps"
        print(f"timing {what}; the results appear at the end", file=sys.stderr)

    methods = arguments.problems, arguments.optimizers
    races = race(*methods, device=arguments.device, store=store, on_start=announce, **options)
    _print_race(race_summary(races), seconds_to_target(store.load(), races), races.iloc[0])
    make_console().print(f"timings  {store.table_files('races')[-1]}", soft_wrap=True)
    return 0


def _print_race(summary: pd.DataFrame, to_target: pd.DataFrame, first: pd.Series) -> None:
    from optbench.reports.wording import duration

    # by place of the configuration; of several methods that it stands for, budgets for example, the fastest
    slowest_first = to_target.sort_values("seconds", ascending=False, na_position="first").to_dict("records")
    fastest = {place: line for line in slowest_first for place in line["places"]}
    console = make_console()
    core = "not pinned to a core" if first["core"] is None else f"core {first['core']:.0f} of {first['cores']}"
    console.print(f"{first['machine']}, {core}, one thread, {first['backend']} {first['precision']}", style="dim")
    for problem, rows in summary.groupby("problem", sort=False):
        reference = rows["configuration"].iloc[0]
        headings = ["configuration", "a step", "95 %", f"times {reference}", "95 %", "oracle", "the rest", "95 %"]
        tuned = any(place in fastest for place in rows["place"])
        headings += ["tuned, to 1e-4", "95 %"] if tuned else []
        cells = []
        for row in rows.to_dict("records"):
            marks = ("*" if row["disturbed"] else "") + (" (diverged)" if not row["finite"] else "")
            line = [row["configuration"] + marks]
            line += duration(row["seconds"], row["seconds_low"], row["seconds_high"])
            line += [f"{row['ratio']:.2f}", f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"]
            line += [f"{100 * row['oracle_share']:.0f} %"]
            line += duration(row["optimizer_seconds"], row["optimizer_low"], row["optimizer_high"])
            goal = fastest.get(row["place"])
            to_goal = duration(goal["seconds"], goal["seconds_low"], goal["seconds_high"]) if goal else ("", "")
            cells.append([*line, *to_goal] if tuned else line)
        print_table(console, str(problem), headings, cells, optional=(9, 7, 6, 5, 4, 2)[not tuned :])
        disturbed = rows.assign(reason=rows["reason"].str.split("; "))[rows["disturbed"]].explode("reason")
        for reason, group in disturbed.groupby("reason", sort=False):
            console.print(f"* disturbed: {', '.join(group['configuration'])}: {reason}", style="yellow")
        for sentence in verdict(rows):
            console.print(sentence)
        console.print()


def verdict(rows: pd.DataFrame) -> list[str]:
    """How the steps of each configuration compare with those of the first, a line each; rows of `race_summary`."""
    (_, first), *others = rows.iterrows()
    lines = []
    for _, row in others:
        low, high = row["ratio_low"], row["ratio_high"]
        if low <= 1 <= high:
            lines.append(f"{row['configuration']} against {first['configuration']}: no difference within the error")
            continue
        pair, ratios = (row, first), (row["ratio"], low, high)
        if high < 1:
            pair, ratios = (first, row), (1 / row["ratio"], 1 / high, 1 / low)
        slower, faster = pair
        times = "{:.3g} times as long (95 %: {:.3g} to {:.3g})".format(*ratios)
        lines.append(f"A step of {slower['configuration']} takes {times} as one of {faster['configuration']}")
    if lines and rows["disturbed"].any():
        lines.append("The machine was busy: repeat the race before you rely on it.")
    return lines
