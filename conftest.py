"""Runs the code blocks of README.md, CONTRIBUTING.md and docs/: each page is a session in an empty folder.

Python blocks of a page share one namespace. A ``sh`` block runs in the folder of the page, unless it installs something; a
``text`` block right after it is its output, in which ``...`` stands for anything. A block with a ``:caption:`` is a file
that the reader creates, and is written to the folder.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser, SkipParser

INSTALLS = re.compile(r"pip install|git clone")
SECONDS = 120  # after which a block has failed

run_python = PythonEvaluator()


def start_page(namespace: dict[str, Any]) -> None:
    """An empty folder to work in; what a page imports and registers is forgotten at its end."""
    from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES

    os.environ["MPLBACKEND"] = "Agg"
    cleanup = contextlib.ExitStack()
    folder = cleanup.enter_context(tempfile.TemporaryDirectory())
    cleanup.enter_context(contextlib.chdir(folder))
    for registry in (OPTIMIZERS, PROBLEMS, SCHEDULES):
        registry.names()  # what ships with optbench is registered before
        contents = {key: copy.copy(value) for key, value in vars(registry).items() if isinstance(value, dict | set)}
        cleanup.callback(vars(registry).update, contents)
    path = [*sys.path]
    sys.path.insert(0, folder)
    cleanup.callback(sys.path.__setitem__, slice(None), path)
    cleanup.callback(forget_modules, Path(folder))
    namespace["cleanup"] = cleanup


def forget_modules(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").is_relative_to(folder):
            del sys.modules[name]


def end_page(namespace: dict[str, Any]) -> None:
    namespace["cleanup"].close()
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def is_file(example: Example) -> bool:
    """Write a block with a caption to the file that it names."""
    name = example.region.lexemes.get("options", {}).get("caption")
    if name:
        Path(name).write_text(example.parsed, encoding="utf-8")
    return bool(name)


def python(example: Example) -> None:
    if is_file(example):
        compile(example.parsed, example.path, "exec")
    else:
        run_python(example)


def shell(example: Example) -> None:
    if INSTALLS.search(example.parsed):
        return
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "COLUMNS": "80",
        "PYTHONDONTWRITEBYTECODE": "",  # compiled once, not by every command
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = ["bash", "-euo", "pipefail", "-c", example.parsed]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert result.returncode == 0, f"{example.parsed}\n{result.stdout}{result.stderr}"
    example.namespace["shell"] = example.region.end, result.stdout


def output(example: Example) -> None:
    end, actual = example.namespace.get("shell", (0, ""))
    between = example.document.text[end : example.region.start]
    assert not between.strip(), "a text block is the output of the sh block right before it; use {code-block} none"
    pattern = r"\s+".join(".*?" if word == "..." else re.escape(word) for word in example.parsed.split())
    assert re.fullmatch(rf"\s*{pattern}\s*", actual, re.DOTALL), actual


def toml(example: Example) -> None:
    is_file(example)
    tomllib.loads(example.parsed)


def plain_file(example: Example) -> None:
    assert is_file(example), "a block of data needs a :caption: that names its file"


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", python),
        CodeBlockParser("sh", shell),
        CodeBlockParser("text", output),
        CodeBlockParser("toml", toml),
        CodeBlockParser("csv", plain_file),
        SkipParser(),
    ],
    patterns=["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md"],
    setup=start_page,
    teardown=end_page,
).pytest()
