"""A rule and an oracle formula compiled into one loop over steps, without calls of Python between steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optbench.compile.numba import loop
from optbench.compile.rules import FASTMATH, update_line
from optbench.core.specs import parameters, state_names
from optbench.core.trace import Recorder, record_step
from optbench.core.types import Array

FEW_RUNS, MANY_PARAMETERS = 4, 1000  # a fused loop of fewer runs with more parameters is not faster
BLOCK_NUMBERS = 5e9  # most products and sums in a block of steps, for a fraction of a second
STEP_NUMBERS = 20_000  # fixed cost of a step, in products and sums


class FusedLoop:
    """A rule and an oracle compiled together: many steps of all runs in one call. Points are stored as columns, (d, R).

    Parameters
    ----------
    rule : callable
    function, data : callable and tuple
        The oracle formula, see `Problem.oracle_formula`.
    x : array of shape (R, d)
        Start points.
    hyperparameters : mapping
        Numbers by name, in the order of the rule; ``lr`` may be an array of shape (R,).
    factor : callable, optional
        Function of the number of steps taken that returns the factor of the learning rate.
    steps : int
        Steps of every run.
    """

    def __init__(
        self,
        rule: Callable[..., Any],
        function: Callable[..., Any],
        data: tuple[Any, ...],
        x: Array,
        hyperparameters: Mapping[str, Any],
        factor: Callable[[int], float] | None,
        steps: int,
    ) -> None:
        self.rule = rule
        # columns are multiplied by the transpose, which is fastest if its rows are contiguous
        self._data = tuple(np.asfortranarray(part) if np.ndim(part) == 2 else part for part in data)
        self._run = _loop_of_steps(rule, function)
        self._x = np.ascontiguousarray(x.T)  # (d, R)
        self._state = [np.zeros_like(self._x) for _ in state_names(rule)]  # each (d, R)
        self._hyperparameters = [
            np.array(np.broadcast_to(value, (x.shape[0],)), dtype=float) if name == "lr" else float(value)
            for name, value in hyperparameters.items()
        ]
        self._factor, self.steps = factor, steps
        work = x.size * max([x.shape[1] if np.ndim(part) == 2 else 1 for part in self._data] + [20])
        self.max_block = max(1, int(BLOCK_NUMBERS / (work + STEP_NUMBERS)))  # steps

    @property
    def x(self) -> np.ndarray:
        """The iterates, (R, d)."""
        return np.ascontiguousarray(self._x.T)

    def advance(self, first: int, last: int, recorder: Recorder) -> None:
        """Evaluate and record the iterates `first <= t < last`; take a step after each except iterate `steps`."""
        is_checkpoint = np.isin(np.arange(first, last), recorder.t)
        f, best, norms = self._call(first, is_checkpoint, recorder)
        recorder.extend(f=f, best=best, gradient_norm=norms)

    def evaluate(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradient norms at the iterates, each (R,); takes no step."""
        scratch = Recorder(self._x.shape[1], self.steps, np.array([self.steps]), None, stop=False)
        (f,), _, (norms,) = self._call(self.steps, np.ones(1, dtype=bool), scratch)
        return f, norms

    def _call(self, first: int, is_checkpoint: np.ndarray, recorder: Recorder) -> np.ndarray:
        """Evaluate, record and step once for each of `is_checkpoint`.

        Returns value, smallest value and gradient norm at the checkpoints, (3, k, R). Stops once all runs have ended.
        """
        length = len(is_checkpoint)
        curves = np.empty((3, int(is_checkpoint.sum()), recorder.runs))
        factors = np.ones(length)
        if self._factor is not None:
            factors = np.array([self._factor(t) for t in range(first, first + length)])
        common = self._x, curves, is_checkpoint, first, self.steps, factors, recorder.stop, recorder.state, self._data
        count = self._run(*common, *self._state, *self._hyperparameters)
        return curves[:, :count]


@functools.cache
def _loop_of_steps(rule: Callable[..., Any], oracle: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled loop of a rule and an oracle; Numba compiles a version for each combination of data types."""
    from optbench.compile import points

    common = ["x", "_curves", "_is_checkpoint", "_first", "_steps", "_factors", "_stop", "_runs", "_data"]
    lines = [
        f"def run({', '.join([*common, *state_names(rule), *parameters(rule)])}):",
        "    _count = 0",
        "    for _k in range(_is_checkpoint.shape[0]):",
        "        _f, _gradient = _oracle(_points, _points.Points(x), *_data)",
        "        g = _gradient.array",
        "        _record_step(_first + _k, _f, _stop, _runs)",
        "        if _is_checkpoint[_k]:",
        "            _squares, _best = _points.vecdot(_gradient, _gradient), _runs.best",
        "            for _r in range(x.shape[1]):",
        "                _curves[0, _count, _r], _curves[1, _count, _r] = _f[_r], _best[_r]",
        "                _curves[2, _count, _r] = _xp.sqrt(_squares[_r])",
        "            _count += 1",
        "        if _k % 16 == 15 and not _runs.active.any():",
        "            break",
        "        t = float(_first + _k + 1)",
        "        if t <= _steps:",
        "            _factor = _factors[_k]",
        "            for _i in range(x.shape[0]):",
        "                for _r in range(x.shape[1]):",
        f"                    {update_line(rule, '_i, _r', {'lr': 'lr[_r] * _factor'})}",
        "    return _count",
    ]
    formulas = {"_rule": rule, "_oracle": oracle, "_record_step": record_step}
    return loop(f"{rule.__name__}_fused", lines, formulas, FASTMATH, _points=points, _xp=np)
