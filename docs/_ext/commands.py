"""The page of the command line, written from the parser of the command before Sphinx reads."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from catalogue import escaped, heading, write_if_changed
from sphinx.application import Sphinx
from sphinx.config import Config

from optbench.cli import make_parser


def write(app: Sphinx, config: Config) -> None:
    parser = make_parser()
    parts = [heading("Command line", "="), escaped(" ".join((parser.description or "").split()))]
    parts.append("Each command explains itself: ``optbench run --help``.")
    for name, command in _commands(parser).items():
        parts += [f".. _command-{name}:", *_command(command, "-")]
        for nested in _commands(command).values():
            parts += _command(nested, "~")
    folder = Path(app.srcdir) / "reference" / "catalogue"
    folder.mkdir(parents=True, exist_ok=True)
    write_if_changed(folder / "commands.rst", "\n\n".join(parts) + "\n")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: command for choices in groups for name, command in choices.items()}


def _command(parser: argparse.ArgumentParser, underline: str) -> list[str]:
    """Heading, purpose, examples, and a table of the arguments of one command."""
    parts = [heading(parser.prog, underline), escaped(" ".join((parser.description or "").split()))]
    if _commands(parser):
        return parts
    _, _, examples = (parser.epilog or "").partition("\n")
    parts.append(".. code-block:: console\n\n" + textwrap.indent(textwrap.dedent(examples), "   "))
    rows = [".. list-table::", "   :header-rows: 1", "   :widths: 35 65", "", "   * - argument", "     - meaning"]
    for action in parser._actions:
        if action.help not in (None, argparse.SUPPRESS):
            help_text = " ".join((action.help or "").replace("%%", "%").split())
            rows += [f"   * - {_label(action)}", f"     - {escaped(help_text[0].upper() + help_text[1:])}"]
    return [*parts, "\n".join(rows)]


def _label(action: argparse.Action) -> str:
    value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    names = action.option_strings or [str(action.metavar or action.dest)]
    return ", ".join(f"``{name}{value if action.option_strings else ''}``" for name in names)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", write)
    return {"parallel_read_safe": True}
