"""Paths and names that the documents mention in backticks exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"]
PATH = re.compile(r"(?:\.ci|\.github|optbench|problems|reports|benchmarks|tests)/[\w./-]*")
NAME = re.compile(r"(?:optbench|problems|reports)(?:\.\w+)+")


def code_spans(document: str) -> list[str]:
    """Text in backticks, without what follows a space or a bracket; code blocks aside."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [
        re.split(r"[\s(=]", span)[0] for _, span in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", text, re.DOTALL)
    ]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, attribute = name.rpartition(".")
        return bool(parent) and exists(parent) and attribute in dir(importlib.import_module(parent))
    return True


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_and_names_exist(document: str) -> None:
    spans = set(code_spans(document))
    assert {path for path in spans if PATH.fullmatch(path) and not (ROOT / path).exists()} == set()
    assert {name for name in spans if NAME.fullmatch(name) and not exists(name)} == set()
