"""A sweep that is computed in any parts, in any order and with any store has the rows of the whole sweep."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import Plan, make_plans
from problems import Logistic, Quadratic

RATES = (0.01, 0.1, 0.3, 300.0)
SEEDS = (0, 1, 2, 7)
PROBLEMS = {"quadratic": Quadratic(dim=4), "logistic": Logistic(data="iris")}
OPTIMIZERS = ("momentum", "adam", "lbfgs")
TEXT = ["key", "problem", "method", "settings", "seed", "status", "error", "end", "calls", "oracle"]
NUMBERS = ["f_start", "f_end", "f_best", "f_star", "f_star_lower"]
LISTS = ["t", "checkpoint_calls", "f", "best", "gradient_norm", "calls_to_target"]


def plans(problem: str, optimizer: str, rates: Any, seeds: Any, batch_size: int | None) -> list[Plan]:
    swept = {} if optimizer == "lbfgs" else {"lr": list(rates)}
    return make_plans(PROBLEMS[problem], optimizer, swept, seeds=list(seeds), steps=12, batch_size=batch_size)


def batch_size_of(problem: str, optimizer: str) -> int | None:
    return 16 if problem == "logistic" and optimizer != "lbfgs" else None


def assert_part(part: Runs, whole: pd.DataFrame) -> None:
    """The rows are those of the whole sweep with the same keys, except for rounding, which the size of an array decides."""
    rows = part.rows.set_index("key", drop=False)
    expected = whole.loc[rows.index]
    pd.testing.assert_frame_equal(rows[TEXT], expected[TEXT])
    pd.testing.assert_frame_equal(rows[NUMBERS], expected[NUMBERS], rtol=1e-9, atol=1e-12)
    for name in LISTS:
        for left, right in zip(rows[name], expected[name], strict=True):
            np.testing.assert_allclose(
                np.asarray(left, dtype=float), np.asarray(right, dtype=float), rtol=1e-9, atol=1e-12, err_msg=name
            )


class PartsOfSweeps(RuleBasedStateMachine):
    """Stores receive parts of sweeps, lose files and are joined; what they return is always a part of the whole."""

    whole: pd.DataFrame | None = None  # rows by key of everything that can be asked for
    stores = Bundle("stores")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.keys: dict[str, set[str]] = {}  # of each store
        if PartsOfSweeps.whole is None:
            everything = [
                plan
                for problem in PROBLEMS
                for optimizer in OPTIMIZERS
                for plan in plans(problem, optimizer, RATES, SEEDS, batch_size_of(problem, optimizer))
            ]
            PartsOfSweeps.whole = execute(everything).rows.set_index("key", drop=False)

    @initialize(target=stores)
    def first_store(self) -> str:
        return self.add_store()

    @rule(target=stores)
    def new_store(self) -> str:
        return self.add_store()

    def add_store(self) -> str:
        name = f"store{len(self.keys)}"
        self.keys[name] = set()
        return name

    @rule(
        store=stores,
        problem=st.sampled_from(sorted(PROBLEMS)),
        optimizer=st.sampled_from(OPTIMIZERS),
        rates=st.lists(st.sampled_from(RATES), min_size=1, unique=True),
        seeds=st.lists(st.sampled_from(SEEDS), min_size=1, unique=True),
        in_memory=st.booleans(),
    )
    def run(
        self, store: str, problem: str, optimizer: str, rates: list[float], seeds: list[int], in_memory: bool
    ) -> None:
        requested = plans(problem, optimizer, rates, seeds, batch_size_of(problem, optimizer))
        asked = {key for plan in requested for key in plan.keys}
        started: list[tuple[float, int, int]] = []
        runs = execute(
            requested,
            store=None if in_memory else Store(self.folder / store),
            on_start=lambda *numbers: started.append(numbers),
        )
        assert runs.missing == 0
        assert set(runs.rows["key"]) == asked
        assert PartsOfSweeps.whole is not None
        assert_part(runs, PartsOfSweeps.whole)
        if not in_memory:
            found = len(asked & self.keys[store])
            assert started[0][1:] == (len(asked) - found, found)  # nothing is computed twice
            self.keys[store] |= asked

    @rule(store=stores, number=st.integers(0, 10))
    def lose_a_file(self, store: str, number: int) -> None:
        files = Store(self.folder / store).files
        if files:
            files[number % len(files)].unlink()
            self.keys[store] = Store(self.folder / store).keys()

    @rule(source=stores, destination=stores)
    def copy_files(self, source: str, destination: str) -> None:
        if (self.folder / source).is_dir() and source != destination:
            shutil.copytree(self.folder / source, self.folder / destination, dirs_exist_ok=True)
            self.keys[destination] |= self.keys[source]

    @invariant()
    def stores_have_what_was_computed(self) -> None:
        for name, keys in self.keys.items():
            if (self.folder / name).is_dir():
                assert Store(self.folder / name).keys() == keys
                assert PartsOfSweeps.whole is not None
                assert_part(Store(self.folder / name).load(), PartsOfSweeps.whole)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestPartsOfSweeps = PartsOfSweeps.TestCase
TestPartsOfSweeps.settings = settings(
    max_examples=12,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
