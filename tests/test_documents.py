"""Paths and names that the documents mention in backticks exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"]
PATH = re.compile(r"(?:\.ci|\.github|optbench|problems|reports|benchmarks|tests)/[\w./-]*")
NAME = re.compile(r"(?:optbench|problems|reports)(?:\.\w+)+")


def code_spans(document: str) -> list[str]:
    """Text in single backticks, without what follows a space or a bracket; code blocks aside."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [re.split(r"[\s(=]", span)[0] for span in re.findall(r"`([^`]+)`", text) if span.strip()]


def resolve(name: str) -> Any:
    """The module or the attribute that a dotted name means."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, attribute = name.rpartition(".")
        return getattr(resolve(parent), attribute)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    paths = {span for span in code_spans(document) if PATH.fullmatch(span)}
    assert {path for path in paths if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_resolve(document: str) -> None:
    names = {span for span in code_spans(document) if NAME.fullmatch(span)}
    for name in names:
        resolve(name)
