"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from optbench.core.errors import InputError
from optbench.runner.options import Options, names_of

WIDEST_HELP = 100  # columns; longer lines are hard to read
SPEC = "a name, with parameters after a colon: quadratic:dim=100,condition=1e4"


def add_command(
    commands: Any,
    name: str,
    execute: Callable[[argparse.Namespace], int],
    description: str,
    examples: str,
    *,
    imports: bool = True,
    after_interrupt: str = "nothing was computed",
) -> argparse.ArgumentParser:
    """The parser of a command. Examples are lines; `after_interrupt` says what Ctrl-C leaves."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=description.split(":")[0].split(". ")[0].rstrip("."),
        description=textwrap.fill(description, min(shutil.get_terminal_size().columns, WIDEST_HELP) - 2),
        epilog="examples:\n  " + examples.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(execute=execute, imports=[], after_interrupt=after_interrupt)
    if imports:
        parser.add_argument(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="FILE",
            help="Python file (mine.py) or module that registers further problems and optimizers; may be repeated",
        )
    return parser


def path(text: str) -> str:
    """A path on the command line; an empty one would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("a path is empty; name one, or . for the working directory")
    return text


def add_methods(parser: argparse.ArgumentParser, optimizer_help: str) -> None:
    """``--problem`` and ``--optimizer``."""
    parser.add_argument("--problem", dest="problems", action="append", metavar="SPEC", help=f"{SPEC}; may be repeated")
    parser.add_argument("--optimizer", dest="optimizers", action="append", metavar="SPEC", help=optimizer_help)


def add_device_and_store(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--store``."""
    parser.add_argument("--device", help="cpu or gpu (default cpu)")
    parser.add_argument(
        "-o", "--store", type=path, default="results", metavar="FOLDER", help="where results are kept (default results)"
    )


def check_methods(arguments: argparse.Namespace, command: str) -> None:
    """Raise `InputError` unless problems and optimizers are given, and all of them exist."""
    from optbench.optimizer import make_recipe

    for spec in arguments.optimizers or ():
        make_recipe(spec)  # a misspelt name is reported before a missing option
    for name in ("problem", "optimizer"):
        if not getattr(arguments, f"{name}s"):
            example = f"optbench {command} --problem quadratic --optimizer adam"
            raise InputError(f"--{name} is missing; for example: {example}")


def add_options(parser: argparse.ArgumentParser, options: type[Options]) -> None:
    """An argument for each option of a class, which reads and checks its text."""
    for field in dataclasses.fields(options):
        default = field.default
        note = "" if default is None else f" (default {str(default).lower()})"
        text = (field.metadata["help"] + note).replace("%", "%%")
        settings: dict[str, Any] = {"metavar": field.metadata["metavar"]}
        if isinstance(default, bool):
            settings = {"action": argparse.BooleanOptionalAction}
        elif field.type == "str | Iterable[str]":
            settings["action"], text = "append", f"{text}; may be repeated"
        parser.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, help=text, **settings)


def given_options(arguments: argparse.Namespace, options: type[Options]) -> dict[str, Any]:
    """The options that the command line sets."""
    names = names_of(options)
    return {name: value for name, value in vars(arguments).items() if name in names}
