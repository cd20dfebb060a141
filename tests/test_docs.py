"""The documentation beside its code blocks: scripts, generated formulas, and what the pages of reference list."""

from __future__ import annotations

import doctest
import enum
import functools
import importlib
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import optbench
from optbench.compile.graph import TraceError
from optbench.compile.rules import RuleKernel
from optbench.core.backend import get_backend
from optbench.core.registry import OPTIMIZERS

DOCS = Path(__file__).resolve().parent.parent / "docs"
PACKAGES = ["optbench", "optbench.problems", "optbench.reports", "optbench.results.maintenance"]
SCRIPTS = sorted([*DOCS.glob("gallery/*.py"), *DOCS.glob("tutorials/*/*.py")])


@pytest.fixture
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.usefixtures("here", "no_figures_left")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run(script: Path) -> None:
    runpy.run_path(str(script))


@pytest.mark.parametrize("package", PACKAGES)
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
    dog = latex_of(OPTIMIZERS["dog"])
    assert r"\max(r, \lVert s \rVert)" in dog
    assert r"G + \sum_i g_i^{2}" in dog
    with pytest.raises(ValueError, match="has no form as an equation"):
        latex_of(latex_of)


def test_kernels_of_the_compiler_page_name_every_operation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(DOCS / "_ext"), *sys.path])
    kernels = importlib.import_module("kernels")
    adam = OPTIMIZERS["adam"]
    strong = kernels.graph_text(adam).split("strong, for every number:\n")[1].split("results:")[0]
    operations = [line.strip() for line in strong.splitlines()]
    assert len(operations) == 14
    ir = kernels.llvm_text(adam)
    assert sorted(re.findall(r"fast|; (n\d+ = .*)", ir)) == sorted(operations)
    assert sorted(re.findall(r"= load <16 x double>.*; (\w+)", ir)) == ["g", "m", "v", "x"]
    assert re.findall(r"store <16 x double>.*; (\w+) =", ir) == ["x", "m", "v"]
    body = re.findall(r"const float v(\d+) = (?!a\d)", kernels.cuda_text(adam))
    assert sorted(body) == sorted(re.findall(r"(?m)^n(\d+)", "\n".join(operations)))


def refusals() -> list[tuple[str, str]]:
    """What rules return, and why they are not compiled, as the page on the compiler has it."""
    table = (DOCS / "explanation/compiler.md").read_text("utf-8").split("| A rule that returns |")[1].split("\n\n")[0]
    return re.findall(r"^\| `(.+?)` \| (.+?) \|$", table, re.MULTILINE)


def test_the_compiler_page_lists_refusals() -> None:
    assert len(refusals()) > 8


@pytest.mark.parametrize(("result", "message"), refusals())
def test_refusals_of_the_compiler_page(result: str, message: str) -> None:
    rule = eval(f"lambda xp, x, g, t, lr=0.1: ({result},)", {"np": np})
    with pytest.raises(TraceError) as raised:
        RuleKernel(rule, get_backend("numpy"), frozenset(), frozenset(), 13)
    assert str(raised.value).startswith(message)


PUBLIC = {
    f"{package}.{name}": getattr(importlib.import_module(package), name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
    if not name.startswith("_")
}


def members() -> Iterator[str]:
    """Methods and properties of the public classes. One that overrides another has the docstring of that one."""
    for name, kind in PUBLIC.items():
        for member, value in vars(kind).items() if inspect.isclass(kind) else ():
            is_documented = callable(value) or isinstance(value, property | functools.cached_property | classmethod)
            if is_documented and not member.startswith("_") and not hasattr(kind.__mro__[1], member):
                yield f"{name}.{member}"


# Checks of numpydoc: a docstring and a summary that is one sentence; parameters, their types and meanings; what is
# returned; an example of each function and class. Not among them: capitals and full stops of descriptions (PR08, PR09),
# which are also help texts; a summary may begin with a formula (SS02) or a plural (SS05); "See also" (SA01).
CHECKS = {
    "GL08", "SS01", "SS03", "SS06", "PR01", "PR02", "PR03", "PR04", "PR06", "PR07", "PR10", "RT01", "RT03", "YD01",
}  # fmt: skip


@pytest.mark.parametrize("name", [*PUBLIC, *members()])
def test_docstrings_are_complete(name: str) -> None:
    validation = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed")
    target = PUBLIC.get(name)
    needs_example = target is not None and not (inspect.isclass(target) and issubclass(target, Exception))
    checks = CHECKS | {"EX01"} if needs_example else CHECKS
    if inspect.isclass(target) and issubclass(target, enum.Enum):
        checks = checks - {"PR01"}  # nobody creates members
    assert [error for error in validation.validate(name)["errors"] if error[0] in checks] == []


@pytest.fixture(scope="module")
def names_of_examples() -> dict[str, Any]:
    """What examples use without defining it: packages, and the results that the page of the API names."""
    runs = optbench.compare(["quadratic:dim=5", "rosenbrock"], ["adam", "momentum"], lr=[0.001, 0.01, 0.1], steps=100)
    races = optbench.race("quadratic:dim=5", ["adam", "momentum"], steps=50, rounds=3, fused=False)
    return {"np": np, "optbench": optbench, "reports": optbench.reports, "runs": runs, "races": races}


EXAMPLES = [
    test
    for target, name in {target: name for name, target in PUBLIC.items()}.items()  # `report` has two names
    for test in doctest.DocTestFinder().find(target, name)
    if test.examples
]


@pytest.mark.usefixtures("here", "no_figures_left")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_examples_of_docstrings(
    example: doctest.DocTest, names_of_examples: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    OPTIMIZERS.names()  # what an example registers is forgotten at its end, but not what comes with optbench
    for registered in ("_objects", "_traits"):
        monkeypatch.setattr(OPTIMIZERS, registered, dict(getattr(OPTIMIZERS, registered)))
    example.globs = dict(names_of_examples)
    output: list[str] = []
    with mpl.rc_context({"backend": "Agg"}):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        result = runner.run(example, out=output.append)
    assert result.failed == 0, "".join(output)
