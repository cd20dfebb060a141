"""Random numbers: named host streams for start points, mini-batches, gradient noise and search directions.

Every stream is a NumPy Philox generator whose `SeedSequence` has the seed of the run and a spawn key of the purpose and,
where draws come in blocks, the number of the block. So NumPy and CuPy get identical numbers, all optimizers get the same
starts and batches for a seed (common random numbers), and any block can be drawn alone. No stream depends on how many runs
share an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

PURPOSES = {"data": 0, "batch": 1, "start": 2, "noise": 3, "search": 4, "check": 5, "split": 6}
BLOCK = 64  # steps per generator of normals, whose creation then costs little


def stream(purpose: str, seed: int, *position: int) -> np.random.Generator:
    """The generator for one purpose, seed and position (an epoch or a block)."""
    key = (PURPOSES[purpose], *position)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


class Sampler(Protocol):
    """Random draws of a stochastic oracle: for steps `first <= t < last`, an array (last - first, S, ...) on the host."""

    @property
    def integer(self) -> bool:
        """Whether the draws are sample numbers."""

    @property
    def row_bytes(self) -> int:
        """Bytes of the draws of one step."""

    def draw(self, first: int, last: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Batches:
    """Mini-batches without replacement: each epoch is a new permutation of the samples, cut into batches.

    If `batch_size` does not divide `n_samples`, the remaining samples are not used in that epoch.

    Parameters
    ----------
    seeds : tuple of int, length S
    n_samples, batch_size : int
        1 <= batch_size <= n_samples.
    """

    seeds: tuple[int, ...]
    n_samples: int
    batch_size: int

    integer = True

    @property
    def row_bytes(self) -> int:
        return 8 * len(self.seeds) * self.batch_size

    def draw(self, first: int, last: int) -> np.ndarray:
        """Sample numbers of the steps `first <= t < last`; shape (last - first, S, batch_size)."""
        per_epoch = self.n_samples // self.batch_size
        used = per_epoch * self.batch_size
        epochs = range(first // per_epoch, (last - 1) // per_epoch + 1)
        parts = [
            [stream("batch", seed, epoch).permutation(self.n_samples)[:used] for seed in self.seeds] for epoch in epochs
        ]
        orders = np.asarray(parts).reshape(len(epochs), len(self.seeds), per_epoch, self.batch_size)
        steps = orders.swapaxes(1, 2).reshape(-1, len(self.seeds), self.batch_size)
        skip = first - epochs[0] * per_epoch
        return steps[skip : skip + last - first]


@dataclass(frozen=True)
class Normals:
    """Standard normal vectors times `scale`, one per seed and step, drawn in blocks of `BLOCK` steps."""

    seeds: tuple[int, ...]
    dim: int
    scale: float
    purpose: str

    integer = False

    @property
    def row_bytes(self) -> int:
        return 8 * len(self.seeds) * self.dim

    def draw(self, first: int, last: int) -> np.ndarray:
        """Vectors of the steps `first <= t < last`; shape (last - first, S, dim)."""
        blocks = range(first // BLOCK, (last - 1) // BLOCK + 1)
        parts = [
            [stream(self.purpose, seed, block).standard_normal((BLOCK, self.dim)) for seed in self.seeds]
            for block in blocks
        ]
        steps = np.concatenate([np.stack(part, axis=1) for part in parts])  # (blocks * BLOCK, S, dim)
        skip = first - blocks[0] * BLOCK
        return self.scale * steps[skip : skip + last - first]
