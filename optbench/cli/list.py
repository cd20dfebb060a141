"""``optbench list``: problems, optimizers, schedules and suites."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import TYPE_CHECKING, Any

from optbench.cli.arguments import add_command
from optbench.cli.console import make_console, print_table
from optbench.core.errors import InputError, suggestion
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES

if TYPE_CHECKING:
    from rich.console import Console


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "list",
        execute,
        "Show the problems, optimizers, schedules and suites there are, with their parameters.",
        "optbench list                    everything, one line each\n"
        "optbench list logistic adam      their full descriptions and parameters",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="show the full description of these")


def execute(arguments: argparse.Namespace) -> int:
    from rich.text import Text

    from optbench.core.imports import origin_of
    from optbench.core.specs import parameters
    from optbench.optimizers.schedules import schedule_parameters
    from optbench.runner.study import suites

    console = make_console()
    for name in arguments.names:
        _describe(console, name)
    if arguments.names:
        return 0
    for registry, title in ((PROBLEMS, "Problems"), (OPTIMIZERS, "Optimizers"), (SCHEDULES, "Schedules")):
        rows = []
        for name in registry.names():
            target = registry[name]
            declared = schedule_parameters(name) if registry is SCHEDULES else parameters(target)
            origin = origin_of(registry, name)
            first_line, *_ = (target.__doc__ or "").strip().split("\n")
            formula, _, words = first_line.partition(": ")
            first_line = words if " = " in formula and words else first_line
            settings = " ".join(map(str, declared.values()))
            rows.append((Text(name, "bold"), settings, first_line, f"from {origin}" if origin else ""))
        headings = ["name", "parameters and defaults", "what it is", ""]
        print_table(console, title, headings, rows, text_columns=(0, 1, 3), short_columns=(2,), optional=(1,))
    titles = [(Text(name, "bold"), title) for name, title in suites().items()]
    print_table(console, "Suites", ("name", "title"), titles, text_columns=(0, 1))
    console.print("optbench list NAME shows everything about one of them.")
    return 0


def _describe(console: Console, name: str) -> None:
    from rich.padding import Padding

    from optbench.cli.catalogue import facts, parameter_rows
    from optbench.runner.study import SUITES, suites

    registries = (PROBLEMS, OPTIMIZERS, SCHEDULES)
    holding = [registry for registry in registries if name in registry.names()]
    if title := suites().get(name):
        console.print(f"suite {name}", style="bold")
        console.print(f"{title}\n{SUITES / name}.toml\n", soft_wrap=True)
    elif not holding:
        names = [*suites(), *(known for registry in registries for known in registry.names())]
        raise InputError(f"nothing is called {name!r}; {suggestion(name, names) or 'see optbench list'}")
    for registry in holding:
        target = registry[name]
        documentation = inspect.getdoc(target) or "no description"
        console.print(f"{registry.kind} {name}", style="bold")
        paragraphs = re.split(r"\n\n\w+\n---", documentation)[0]  # without sections such as "Parameters"
        console.print(re.sub(r"(?<!\n)\n(?![\n ])", " ", paragraphs))  # folded anew to the width of the console
        console.print()
        if described := facts(registry, name):
            for label, text in described.items():
                console.print(Padding(f"{label}: {text}", (0, 0, 0, 2), expand=False))
            console.print()
        if rows := parameter_rows(registry, name):
            headings = ("parameter", "default", "allowed", "meaning")
            print_table(console, "Parameters", headings, rows, text_columns=(0, 1, 2, 3))
        if inspect.isfunction(target):
            console.print(inspect.getsource(target), style="dim", soft_wrap=True)
