"""Time and memory to build the report, and the size of the page."""

from __future__ import annotations

from pathlib import Path

import reports
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.race import compete, make_race_plans
from optbench.runner.study import load_study

STUDY = {
    "seeds": 5,
    "lr": "1e-3:10:9",
    "steps": 200,
    "compare": [
        {"problems": ["quadratic:dim=20", "logistic"], "optimizers": ["sgd", "momentum", "adam", "lbfgs", "newton"]},
        {"problems": ["mlp:data=moons"], "optimizers": ["sgd", "momentum", "adam"], "batch_size": 50},
    ],
}


class Report:
    """The page of 425 stored runs and a race on two problems, from the results folder to the file."""

    timeout = 300

    def setup_cache(self) -> None:
        # in the working directory, which asv keeps for this class
        store = Store("results")
        execute(load_study(STUDY).plans, store=store)
        store.write_race(
            compete(make_race_plans(["quadratic:dim=20", "logistic"], ["sgd", "adam"], rounds=5, steps=50))
        )

    def time_build(self) -> None:
        store = Store("results")
        reports.build_page(store.load(), "page.html", races=store.load_races())

    def peakmem_build(self) -> None:
        self.time_build()

    def track_size(self) -> float:
        self.time_build()
        return Path("page.html").stat().st_size / 1e6

    track_size.unit = "MB"  # type: ignore[attr-defined]
