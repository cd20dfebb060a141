"""A rule and an oracle compiled together into one loop over steps, which leaves nothing to be called between them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optbench.compile.numba import loop
from optbench.compile.rules import FASTMATH, OF_RULE, state_arrays, state_names, update_line
from optbench.core.specs import parameters
from optbench.core.trace import Record, note
from optbench.core.types import Array

FEW_RUNS, MANY_PARAMETERS = 4, 1000  # so few runs of so many parameters gain nothing from columns
BLOCK_NUMBERS = 5e9  # products and sums of a block of steps, at most: a fraction of a second
STEP_NUMBERS = 20_000  # what a step costs besides, in the same unit


class Together:
    """A rule and an oracle compiled together: many steps of all runs in one call. Points are columns, (d, R).

    Parameters
    ----------
    rule : callable
    text : tuple
        The oracle's text and data, see `Problem.text`.
    x : array of shape (R, d)
        Start points.
    lr : array of shape (R,), or None
        Learning rates, for a rule that has one.
    numbers : mapping
        The other hyperparameters.
    factor : callable, optional
        Factor on the learning rate by the number of steps already taken.
    steps : int
        Steps of every run.
    """

    def __init__(
        self,
        rule: Callable[..., Any],
        text: tuple[Callable[..., Any], tuple[Any, ...]],
        x: Array,
        lr: np.ndarray | None,
        numbers: Mapping[str, float],
        factor: Callable[[int], float] | None,
        steps: int,
    ) -> None:
        function, data = text
        self.rule = rule
        # columns are multiplied by a transpose, which is fastest where its rows lie contiguous in memory
        self._data = tuple(np.asfortranarray(part) if np.ndim(part) == 2 else part for part in data)
        self._run = _loop_of_steps(rule, function, lr is not None)
        self._x = np.ascontiguousarray(x.T)  # (d, R)
        self._state = [np.zeros_like(self._x) for _ in state_names(rule)]  # each (d, R)
        self._hyperparameters = ([] if lr is None else [np.array(lr, dtype=float)]) + list(numbers.values())
        self._factor, self.steps = factor, steps
        work = x.size * max([x.shape[1] if np.ndim(part) == 2 else 1 for part in self._data] + [20])
        self.longest = max(1, int(BLOCK_NUMBERS / (work + STEP_NUMBERS)))  # steps of a block

    @property
    def x(self) -> np.ndarray:
        """The iterates, (R, d)."""
        return np.ascontiguousarray(self._x.T)

    def advance(self, first: int, last: int, record: Record) -> None:
        """Evaluate the iterates `first <= t < last` and record them, stepping after each but the last of all."""
        marked = np.isin(np.arange(first, last), record.t)
        f, best, norms = self._go(first, marked, record)
        record.extend(f=f, best=best, gradient_norm=norms)

    def look(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient norms at the iterates, each (R,), without a step."""
        scratch = Record(self._x.shape[1], self.steps, np.array([self.steps]), None, stop=False)
        scratch.begin(np.zeros(scratch.runs))
        (f,), _, (norms,) = self._go(self.steps, np.ones(1, dtype=bool), scratch)
        return f, norms

    def _go(self, first: int, marked: np.ndarray, record: Record) -> np.ndarray:
        """Evaluate, record and step once for each of `marked`; value, smallest value and gradient norm where it is true.

        Ends early, with fewer of those, once all runs have ended.
        """
        length = len(marked)
        noted = np.empty((3, int(marked.sum()), record.runs))
        factors = np.ones(length)
        if self._factor is not None:
            factors = np.array([self._factor(t) for t in range(first, first + length)])
        given = self._x, noted, marked, first, self.steps, factors, record.stop, record.arrays, self._data
        count = self._run(*given, *self._state, *self._hyperparameters)
        return noted[:, :count]


@functools.cache
def _loop_of_steps(rule: Callable[..., Any], oracle: Callable[..., Any], has_lr: bool) -> Callable[..., Any]:
    """The compiled loop of a rule and an oracle; data of other types make Numba compile another version of it."""
    from optbench.compile import points as columns

    given = {name: "lr[r] * factor" if name == "lr" else None for name in parameters(rule)}
    others = [OF_RULE + name for name in given if name != "lr"]
    arguments = ["x", "noted", "marked", "first", "steps", "factors", "stop", "held", "data", *state_arrays(rule)]
    lines = [
        f"def run({', '.join([*arguments, *(['lr'] if has_lr else []), *others])}):",
        "    mark = 0",
        "    for k in range(marked.shape[0]):",
        "        f, points = oracle(columns, columns.Columns(x), *data)",
        "        g = points.array",
        "        note(first + k, f, stop, *held)",
        "        if marked[k]:",
        "            squares, best = columns.vecdot(points, points), held[2]",
        "            for r in range(x.shape[1]):",
        "                noted[0, mark, r], noted[1, mark, r], noted[2, mark, r] = f[r], best[r], np.sqrt(squares[r])",
        "            mark += 1",
        "        if k % 16 == 15 and not held[0].any():",
        "            break",
        "        t = float(first + k + 1)",
        "        if t <= steps:",
        "            factor = factors[k]",
        "            for i in range(x.shape[0]):",
        "                for r in range(x.shape[1]):",
        f"                    {update_line(rule, 'i, r', given)}",
        "    return mark",
    ]
    return loop(
        f"{rule.__name__}_together", lines, {"rule": rule, "oracle": oracle, "note": note}, FASTMATH, columns=columns
    )
