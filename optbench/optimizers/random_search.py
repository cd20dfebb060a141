"""Random search, which uses values only. The random numbers come from the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from optbench.core.backend import Backend
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.types import Array, Oracle
from optbench.optimizer import At, Optimizer


class SearchState(NamedTuple):
    """State of a random search: where it started (R, d), the best point so far (R, d) and its value (R, 1)."""

    start: Array
    x: Array
    f: Array


@dataclass
class RandomSearch(Optimizer):
    """Global random search: Gaussian points around the start; the iterate is the best so far (Brooks 1958).

    Parameters
    ----------
    scale : float
        Standard deviation of each coordinate, above 0.
    """

    oracle: ClassVar[Oracle] = Oracle.VALUE
    traits = Traits(full_batch=True, accuracy=0.5)
    keeps_best: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    step_size = "scale"
    sweepable: ClassVar[tuple[str, ...]] = ("scale",)

    scale: float = 1.0

    def init(self, x: Array, backend: Backend) -> SearchState:
        self.xp = backend.xp
        self.width = backend.asarray(np.reshape(self.scale, (-1, 1)))  # (R, 1) or (1, 1)
        worst = backend.asarray(np.full((x.shape[0], 1), np.inf))
        return SearchState(x, x, worst)

    def step(self, t: int, at: At, state: SearchState) -> tuple[Array, SearchState]:
        better = at.f < state.f  # (R, 1)
        state = SearchState(state.start, self.xp.where(better, at.x, state.x), self.xp.where(better, at.f, state.f))
        return self.center(state) + self.width * at.z, state

    def center(self, state: SearchState) -> Array:
        """Mean of the next points; shape (R, d)."""
        return state.start


@dataclass
class LocalSearch(RandomSearch):
    """Local random search: a Gaussian perturbation of the best point replaces it when it is better (Matyas 1965).

    Parameters
    ----------
    scale : float
        Standard deviation of each coordinate of the perturbation, above 0.
    """

    traits = Traits(full_batch=True, accuracy=1e-3)

    scale: float = 0.1

    def center(self, state: SearchState) -> Any:
        return state.x


OPTIMIZERS.register("random_search", RandomSearch)
OPTIMIZERS.register("local_search", LocalSearch)
