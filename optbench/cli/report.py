"""``optbench report``: the page, or the summary table, of stored results."""

from __future__ import annotations

import argparse
from typing import Any

from optbench.cli.arguments import add_command, path
from optbench.cli.console import make_console, say


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "report",
        execute,
        "Write the page again from stored results, of several folders side by side.",
        "optbench report results                 writes results/report.html\n"
        "optbench report results -o site         writes site/index.html\n"
        "optbench report laptop server -o both   two machines or commits side by side\n"
        "optbench report results --table latex   prints the summary for a paper",
        imports=False,
        after_interrupt="a page that was there before stays as it was",
    )
    parser.add_argument("results", type=path, metavar="FOLDER", nargs="+", help="results folder of optbench run")
    parser.add_argument(
        "--table", choices=["markdown", "latex"], help="print the summary table in this form and write no page"
    )
    parser.add_argument("-o", "--output", type=path, metavar="PATH", help="folder, or file ending in .html")
    parser.add_argument("--title", default="optbench report", help="title of the page")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that draw (default: as many as pay)")
    parser.add_argument(
        "--history",
        type=path,
        metavar="FOLDER",
        help="results folder of asv (default .asv/results, where there is one)",
    )


def execute(arguments: argparse.Namespace) -> int:
    from optbench import report
    from optbench.reports import alerts, latex, load_results, markdown, summary_table

    results = load_results(arguments.results)
    wrong = alerts(results.runs)
    for line in wrong:
        say(f"WRONG: {line}")
    if arguments.table:
        table = summary_table(results.runs)
        print({"markdown": markdown, "latex": latex}[arguments.table](table))
        return int(bool(wrong))
    page = report(
        results,
        arguments.output,
        title=arguments.title,
        history=arguments.history,
        jobs=arguments.jobs,
        command=arguments.command_line,
    )
    make_console().print(f"report   {page}", soft_wrap=True)
    return int(bool(wrong))
