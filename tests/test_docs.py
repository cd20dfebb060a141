"""The documentation beside its code blocks: scripts, generated formulas, and what the pages of reference list."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from optbench.core.registry import OPTIMIZERS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRIPTS = sorted([*DOCS.glob("gallery/*.py"), *DOCS.glob("tutorials/*/*.py")])


@pytest.fixture
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.usefixtures("here", "no_figures_left")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run(script: Path) -> None:
    runpy.run_path(str(script))


@pytest.mark.parametrize("package", ["optbench", "optbench.problems", "optbench.reports"])
def test_the_api_page_lists_every_public_name(package: str) -> None:
    pages = re.split(r"^\.\. currentmodule:: ", (DOCS / "reference/api.rst").read_text("utf-8"), flags=re.MULTILINE)
    listed = {
        name for page in pages if page.startswith(f"{package}\n") for name in re.findall(r"^   (\w+)$", page, re.M)
    }
    assert listed == {name for name in importlib.import_module(package).__all__ if not name.startswith("_")}


def test_formulas_of_the_catalogue_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
    latex_of = importlib.import_module("formulas").latex_of
    assert latex_of(OPTIMIZERS["sgd"]) == r"x \leftarrow x - \mathrm{lr} \, g"
    assert r"v &\leftarrow \rho \, v + (1 - \rho) \, {g}^{2}" in latex_of(OPTIMIZERS["rmsprop"])
    assert r"\frac{\mathrm{lr} \, \hat{m}}{\sqrt{\hat{v}} + \varepsilon}" in latex_of(OPTIMIZERS["adam"])
    with pytest.raises(ValueError, match="has no form as an equation"):
        latex_of(OPTIMIZERS["dog"])
