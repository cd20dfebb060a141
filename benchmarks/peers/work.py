"""The work that all contenders do: problem, starts, batches and hyperparameters, as plain NumPy arrays.

Everything is taken from optbench once, so that contenders differ in nothing but how they compute.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from optbench.core.backend import get_backend
from optbench.core.random import Batches
from optbench.problem import Problem
from problems import MLP, Logistic, Quadratic

BETA, BETA1, BETA2, EPS = 0.9, 0.9, 0.999, 1e-8  # of momentum and Adam, for all contenders


class Result(NamedTuple):
    """The result of a contender, which is checked before timing."""

    values: np.ndarray | None  # objective (or that of the mini-batch) at every iterate before a step, (T, R)
    x: np.ndarray  # last iterates, (R, d)


@dataclass(frozen=True, eq=False)
class Work:
    """A sweep: R = S L runs, seed by seed, of T steps each.

    With mini-batches, everyone also computes the full objective at the first and the last iterate, as optbench does.
    """

    title: str
    problem: Problem
    rule: str
    rates: tuple[float, ...]  # L learning rates
    seeds: tuple[int, ...]
    steps: int
    batch: int | None = None

    @property
    def runs(self) -> int:
        return len(self.rates) * len(self.seeds)

    @functools.cached_property
    def x0(self) -> np.ndarray:
        """Start points, (R, d): one per seed, shared by its learning rates."""
        return np.repeat(self.problem.starts(self.seeds), len(self.rates), axis=0)

    @functools.cached_property
    def lr(self) -> np.ndarray:
        """Learning rates, (R,)."""
        return np.tile(self.rates, len(self.seeds))

    @functools.cached_property
    def samples(self) -> np.ndarray | None:
        """Sample numbers, (T, S, b)."""
        if self.batch is None:
            return None
        assert self.problem.n_samples is not None
        return Batches(self.seeds, self.problem.n_samples, self.batch).draw(0, self.steps)

    @property
    def data(self) -> tuple[np.ndarray, ...]:
        """Data of the objective: (center, matrix), (rows times labels,) or (inputs, targets)."""
        problem = self.problem
        if isinstance(problem, Quadratic):
            return np.asarray(problem.center), np.asarray(problem.H)
        if isinstance(problem, Logistic):
            return (np.asarray(problem.Z),)
        assert isinstance(problem, MLP)
        return problem.X, np.eye(problem.sizes[-1])[problem.y]

    @property
    def l2(self) -> float:
        return getattr(self.problem, "l2", 0.0)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the parameters, as is usual in the other libraries."""
        if isinstance(self.problem, MLP):
            p, h, q = self.problem.sizes
            return (h, p), (h,), (q, h), (q,)
        return ((self.problem.dim,),)

    def parts(self, x: np.ndarray) -> list[np.ndarray]:
        """Points (..., d) split into parameters of these shapes."""
        edges = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        return [
            part.reshape(*x.shape[:-1], *shape) for part, shape in zip(np.split(x, edges, -1), self.shapes, strict=True)
        ]

    def joined(self, parts: list[np.ndarray]) -> np.ndarray:
        """Points (R, d) from parameters (R, ...)."""
        return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=-1)

    def cut(self, steps: int) -> Work:
        """The same work for fewer steps."""
        return dataclasses.replace(self, steps=min(steps, self.steps))


def deviation(result: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference relative to the largest number of its row."""
    size = np.max(np.abs(reference), axis=-1, keepdims=True) + 1e-300
    return float(np.max(np.abs(result - reference) / size))


def works(quick: bool) -> list[Work]:
    """The sweeps that are compared; in quick form small enough for a test."""
    fused = get_backend("numpy", fused=True)  # always compiled, because compile time is not included
    seeds, count = tuple(range(2 if quick else 10)), 3 if quick else 10
    rows, columns = (500, 19) if quick else (10_000, 99)
    cases: list[tuple[str, Problem, str, float, float, int, int | None]] = []
    for dim, steps in ((10, 20_000), (100, 5000), (1000, 200))[: 2 if quick else 3]:
        quadratic = Quadratic(dim=dim).on(fused)
        cases.append((f"quadratic d={dim}", quadratic, "momentum", 1e-2, 1.0, steps, None))
        cases.append((f"quadratic d={dim}", quadratic, "adam", 1e-3, 1e-1, steps, None))
    logistic = Logistic(data="synthetic", rows=rows, columns=columns, l2=1e-3).on(fused)
    shape = f"n={rows} d={logistic.dim}"
    cases.append((f"logistic {shape}, full batch", logistic, "momentum", 1e-2, 1.0, 60, None))
    cases.append((f"logistic {shape}, batch 128", logistic, "momentum", 1e-3, 1e-1, 1000, 128))
    mlp = MLP(data="digits", hidden=(4 if quick else 32,)).on(fused)
    shape = "-".join(map(str, mlp.sizes))
    cases.append((f"MLP {shape}, batch 128", mlp, "momentum", 1e-3, 1e-1, 300, 128))
    cases.append((f"MLP {shape}, batch 128", mlp, "adam", 1e-4, 1e-2, 300, 128))
    sweeps = []
    for title, problem, rule, low, high, steps, batch in cases:
        rates = tuple(np.geomspace(low, high, count).tolist())
        sweeps.append(Work(f"{title}, {rule}", problem, rule, rates, seeds, 20 if quick else steps, batch))
    return sweeps
