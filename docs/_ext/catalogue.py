"""The catalogue: a page each for problems, optimizers and schedules, written from the registries before Sphinx reads.

An entry shows what its registration declares, its code or formula, and a picture of what it does. The pages and pictures
are made in ``docs/reference/catalogue``; they are not part of the repository.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from formulas import latex_of
from sphinx.application import Sphinx
from sphinx.config import Config

import optbench
from optbench import reports
from optbench.cli.catalogue import facts, parameter_rows
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.optimizers.schedules import make_schedule

STEP_SIZES = (1e-3, 1e-2, 1e-1, 1.0)
METHODS = ("gradient_descent", "momentum", "adam", "lbfgs")
PROBLEMS_PAGE = """
Make a problem by its name: ``optbench.make_problem("quadratic:dim=10")``, or ``--problem quadratic:dim=10`` on the command
line. Values below hold for the defaults.
"""
OPTIMIZERS_PAGE = """
Each formula is generated from the code shown below it. In all rules x is the point, g the gradient there and t the number
of the step, counted from 1; other letters are state that starts at zero.
"""
SCHEDULES_PAGE = """
A schedule is a factor on the learning rate; t is the number of steps already taken and T the number of all steps. With
``warmup`` the factor first rises linearly, over that fraction of all steps, or over ``warmup_steps`` steps.
"""
HEADER = ".. This page is generated from the registries by docs/_ext/catalogue.py.\n"


def write(app: Sphinx, config: Config) -> None:
    folder = Path(app.srcdir) / "reference" / "catalogue"
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    pages = {
        "problems": (_problem, PROBLEMS, PROBLEMS_PAGE),
        "optimizers": (_optimizer, OPTIMIZERS, OPTIMIZERS_PAGE),
        "schedules": (_schedule, SCHEDULES, SCHEDULES_PAGE),
    }
    for title, (entry, registry, introduction) in pages.items():
        names = [name for name in registry.names() if registry.plugin_of(name) in (None, "optbench")]
        parts = [heading(title.capitalize(), "="), introduction.strip()]
        parts += [part for name in names for part in [f".. _{title[:-1]}-{name}:", *entry(name, folder)]]
        write_if_changed(folder / f"{title}.rst", HEADER + "\n" + "\n\n".join(parts) + "\n")


def _problem(name: str, folder: Path) -> Iterable[str]:
    problem = optbench.make_problem(name)
    kind = type(problem)
    yield heading(name, "-")
    formula, _, remark = re.sub(r"[;,] (?=\w+ (?:\w|>))", "\n", problem.formula, count=1).partition("\n")
    yield _math(_tex(formula))
    if remark:
        yield f"{escaped(remark[0].upper() + remark[1:])}."
    yield _fields(facts(PROBLEMS, name))
    yield _parameter_table(PROBLEMS, name)
    optimizers = [optimizer for optimizer in METHODS if optimizer != "lbfgs" or problem.dim <= 2000]
    runs = optbench.compare(problem, optimizers, lr=STEP_SIZES, seeds=1, steps=200, progress=False)
    if problem.view is not None:
        reports.paths(runs, columns=4)
        caption = (
            "Paths of four optimizers from the same start, each at its best of four learning rates. The ring is the "
            "start, the dot the end, and a cross a global minimizer."
        )
    else:
        reports.convergence(runs)
        caption = "Smallest value found by four optimizers, each at its best of four learning rates. Lower is better."
    yield _picture(folder, f"problem-{name}", caption, f"Optimizers on {name}")
    yield f".. autoclass:: {kind.__module__}.{kind.__qualname__}\n   :no-members:"


def _optimizer(name: str, folder: Path) -> Iterable[str]:
    recipe = optbench.make_recipe(name)
    yield heading(name, "-")
    yield escaped(_first_paragraph(recipe.target))
    if inspect.isfunction(recipe.target):
        with contextlib.suppress(ValueError):  # the code below says it then
            yield _math(latex_of(recipe.target))
    yield _fields(facts(OPTIMIZERS, name))
    yield _parameter_table(OPTIMIZERS, name)
    problem = "valley:condition=20"
    settings: dict[str, Any] = {recipe.kind.step_size: STEP_SIZES} if recipe.kind.step_size else {}
    reports.paths(optbench.sweep(problem, name, **settings, seeds=1, steps=200), columns=1)
    tuned = ", at the best of four step sizes" if settings else ""
    caption = f"The path of ``{name}`` over ``{problem}`` in at most 200 steps{tuned}."
    yield _picture(folder, f"optimizer-{name}", caption, f"Path of {name} over a valley", width="16rem")
    code = _code(recipe.target) if inspect.isfunction(recipe.target) else ""
    if code:
        yield code
    else:
        yield f".. autoclass:: {recipe.target.__module__}.{recipe.target.__qualname__}\n   :no-members:"


def _schedule(name: str, folder: Path) -> Iterable[str]:
    function = SCHEDULES[name]
    yield heading(name, "-")
    yield escaped(_first_paragraph(function))
    with contextlib.suppress(ValueError):  # the code below says it then
        yield _math(rf"\mathrm{{factor}}(t) = {latex_of(function)}")
    yield _parameter_table(SCHEDULES, name)
    _, ax = plt.subplots(figsize=(5, 2.2), layout="constrained")
    t = np.arange(1000)
    for spec, style in ((name, "-"), (f"{name}:warmup=0.1", "--")):
        factor = make_schedule(spec)[1]
        ax.plot(t, [factor(int(step), len(t)) for step in t], style, label=spec)
    ax.set(title=f"{name}: factor on the learning rate", xlabel="steps taken", ylabel="factor", ylim=(0, 1.05))
    ax.legend(frameon=False)
    caption = "The factor over 1000 steps, with defaults (solid) and after a warm-up of 100 steps (dashed)."
    yield _picture(folder, f"schedule-{name}", caption, f"The schedule {name}", width="32rem")
    yield _code(function)


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}"


def _math(latex: str) -> str:
    return f".. math::\n\n   {latex}"


def _fields(described: dict[str, str]) -> str:
    return "\n".join(f":{label}: {escaped(text)}" for label, text in described.items() if text)


def _parameter_table(registry: Registry, name: str) -> str:
    rows = parameter_rows(registry, name)
    if not rows:
        return "It has no parameters."
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", "", "   * - parameter", "     - default"]
    lines += ["     - allowed", "     - meaning"]
    for parameter, default, allowed, meaning in rows:
        lines += [f"   * - ``{parameter}``", f"     - {escaped(default) or '(empty)'}"]
        lines += [f"     - {escaped(allowed)}", f"     - {escaped(meaning)}"]
    return "\n".join(lines)


def _code(function: Any) -> str:
    return ".. code-block:: python\n\n" + textwrap.indent(inspect.getsource(function).rstrip(), "   ")


def _picture(folder: Path, name: str, caption: str, alt: str, width: str = "100%") -> str:
    path = folder / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": name}):
        plt.gcf().savefig(path, metadata={"Date": None})
    plt.close("all")
    return f".. figure:: {path.name}\n   :alt: {alt}\n   :width: {width}\n   :class: picture\n\n   {caption}"


def _first_paragraph(target: Any) -> str:
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())


def _tex(formula: str) -> str:
    """LaTeX of a plain formula of a problem: names of several letters upright, fractions of numbers small."""
    tex = re.sub(r"\*(?=[\s)]|$)", "^*", formula).replace("^T", r"^\top ")
    tex = re.sub(r"(?<![\w\\])(lambda|sum)(_\w)", r"\\\1\2 ", tex)
    tex = re.sub(r"(?<![\\\w{])([a-zA-Z]{2,})", lambda m: rf"\mathrm{{{m[1]}}}", tex)
    tex = re.sub(r"\b([Wx])(\d)\b", r"\1_\2", tex)
    return re.sub(r"(?<![\w.])(\d)/(\d)(?!\d)", r"\\tfrac{\1}{\2}", tex)


def escaped(text: str) -> str:
    """Plain text in reStructuredText."""
    return re.sub(r"([*|`\\]|_(?=\W|$))", r"\\\1", text)


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", write)  # before Sphinx and autosummary look for pages
    return {"parallel_read_safe": True}
