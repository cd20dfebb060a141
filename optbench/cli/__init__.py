"""The command line: one module for each command.

A command parses its arguments, calls one public function with the same argument names, and prints. Libraries that take long
to import are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from optbench import __version__
from optbench.cli import check, list, race, report, run
from optbench.core.errors import OptbenchError, suggestion
from optbench.core.workers import environment_variables


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 well, 1 a result is wrong or a run failed, 2 the request is impossible."""
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    options = make_parser().parse_args(arguments)
    options.command_line = shlex.join(["optbench", *arguments])
    # stored with results, whichever process stores them
    variables = environment_variables({"OPTBENCH_COMMAND": options.command_line})
    with warnings.catch_warnings(), variables:
        warnings.showwarning = _show_warning
        warnings.filterwarnings("always", module="optbench")
        try:
            if options.imports:
                from optbench.core.imports import import_all

                import_all(options.imports)
            return int(options.execute(options))
        except OptbenchError as error:
            print(f"optbench: {error}", file=sys.stderr)
            return 2
        except MemoryError as error:
            print(f"optbench: there is not enough memory ({error or 'none left'}); request less", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"optbench: interrupted; {options.after_interrupt}", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # the reader of a pipe (head, less) has gone; nothing is left to say to it
            sys.stderr.close()
            return 141


def _show_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    print(f"optbench: warning: {message}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest command or option."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '?(\S+?)'? |unrecognized arguments: (\S+)", message)
        hint = suggestion(wrong[1] or wrong[2].split("=")[0], self.spellings()) if wrong else ""
        self.exit(2, f"optbench: {message.split(' (choose')[0]}; {hint or f'see {self.prog} --help'}\n")

    def spellings(self) -> set[str]:
        """Commands and options of this parser and of those below it."""
        known = {option for action in self._actions for option in action.option_strings}
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                known.update(action.choices, *(parser.spellings() for parser in action.choices.values()))
        return known


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command ``optbench`` and its subcommands."""
    parser = Parser(
        prog="optbench",
        description="Compare gradient-based optimizers: which one reaches a given accuracy first on a given problem, and "
        "how much does the answer depend on the learning rate and the seed?",
        epilog="Begin with: optbench run. It compares all optimizers on quadratics, logistic regression and a small "
        "network, prints a table and writes a page.",
    )
    parser.add_argument("--version", action="version", version=f"optbench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (list, check, run, race, report):
        command.add_parser(commands)
    return parser
