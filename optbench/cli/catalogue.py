"""What is declared of a registered object, as text: the same in `optbench list NAME` and in the catalogue of the docs."""

from __future__ import annotations

import inspect
import re
from typing import Any

from optbench.core.registry import OPTIMIZERS, PROBLEMS, Registry
from optbench.core.specs import Parameter, format_value, parameters
from optbench.core.types import Oracle
from optbench.optimizer import make_recipe
from optbench.optimizers.schedules import schedule_parameters
from optbench.problem import make_problem

ORACLES = {
    Oracle.VALUE: "the value at a point",
    Oracle.GRADIENT: "the value and the gradient at a point",
    Oracle.HESSIAN: "the value, the gradient and the Hessian at a point",
}
EQUIVARIANCES = {
    "rotation": "rotations of x",
    "flip": "permutations and sign changes of coordinates",
    "shift": "shifts of x",
    "affine": "affine maps of x",
    "scale": "multiplying f by a constant (at eps = 0)",
}
# of parameters that have one meaning in all rules and schedules of optbench
MEANINGS = {
    "lr": "learning rate",
    "beta": "decay rate of the momentum",
    "beta1": "decay rate of the average of gradients",
    "beta2": "decay rate of the average of squared gradients",
    "rho": "decay rate of the average of squared gradients",
    "eps": "small number that keeps a denominator from being zero",
    "l2": "weight of the penalty l2/2 |x|^2 whose gradient is added to g",
    "weight_decay": "rate at which x shrinks, times the learning rate",
    "r_eps": "length of the first step",
    "scale": "standard deviation of the Gaussian steps",
    "memory": "number of stored pairs",
    "at": "fractions of all steps at which the factor drops",
    "factor": "what the learning rate is multiplied by at each drop",
    "final": "factor at the end",
    "shift": "steps after which the factor has fallen to 0.71",
    "warmup": "linear warm-up, as a fraction of all steps",
    "warmup_steps": "linear warm-up, as a number of steps",
}


def facts(registry: Registry, name: str) -> dict[str, str]:
    """Labels and texts that describe a problem with default parameters, or an optimizer; empty for a schedule."""
    if registry is PROBLEMS:
        return _problem_facts(make_problem(name))
    return _optimizer_facts(name) if registry is OPTIMIZERS else {}


def _problem_facts(problem: Any) -> dict[str, str]:
    optimum, smoothness, mu = problem.optimum, problem.smoothness, problem.strong_convexity
    return {
        "Dimension d": f"{problem.dim}",
        "Samples": f"{problem.n_samples}" if problem.n_samples else "no finite sum, so no mini-batches",
        "Optimum f*": "not known" if optimum is None else f"{optimum.f:.12g} ({optimum.method})",
        "Smoothness L": "unknown" if smoothness is None else f"{smoothness:.6g}",
        "Strong convexity": "not convex" if mu is None else f"{mu:.6g}",
        "Metrics": ", ".join(metric.name for metric in problem.metric_types if metric.better) or "none",
        "Source": problem.citation,
    }


def _optimizer_facts(name: str) -> dict[str, str]:
    recipe = make_recipe(name)
    traits = recipe.traits
    special_cases = (f"{settings} is {spec}" for settings, spec in traits.special_cases.items())
    return {
        "An oracle call": ORACLES[recipe.kind.oracle],
        "Mini-batches": "no: values of different points are compared" if traits.full_batch else "yes",
        "Unchanged by": "; ".join(EQUIVARIANCES[change] for change in traits.equivariances) or "nothing that is tested",
        "Special cases": "; ".join(special_cases) or "none declared",
    }


def parameter_rows(registry: Registry, name: str) -> list[tuple[str, str, str, str]]:
    """Name, default, allowed values and meaning of every parameter."""
    target = registry[name]
    if registry is OPTIMIZERS:
        declared = make_recipe(name).declared
    else:
        declared = parameters(target) if registry is PROBLEMS else schedule_parameters(name)
    common = MEANINGS if target.__module__.startswith("optbench.") else {}
    documented = common | _documented(inspect.getdoc(target) or "")
    return [(p.name, format_value(p.default), _allowed(p), documented.get(p.name, "")) for p in declared.values()]


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    kind = getattr(parameter.type, "__name__", str(parameter.type))
    words = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}.get(kind, "numbers")
    return f"{words} {parameter.range}" if parameter.range else words


def _documented(docstring: str) -> dict[str, str]:
    """The descriptions in the section Parameters of a docstring."""
    _, _, section = docstring.partition("Parameters\n----------\n")
    section = re.split(r"\n\w[\w ]*\n---", section)[0]
    entries = re.findall(r"^(\w[\w, ]*) : .*\n((?:    .*\n?|\n)+)", section + "\n", re.MULTILINE)
    return {name: " ".join(text.replace("`", "").split()) for names, text in entries for name in names.split(", ")}
