"""A store of real runs, races, and their pages, for all tests of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import reports
from optbench.optimizer import make_recipe
from optbench.problem import make_problem
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import make_plans
from optbench.runner.race import compete, make_race_plans
from optbench.runner.study import load_study
from tests.rows import race_rows, race_table

NETWORK = "mlp:data=digits"


VALLEY, NOISE, STEEP = "quadratic:dim=8", "quadratic:dim=5,noise=0.1", "quadratic:dim=50,spectrum=chain"


STUDY = {
    "seeds": 5,
    "lr": "1e-3:10:9",
    "steps": 60,
    "compare": [
        {"problems": [VALLEY], "optimizers": ["gradient_descent", "adam", "lbfgs", "newton", "random_search"]},
        {"problems": [VALLEY], "optimizers": [{"name": "momentum", "beta": [0.5, 0.9]}], "stop_at_target": True},
        {"problems": [NOISE], "optimizers": ["sgd"], "steps": 40},
        {"problems": ["mlp"], "optimizers": ["sgd", "adam"], "batch_size": 100, "steps": 20, "lr": "1e-2:1:3"},
        {"problems": ["mlp"], "optimizers": ["lbfgs"], "steps": 6},
        {"problems": [STEEP], "optimizers": ["gradient_descent"], "lr": [1e3, 1e4], "steps": 400},
    ],
}


HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)\' </title></svg>',
    "$\\frac{1}{0}$ & _under {{ 7 * 7 }} {% raise %}",
    "最適化 метод بهینه‌سازی \u202eevil \x07",
    "long" * 50,
]


def page_of(runs: Runs, folder: Path, **options: Any) -> str:
    """The page of results."""
    return reports.build_page(runs, folder / "page.html", **options).read_text(encoding="utf-8")


def broken(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.1) -> tuple[Any, ...]:
    """A rule with a defect, whose message is hostile too."""
    raise RuntimeError("no <b>luck</b> & no $\\end today")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of real runs, one method of which fails."""
    path = tmp_path_factory.mktemp("results")
    plans = [
        *load_study(STUDY).plans,
        *make_plans(make_problem("quadratic", {"dim": 8}), make_recipe(broken, {}), seeds=2),
    ]
    execute(plans, store=Store(path))
    return path


@pytest.fixture(scope="session")
def runs(folder: Path) -> Runs:
    return Store(folder).load()


@pytest.fixture(scope="session")
def page(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = reports.build_page(runs, tmp_path_factory.mktemp("site"), title="A page", command="optbench run a.toml")
    assert path.name == "index.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def races() -> pd.DataFrame:
    """Two races, as they ran but for the times, which are of the test's making: the second is disturbed."""
    races = [
        (make_race_plans([VALLEY, "rosenbrock"], ["adam", "lbfgs:memory=5", "newton"], rounds=3, steps=4), 0.5),
        (make_race_plans([VALLEY], ["adam", "sgd:lr=50"], rounds=3, steps=4, fused=False), 30.0),
    ]
    rows = []
    for day, (plans, load) in enumerate(races, start=1):
        for row in compete(plans):
            step = 1e-5 * (1 + row["place"]) * (1 + row["round"] / 100)
            rows.append(
                row
                | {"race": f"race {day}", "created": f"2026-01-0{day}T10:20:30.000000+00:00", "machine": "Abacus <4>"}
                | {"core": 3, "cores": 4, "load_before": load, "load_after": load}
                | {"seconds": 4 * step, "oracle_seconds": 4 * step * (0.25 if row["place"] else 1.0)}
            )
    return race_table(rows)


@pytest.fixture(scope="session")
def raced_page(runs: Runs, races: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = reports.build_page(runs, tmp_path_factory.mktemp("site"), title="A page", races=races)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def step_races() -> pd.DataFrame:
    """Two problems; one raced on two machines, with a disturbed race on one of them."""
    away: dict[str, Any] = {"race": "s", "machine": "N", "load_before": 3.0}
    return race_table(
        race_rows("slow", (5e-3, 5e-3, 5e-3)), race_rows("fast", place=1),
        race_rows("fast", place=2, problem="q", problem_name="q"),
        race_rows("slow", (2e-3, 2e-3, 2e-3), **away), race_rows("fast", (4e-3, 4e-3, 4e-3), place=1, **away),
    )  # fmt: skip


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()
