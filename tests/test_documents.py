"""Paths and names that the documents mention in backticks exist."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from optbench.results.schema import COLUMNS, RACE_COLUMNS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / "docs/explanation").rglob("*.md"), *(ROOT / "docs/reference").glob("*.md")]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"]
DOCUMENTS += sorted(str(page.relative_to(ROOT)) for page in PAGES)
PATH = re.compile(r"(?:\.ci|\.github|optbench|problems|reports|benchmarks|tests)/[\w./-]*")
NAME = re.compile(r"(?:optbench|problems|reports)(?:\.\w+)+")


def code_spans(document: str) -> list[str]:
    """Text in backticks, without what follows a space or a bracket; code blocks aside."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [
        re.split(r"[\s(=]", span)[0] for _, span in re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", text, re.DOTALL)
    ]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or what one finds in a module by it."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_and_names_exist(document: str) -> None:
    spans = set(code_spans(document))
    assert {path for path in spans if PATH.fullmatch(path) and not (ROOT / path).exists()} == set()
    assert {name for name in spans if NAME.fullmatch(name) and not exists(name)} == set()


def test_the_path_of_a_learning_rate_names_functions_that_exist() -> None:
    steps = re.findall(r"^\d+\. .*(?:\n   .*)*", (ROOT / "docs/explanation/engine.md").read_text("utf-8"), re.MULTILINE)
    spans = re.findall(r"`(?:[A-Z]\w+\.)?(_?[a-z]+(?:_[a-z]+)*)`", "\n".join(steps))
    sources = [path.read_text("utf-8") for folder in ("optbench", "reports") for path in (ROOT / folder).rglob("*.py")]
    defined = set(re.findall(r"^ *def (\w+)", "\n".join(sources), re.MULTILINE))
    assert len(set(spans)) > 25
    assert set(spans) - defined <= {"lr", "step_size"}


def test_the_schema_page_describes_every_column() -> None:
    page = (ROOT / "docs/reference/schema.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\w<>&;, ]+?) \|[^|]*\| [^|]+ \|$", page, re.MULTILINE)
    described = [(name, kind.replace("&lt;", "<").replace("&gt;", ">")) for name, kind in rows]
    columns, race = [[(n, kind) for n, (kind, _) in each.items()] for each in (COLUMNS, RACE_COLUMNS)]
    assert sorted(described[: len(columns)]) == sorted(columns)
    assert described[len(columns) :] == race
