"""Loops over steps as LLVM IR: equal digits in every layout, strict arithmetic in the precision of the arrays."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

from optbench.compile import fused_loop as fusing
from optbench.compile import llvm
from optbench.compile import steps as printing
from optbench.compile.fused_loop import FusedLoop
from optbench.compile.graph import Graph, TraceError, X
from optbench.compile.rules import RuleKernel
from optbench.core.backend import PRECISIONS, get_backend
from optbench.core.registry import OPTIMIZERS
from optbench.core.specs import parameters
from optbench.problem import Problem, make_problem
from tests.rules import STATE_PER_RUN, UNKNOWN, restarted

RULES = {name: OPTIMIZERS[name] for name in OPTIMIZERS.names() if inspect.isfunction(OPTIMIZERS[name])}
PER_RUN = {name: OPTIMIZERS.traits(name).per_run for name in RULES}
RULES |= {rule.__name__: rule for rule in UNKNOWN if rule is not restarted}
PER_RUN |= {rule.__name__: STATE_PER_RUN.get(rule, ()) for rule in UNKNOWN}


def loop_of(problem: Problem, rule: str, precision: str, runs: int, swept: bool = False) -> FusedLoop:
    problem = problem.on(get_backend("numpy", precision=precision))
    target = RULES[rule]
    settings: dict[str, Any] = {name: p.default for name, p in parameters(target).items()}
    if swept and "lr" in settings:
        settings["lr"] = np.linspace(1e-3, 0.3, runs)
    return FusedLoop(problem, target, problem.starts(range(runs)), settings, None, PER_RUN[rule])


def results(loop: FusedLoop, count: int = 30) -> list[np.ndarray]:
    """f, best values, gradient norms and iterates of all steps."""
    marks = np.ones(count, dtype=bool)
    with np.errstate(all="ignore"):
        return list(loop.advance(0, count, marks, marks))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("rosenbrock:dim=3", "adam"),
        ("rosenbrock:dim=20", "adam"),
        ("strict_saddle:dim=27", "dog"),
        ("styblinski_tang:dim=150", "gathered"),
        ("quadratic:dim=7", "adam"),
        ("quadratic:dim=19", "momentum"),
        ("quadratic:dim=35,rotate=false", "sums_of_state"),
    ],
)
def test_layouts_and_vector_widths_give_equal_digits(
    spec: str, rule: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = make_problem(spec)
    expected = results(loop_of(problem, rule, precision, 5, swept=True))
    write: Any = printing.write_module
    texts = set()
    for lanes, vector_bytes in [(0, 16), (0, 64), (1, 32), (2, 16), (4, 64), (8, 32), (16, 16)]:
        with monkeypatch.context() as patch:
            patch.setattr(fusing, "_lanes", lambda *args, lanes=lanes, **more: lanes)
            patch.setattr(printing, "write_module", lambda *args, b=vector_bytes: write(*args[:-1], b))
            loop = loop_of(problem, rule, precision, 5, swept=True)
        texts.add(loop.ir)
        for name, a, b in zip(("f", "best", "norms", "x"), expected, results(loop), strict=True):
            np.testing.assert_array_equal(b, a, err_msg=f"{name}, {lanes} lanes, {vector_bytes} bytes")
    assert len(texts) >= 6


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_best_value_is_the_smallest_finite_one(precision: str) -> None:
    for dim in (2, 20):
        loop = loop_of(make_problem(f"rosenbrock:dim={dim}"), "nesterov", precision, 3, swept=True)
        parts = [results(loop, 7) for _ in range(8)]
        f, best = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        assert not np.isfinite(f).all()
        np.testing.assert_array_equal(best, np.minimum.accumulate(np.where(np.isfinite(f), f, np.inf)))


FAST = r"\b(fast|contract|reassoc|arcp|nnan|ninf|nsz|afn|fmuladd)\b"


def functions(ir: str) -> dict[str, str]:
    """The bodies of the functions of a module."""
    return dict(re.findall(r"^define void @(\w+)\(.*?\{$(.*?)^\}$", ir, re.M | re.S))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("rule", RULES)
def test_kernels_are_strict_and_keep_their_precision(
    rule: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm, "machine_code", lambda ir, names: (None,) * len(names))  # only the text is read
    backend = get_backend("numpy", precision=precision)
    texts: list[Any] = [
        getattr(v, "ir", "")
        for v in RuleKernel(RULES[rule], backend, frozenset(), frozenset(PER_RUN[rule]), 20).variants
    ]
    texts += [loop_of(make_problem(f"rosenbrock:dim={dim}"), rule, precision, 4).ir for dim in (3, 20)]
    for ir in texts:
        assert not re.search(FAST, ir)
        body = functions(ir)["steps"]
        arithmetic = re.findall(r"= (?:fadd|fsub|fmul|fdiv|frem|fneg|call) .*\bdouble\b", body)
        if precision == "float64":
            assert arithmetic
        else:  # weak numbers are computed elsewhere and rounded here; values and squared norms are widened
            assert not arithmetic
            assert body.count("fpext") == 2 * (ir != texts[0])


def test_optimized_code_does_not_fuse_products_with_sums() -> None:
    """fma is an instruction of its own, which only products with matrices and elementary functions use."""
    ir = loop_of(make_problem("rosenbrock:dim=3"), "adam", "float64", 16).ir
    assert "fma" not in ir
    assembly = assembly_of(ir)
    assert re.search(r"\bv?mulpd\b|\bfmul\b", assembly)
    assert not re.search(r"\bvf(n?madd|n?msub)\w*\b|\bfml[as]\b", assembly)
    assert "fma" in loop_of(make_problem("quadratic:dim=3"), "adam", "float64", 16).ir


def assembly_of(ir: str) -> str:
    """What LLVM makes of IR for this processor."""
    import llvmlite.binding as binding

    target = llvm._target()
    module = binding.parse_assembly(ir)
    builder = binding.create_pass_builder(target, binding.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    text: str = target.emit_assembly(module)
    return text


def test_a_rule_that_reads_other_parameters_is_refused() -> None:
    graph = Graph("float64")
    x, g = graph.input(X, ("r", 20)), graph.input(".g", ("r", 20))
    moved = x - graph.concat([g[..., 1:], g[..., :1]], axis=-1)
    steps = printing.Steps(graph, {X: x, ".g": g}, {X: moved}, dim=20)
    with pytest.raises(TraceError, match="computes x from other parameters"):
        printing.write_module(steps, [], 0, 64)


def test_results_must_have_the_shapes_of_what_they_replace() -> None:
    graph = Graph("float64")
    x = graph.input(X, ("r", 3))
    for result in (graph.sum(x, axis=-1, keepdims=True), graph.number("lr")):
        with pytest.raises(TraceError, match=r"returns x of shape .* instead of \('r', 3\)"):
            printing.Steps(graph, {X: x}, {X: result})
    with pytest.raises(TraceError, match=r"returns a value and a gradient of shapes \('r', 3\) and \('r', 3\)"):
        printing.Steps(graph, {X: x}, {X: x}, x, x, 3)
