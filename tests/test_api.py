"""The public calls from Python: one for each command, with the same arguments and defaults."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import optbench
from optbench.cli import main
from optbench.core.errors import InputError
from optbench.results.store import Store
from optbench.runner.options import RaceOptions, StudyOptions, SweepOptions
from optbench.runner.study import load_study
from problems import Quadratic

FEW: dict[str, Any] = {"seeds": 2, "steps": 20, "lr": [0.01, 0.1]}


def sign_descent(xp: Any, x: Any, g: Any, t: int, lr: float = 0.1) -> Any:
    """Steps of one size."""
    return (x - lr * xp.sign(g),)


def test_every_public_name_can_be_used() -> None:
    for name in optbench.__all__:
        assert getattr(optbench, name) is not None
    assert {"run", "compare", "sweep", "race", "check", "report"} <= set(optbench.__all__)


def test_compare_takes_names_objects_classes_and_functions() -> None:
    problems: list[Any] = ["quadratic:dim=3", Quadratic(dim=4), {"name": "rosenbrock", "dim": 2}]
    optimizers: list[Any] = ["adam:beta1=0.8", sign_descent, {"name": "momentum", "beta": [0.5, 0.9]}, "lbfgs"]
    runs = optbench.compare(problems, optimizers, **FEW)
    assert isinstance(runs, optbench.Runs)
    assert set(runs.rows["problem"]) == {"quadratic:dim=3", "quadratic:dim=4", "rosenbrock"}
    assert set(runs.rows["optimizer"]) == {"adam", "sign_descent", "momentum", "lbfgs"}
    assert len(runs) == 3 * (4 + 4 + 8 + 2)
    for problem, optimizer in ((Quadratic(dim=3), sign_descent), (Quadratic, "sgd")):  # or one of each
        assert len(optbench.compare(problem, optimizer, **FEW)) == 4


def test_compare_equals_sweeps() -> None:
    both = optbench.compare("quadratic:dim=3", ["adam", "sgd"], **FEW).table
    for name in ("adam", "sgd"):
        alone = optbench.sweep("quadratic:dim=3", name, **FEW).table
        rows = both[both["optimizer"] == name]
        assert rows["key"].tolist() == alone["key"].tolist()
        assert rows["f_end"].tolist() == alone["f_end"].tolist()


def test_run_takes_a_path_a_dictionary_and_a_study(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        "seeds = 2\nsteps = 20\n[[compare]]\nproblems = ['quadratic:dim=3']\noptimizers = ['sgd']\nlr = 0.1\n"
    )
    content = {"seeds": 2, "steps": 20, "compare": [{"problems": "quadratic:dim=3", "optimizers": "sgd", "lr": 0.1}]}
    keys = {tuple(optbench.run(study).rows["key"]) for study in (path, str(path), content, load_study(path))}
    assert len(keys) == 1
    assert len(optbench.run(content, seeds=3)) == 3
    with pytest.raises(InputError, match="a Study is complete"):
        optbench.run(load_study(path), seeds=3)


def test_results_are_kept_in_a_store(tmp_path: Path) -> None:
    first = optbench.compare("quadratic:dim=3", "sgd", store=tmp_path / "kept", **FEW)
    assert len(Store(tmp_path / "kept").load()) == 4
    again = optbench.compare("quadratic:dim=3", "sgd", store=str(tmp_path / "kept"), **FEW)
    pd.testing.assert_frame_equal(first.rows, again.rows)


def test_race_and_check_and_report(tmp_path: Path) -> None:
    races = optbench.race("quadratic:dim=3", ["sgd", sign_descent], rounds=3, steps=5, store=tmp_path / "kept")
    assert len(races) == 6
    pd.testing.assert_frame_equal(Store(tmp_path / "kept").load_races(), races)
    (quadratic, landscape) = optbench.check(["quadratic:dim=3", "beale"])
    assert quadratic.passed
    assert landscape.passed
    runs = optbench.compare("quadratic:dim=3", ["adam", "sgd"], store=tmp_path / "kept", **FEW)
    for results, name in ((runs, "runs.html"), (tmp_path / "kept", "store.html"), ([tmp_path / "kept"], "list.html")):
        page = optbench.report(results, tmp_path / name, title="A title")
        assert page == tmp_path / name
        assert "A title" in page.read_text(encoding="utf-8")
    assert optbench.report(str(tmp_path / "kept")) == tmp_path / "kept" / "report.html"


@pytest.mark.parametrize("function", [optbench.sweep, optbench.compare, optbench.run, optbench.race])
def test_help_shows_every_option_with_its_default(function: Any) -> None:
    options = {optbench.sweep: SweepOptions, optbench.race: RaceOptions}.get(function, StudyOptions)
    signature = inspect.signature(function)
    for field in dataclasses.fields(options):
        assert signature.parameters[field.name].default == field.default
        assert field.metadata["help"] in function.__doc__
    assert "{options}" not in function.__doc__


@pytest.mark.parametrize("command", ["run", "check", "race", "report"])
def test_a_command_has_the_arguments_of_its_function(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    python_only = {"executor", "progress", "on_start", "timings", "command"}
    python_only |= {"isolate"}  # always so there
    python_only |= {"study", "results", "problems", "optimizers"}  # positional there
    for name in set(inspect.signature(getattr(optbench, command)).parameters) - python_only:
        assert "--" + name.replace("_", "-") in text


def test_defaults_are_the_same_everywhere(tmp_path: Path) -> None:
    (from_python,) = load_study({"compare": [{"problems": "quadratic:dim=3", "optimizers": "sgd:lr=0.1"}]}).plans
    path = tmp_path / "study.toml"
    path.write_text("[[compare]]\nproblems = ['quadratic:dim=3']\noptimizers = ['sgd:lr=0.1']\n")
    keys = [from_python.key(from_python.grid[0], seed) for seed in from_python.seeds]
    command = ["--problem", "quadratic:dim=3", "--optimizer", "sgd:lr=0.1"]
    for arguments in ([str(path)], command):
        store = tmp_path / arguments[0].strip("-").replace("/", "_")
        assert main(["run", *arguments, "--no-report", "--jobs", "1", "-o", str(store)]) == 0
        assert sorted(Store(store).keys()) == sorted(keys)
    assert sorted(optbench.sweep("quadratic:dim=3", "sgd", lr=0.1).rows["key"]) == sorted(keys)
    assert sorted(optbench.compare("quadratic:dim=3", "sgd:lr=0.1").rows["key"]) == sorted(keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sedes": 3}, "did you mean 'seeds'"),
        ({"problems": []}, "problems is missing"),
        ({"optimizers": [None]}, "neither a spec"),
        ({"optimizers": "lbfgs", "schedule": "cosine"}, "not a rule with a learning rate"),
    ],
)
def test_bad_requests(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        optbench.compare(**({"problems": "quadratic", "optimizers": "adam"} | arguments))


def test_a_misspelt_option_of_a_sweep_is_no_hyperparameter() -> None:
    with pytest.raises(InputError, match="a sweep of adam has no parameter 'seed'; did you mean 'seeds'"):
        optbench.sweep("quadratic", "adam", seed=3)


def test_a_schedule_applies_to_the_optimizers_that_have_a_learning_rate() -> None:
    runs = optbench.compare("quadratic:dim=3", ["sgd", "lbfgs"], schedule=["constant", "cosine"], **FEW)
    schedules = runs.rows.groupby("optimizer")["schedule"].unique()
    assert sorted(schedules["sgd"]) == ["constant", "cosine"]
    assert schedules["lbfgs"].tolist() == ["constant"]
