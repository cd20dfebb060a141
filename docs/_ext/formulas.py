"""Update rules and schedules as LaTeX, read from their code, so that a formula in the catalogue cannot differ from it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

SPECIAL = {name: f"\\{name}" for name in ("alpha", "beta", "gamma", "delta", "eta", "rho", "mu", "tau")} | {
    "eps": r"\varepsilon",
    "l2": r"\mathrm{l2}",  # the weight of a penalty, not the second of several l
}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: r"\le",
    ast.Gt: ">",
    ast.GtE: r"\ge",
    ast.Eq: "=",
    ast.NotEq: r"\ne",
}
SUM, PRODUCT, ATOM = 1, 2, 4  # how tightly a formula binds


def latex_of(function: Callable[..., Any]) -> str:
    """The assignments and the returned value of a function, one equation a line.

    Raises
    ------
    ValueError
        If the function does something that has no form as an equation, such as a loop.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    state = [argument.arg for argument in tree.args.args][4:]
    lines = []
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # the docstring
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            lines.append((_formula(statement.targets[0])[0], _formula(statement.value)[0]))
        elif isinstance(statement, ast.Return) and statement.value is not None:
            lines += _returned(statement.value, state)
        else:
            raise ValueError(f"{type(statement).__name__} has no form as an equation")
    arrow = r" &\leftarrow " if len(lines) > 1 or lines[0][0] else " "
    body = r" \\ ".join(f"{left}{arrow}{right}" for left, right in lines)
    return rf"\begin{{align*}} {body} \end{{align*}}" if len(lines) > 1 else body.replace("&", "")


def _returned(value: ast.expr, state: list[str]) -> list[tuple[str, str]]:
    """Equations of a rule's new point and of state that is computed in the return statement; a schedule's value."""
    if not isinstance(value, ast.Tuple):
        return [("", _formula(value)[0])] if not state else [("x", _formula(value)[0])]
    equations = [("x", _formula(value.elts[0])[0])]
    for name, element in zip(state, value.elts[1:], strict=False):
        if not isinstance(element, ast.Name):
            equations.append((_name(name), _formula(element)[0]))
    return equations


def _formula(node: ast.expr) -> tuple[str, int]:
    """LaTeX of an expression, and how tightly it binds."""
    match node:
        case ast.Name(id=name):
            return _name(name), ATOM
        case ast.Tuple(elts=elements):
            return ", ".join(_formula(element)[0] for element in elements), 0
        case ast.Attribute(attr=name):
            return {"pi": r"\pi"}.get(name, rf"\mathrm{{{_escaped(name)}}}"), ATOM
        case ast.Constant(value=value):
            return f"{value:g}" if isinstance(value, float) else str(value), ATOM
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_bound(operand, PRODUCT)}", SUM
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{_bound(left, SUM)} + {_bound(right, SUM)}", SUM
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return f"{_bound(left, SUM)} - {_bound(right, PRODUCT)}", SUM
        case ast.BinOp(
            left=ast.BinOp(left=left, op=ast.Mult(), right=ast.Name(id=a)), op=ast.Mult(), right=ast.Name(id=b)
        ) if a == b:
            return rf"{_bound(left, PRODUCT)} \, {{{_name(a)}}}^{{2}}", PRODUCT
        case ast.BinOp(left=ast.Name(id=a), op=ast.Mult(), right=ast.Name(id=b)) if a == b:
            return f"{{{_name(a)}}}^{{2}}", PRODUCT
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            between = r" \cdot " if isinstance(right, ast.Constant) else r" \, "
            return f"{_bound(left, PRODUCT)}{between}{_bound(right, PRODUCT)}", PRODUCT
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return rf"\frac{{{_formula(left)[0]}}}{{{_formula(right)[0]}}}", ATOM
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return f"{{{_bound(left, ATOM)}}}^{{{_formula(right)[0]}}}", PRODUCT
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
            return f"{_formula(left)[0]} {OPERATORS[type(op)]} {_formula(right)[0]}", 0
        case ast.Call(func=function, args=arguments):
            return _call(function, arguments)
    raise ValueError(f"{type(node).__name__} has no form as an equation")


def _call(function: ast.expr, arguments: list[ast.expr]) -> tuple[str, int]:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    texts = [_formula(a)[0] for a in arguments if not (isinstance(a, ast.Name) and a.id == "xp")]
    match name, texts:
        case "sqrt", [a]:
            return rf"\sqrt{{{a}}}", ATOM
        case "sum", [a]:  # over the parameters of a run
            return rf"\sum_i {_indexed(arguments[0])}", PRODUCT
        case "vector_norm", [a]:
            return rf"\lVert {a} \rVert", ATOM
        case "abs", [a]:
            return f"|{a}|", ATOM
        case "pow", [a, b]:
            return f"{{{_bound(arguments[0], ATOM)}}}^{{{b}}}", PRODUCT
        case "where", [condition, a, b]:
            return rf"\begin{{cases}} {a} & {condition} \\ {b} & \text{{otherwise}} \end{{cases}}", ATOM
        case (("exp" | "log" | "cos" | "sin" | "tanh" | "max" | "min"), _):
            return rf"\{name}({', '.join(texts)})", ATOM
        case (("maximum" | "minimum"), _):
            return rf"\{name[:3]}({', '.join(texts)})", ATOM
    return rf"\operatorname{{{_escaped(name)}}}({', '.join(texts)})", ATOM


def _indexed(node: ast.expr) -> str:
    """A term of a sum over i: a product of names, each with the index."""
    match node:
        case ast.BinOp(left=ast.Name(id=a), op=ast.Mult(), right=ast.Name(id=b)):
            return f"{_name(a)}_i^{{2}}" if a == b else rf"{_name(a)}_i \, {_name(b)}_i"
    raise ValueError(f"the sum of {ast.unparse(node)} has no form as an equation")


def _bound(node: ast.expr, strength: int) -> str:
    """LaTeX of an operand, in brackets where it binds less tightly than the operator."""
    text, own = _formula(node)
    return text if own >= strength else f"({text})"


def _name(name: str) -> str:
    if name in SPECIAL:
        return SPECIAL[name]
    if match := re.fullmatch(r"([a-zA-Z]+?)_?(\d+)", name):
        return f"{_name(match[1])}_{{{match[2]}}}"
    if name.endswith("_hat"):
        return rf"\hat{{{_name(name.removesuffix('_hat'))}}}"
    head, _, tail = name.partition("_")
    if len(head) == 1 and tail:
        return rf"{head}_{{\mathrm{{{_escaped(tail)}}}}}"
    return name if len(name) == 1 else rf"\mathrm{{{_escaped(name)}}}"


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")
