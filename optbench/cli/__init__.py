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
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from optbench import __version__
from optbench.cli import check, list, race, report, run, store
from optbench.cli.console import say
from optbench.core.errors import InputError, OptbenchError, error_text, place_of, suggestion
from optbench.core.specs import check_text
from optbench.core.workers import environment_variables


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 well, 1 a result is wrong or a run failed, 2 the request is impossible."""
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    try:
        for argument in arguments:
            check_text("command line", argument)
        options = make_parser().parse_args(arguments)
    except InputError as error:
        return _refuse(error)
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
        except BrokenPipeError:  # the reader of a pipe (head, less) has gone; nothing is left to say to it
            return 141
        except (OptbenchError, RecursionError) as error:
            if _comes_from_interrupt(error):
                return _interrupted(options)
            return _refuse(error)
        except OSError as error:
            return _refuse(OptbenchError(error))
        except MemoryError as error:
            return _refuse(f"there is not enough memory ({error or 'none left'}); request less")
        except KeyboardInterrupt:
            return _interrupted(options)
        except BaseException as error:
            if not place_of(error):  # a defect of optbench
                raise
            return _refuse(error_text(error))


def _interrupted(options: argparse.Namespace) -> int:
    say(f"interrupted; {options.after_interrupt}")
    return 130


def _comes_from_interrupt(error: BaseException) -> bool:
    """Whether other code, such as a plug-in, has turned Ctrl-C into this error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _refuse(reason: object) -> int:
    say(reason)
    return 2


def _show_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    say(f"warning: {message}")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest command or option."""

    commands: Mapping[str, Parser] = MappingProxyType({})  # every command, by name

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here, where the command is known that was called with them."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '?(\S+?)'? |unrecognized arguments: (\S+)", message)
        hint = ""
        if wrong:
            name = wrong[1] or wrong[2].split("=")[0]
            owners = [parser.prog for parser in self.commands.values() if name in parser._option_string_actions]
            hint = f"{name} belongs to {' and '.join(owners)}" if owners else suggestion(name, self.spellings())
        short = OptbenchError(f"{message.split(' (choose')[0]}; {hint or f'see {self.prog} --help'}")
        self.exit(2, f"optbench: {short}\n")

    def spellings(self) -> set[str]:
        """Options of this parser, and its commands where none was called."""
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {*self._option_string_actions, *(name for group in groups for name in group.choices)}


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
    for command in (list, check, run, race, report, store):
        command.add_parser(commands)
    for each in (parser, *commands.choices.values()):
        each.commands = commands.choices
    return parser
