"""The graph of a rule, and its code, as text for the page on the compiler. All of it is printed by the compiler itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from optbench.compile import cuda, steps
from optbench.compile.graph import Graph, Node
from optbench.compile.rules import trace_step
from optbench.compile.steps import Steps
from optbench.core.registry import OPTIMIZERS

SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**"}
INSTRUCTIONS = {"fadd": "add", "fsub": "subtract", "fmul": "multiply", "fdiv": "divide"}
LEAVES = ("input", "number", "column", "const")


def traced(rule: Callable[..., Any], precision: str = "float64", axis: str = "i", swept: tuple[str, ...] = ()) -> Steps:
    """A step of a rule for any number of parameters."""
    return trace_step(rule, Graph(precision), axis, swept)


def name_of(node: Node) -> str:
    return str(node.value).lstrip(".") if node.op in LEAVES else f"n{node.id}"


def formula_of(node: Node, *, deep: bool = False) -> str:
    """A node in terms of its arguments, or if `deep` of inputs and numbers."""
    names = [formula_of(a, deep=True) if deep and a.op not in LEAVES else name_of(a) for a in node.args]
    return f" {SIGNS[node.op]} ".join(names) if node.op in SIGNS else f"{node.op}({', '.join(names)})"


def source_text(rule: Callable[..., Any]) -> str:
    """The definition of a rule, without its decorator."""
    lines = inspect.getsource(rule).splitlines()
    return "\n".join(lines[next(k for k, line in enumerate(lines) if line.startswith("def ")) :])


def graph_text(rule: Callable[..., Any]) -> str:
    """The operations of a rule by how often they are computed, and its results."""
    step = traced(rule)
    operations = [n for n in step.graph.nodes if n.op not in LEAVES]
    parts = {
        "weak, the same in all steps": [n for n in operations if n.weak and not n.stepwise],
        "weak, once in a step": [n for n in operations if n.stepwise],
        "strong, for every number": [n for n in operations if not n.weak],
    }
    lines = []
    for title, part in parts.items():
        lines += [f"{title}:", *(f"    {name_of(n)} = {formula_of(n)}" for n in part)]
    results = [f"    {name_of(step.arrays[key])} = {name_of(node)}" for key, node in step.results.items()]
    return "\n".join([*lines, "results:", *results])


def llvm_text(rule: Callable[..., Any]) -> str:
    """The loop over whole vectors in the IR of a rule, with the nodes of the graph as comments."""
    writer = steps.StepWriter(traced(rule), 0, vector_bytes=32)
    lines = list(commented(writer))
    body = next(k for k, line in enumerate(lines) if re.search(r"= load <\d+ x double>", line))
    first = max(k for k in range(body) if lines[k].endswith(".head:"))
    last = next(k for k in range(body, len(lines)) if lines[k].startswith("  br label"))
    return "\n".join(lines[first : last + 1])


def commented(writer: steps.StepWriter) -> Iterator[str]:
    """The lines of the IR; those that compute a node of the graph, load a number or store one say which."""
    graph, arrays = writer.steps.graph, writer.steps.arrays
    slots = [graph.nodes[k] for k in writer.slots]
    known: dict[str, Any] = {}  # by register: the node of its value, or the argument to which its address belongs
    for line in writer.text().splitlines():
        comment, match = "", re.fullmatch(r"  (?:(%\w+) = )?(\w+) (.*)", line)
        register, instruction, rest = match.groups() if match else ("", "", "")
        operands = re.findall(r"%v\d+", rest)
        meant: list[Any] = [known.get(operand) for operand in operands]
        if "%arguments" in rest:
            known[register] = int(rest.split()[-1])
        elif instruction == "getelementptr":
            is_slot = isinstance(meant[0], int) and meant[0] == steps.TABLE and not rest.split()[-1].startswith("%")
            known[register] = slots[int(rest.split()[-1])] if is_slot else meant[0]
        elif instruction == "load" and "double" in rest and isinstance(meant[0], int):
            known[register] = list(arrays.values())[meant[0] - steps.POINTERS]
        elif instruction in ("load", "insertelement", "shufflevector"):
            known[register] = next((m for m in meant if m is not None), None)
        elif instruction == "store" and all(m is not None for m in meant) and isinstance(meant[0], Node):
            comment = f"{name_of(list(arrays.values())[meant[1] - steps.POINTERS])} = {name_of(meant[0])}"
        elif instruction in INSTRUCTIONS or "@llvm." in rest:
            op = INSTRUCTIONS.get(instruction) or rest.split("@llvm.")[1].split(".")[0]
            ids = [id(m) for m in meant]  # because nodes that are compared become another node
            known[register] = next((n for n in graph.nodes if n.op == op and [id(a) for a in n.args] == ids), None)
        value = known.get(register) if register else None
        if isinstance(value, Node) and instruction not in ("getelementptr", "shufflevector"):
            is_new = value.op not in LEAVES and instruction != "insertelement"
            comment = f"{name_of(value)} = {formula_of(value)}" if is_new else name_of(value)
        yield f"{line}  ; {comment}" if comment else line


def cuda_text(rule: Callable[..., Any]) -> str:
    """What NVRTC compiles for a rule in float32 with one learning rate for each run, with the values of its arguments."""
    step = traced(rule, "float32", "d", ("lr",))
    arrays, results = list(step.arrays.values()), list(step.results.values())
    kernel = cuda.Kernel(rule.__name__, "rd", arrays, results, range(1, len(arrays)))
    weak = {name: step.graph.nodes[k] for values in (kernel.columns, kernel.numbers) for (k, _), name in values.items()}
    meaning = [f"// {name}: {name_of(n) if n.op in LEAVES else formula_of(n, deep=True)}" for name, n in weak.items()]
    head, *body = kernel.text.splitlines()
    head = re.sub(r"(.{50,80},) ", r"\1\n        ", head)
    return cuda.HEADER + "\n".join([*meaning, head, *body])


TEXTS = {
    "source": (source_text, "python"),
    "graph": (graph_text, "text"),
    "llvm": (llvm_text, "llvm"),
    "cuda": (cuda_text, "cuda"),
}


class Kernel(Directive):  # type: ignore[misc]  # docutils has no types
    """``kernel:: llvm adam``: a text of `TEXTS` for a registered rule."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        kind, rule = self.arguments
        text_of, language = TEXTS[kind]
        text = text_of(OPTIMIZERS[rule])
        return [nodes.literal_block(text, text, language=language)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("kernel", Kernel)
    return {"parallel_read_safe": True}
