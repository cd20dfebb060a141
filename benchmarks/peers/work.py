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

BETA, BETA1, BETA2, EPS = 0.9, 0.9, 0.999, 1e-8  # of momentum and Adam, everywhere


class Result(NamedTuple):
    """What a contender hands back, checked before anything is timed."""

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
        """Start points, (R, d): one a seed, shared by its learning rates."""
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
        """What the objective is made of: (center, matrix), (rows times labels,) or (inputs, targets)."""
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
        """Shapes of the parameters as a user of the other libraries would keep them."""
        if isinstance(self.problem, MLP):
            p, h, q = self.problem.sizes
            return (h, p), (h,), (q, h), (q,)
        return ((self.problem.dim,),)

    def parts(self, x: np.ndarray) -> list[np.ndarray]:
        """Points (..., d) cut into parameters of these shapes."""
        edges = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        return [
            part.reshape(*x.shape[:-1], *shape) for part, shape in zip(np.split(x, edges, -1), self.shapes, strict=True)
        ]

    def joined(self, parts: list[np.ndarray]) -> np.ndarray:
        """The points (R, d) of parameters (R, ...)."""
        return np.concatenate([np.reshape(part, (len(part), -1)) for part in parts], axis=-1)

    def cut(self, steps: int) -> Work:
        """The same work for fewer steps."""
        return dataclasses.replace(self, steps=min(steps, self.steps))


def deviation(result: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference, relative to the size of the row it is in."""
    size = np.max(np.abs(reference), axis=-1, keepdims=True) + 1e-300
    return float(np.max(np.abs(result - reference) / size))


def works(quick: bool) -> list[Work]:
    """The sweeps that are compared; in quick form small enough for a test."""
    fused = get_backend("numpy", fused=True)  # the compiler's time is not part of a comparison, so nothing waits for it
    seeds = tuple(range(2 if quick else 10))
    count = 3 if quick else 10

    def rates(low: float, high: float) -> tuple[float, ...]:
        return tuple(float(rate) for rate in np.geomspace(low, high, count))

    def steps(full: int) -> int:
        return 20 if quick else full

    sweeps = []
    for dim, budget in ((10, 20_000), (100, 5000), (1000, 200)):
        if quick and dim == 1000:
            continue
        quadratic = Quadratic(dim=dim).on(fused)
        for rule, low, high in (("momentum", 1e-2, 1.0), ("adam", 1e-3, 1e-1)):
            sweeps.append(Work(f"quadratic d={dim}, {rule}", quadratic, rule, rates(low, high), seeds, steps(budget)))
    rows, columns = (500, 19) if quick else (10_000, 99)
    logistic = Logistic(data="synthetic", rows=rows, columns=columns, l2=1e-3).on(fused)
    shape = f"n={rows} d={logistic.dim}"
    sweeps += [
        Work(f"logistic {shape}, full batch, momentum", logistic, "momentum", rates(1e-2, 1.0), seeds, steps(60)),
        Work(
            f"logistic {shape}, batch 128, momentum", logistic, "momentum", rates(1e-3, 1e-1), seeds, steps(1000), 128
        ),
    ]
    mlp = MLP(data="digits", hidden=(4 if quick else 32,)).on(fused)
    sizes = "-".join(map(str, mlp.sizes))
    for rule, low, high in (("momentum", 1e-3, 1e-1), ("adam", 1e-4, 1e-2)):
        sweeps.append(Work(f"MLP {sizes}, batch 128, {rule}", mlp, rule, rates(low, high), seeds, steps(300), 128))
    return sweeps
