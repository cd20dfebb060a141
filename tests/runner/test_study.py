"""Studies: TOML files, their checks, and the grids they describe."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optbench.core.errors import InputError
from optbench.runner.options import StudyOptions, learning_rates, names_of
from optbench.runner.study import load_study, suites
from tests.conftest import present, short_errors

STUDY = """
title = "A study"
seeds = 2
steps = 50
problems = ["quadratic:dim=4", {name = "rosenbrock", dim = 3}]

[[compare]]
optimizers = ["gradient_descent", {name = "momentum", beta = [0.5, 0.9]}, "lbfgs", "adam:lr=0.1"]
lr = {low = 1e-2, high = 1, per_decade = 1}

[[compare]]
problems = ["logistic:data=iris"]
optimizers = ["sgd", "random_search"]
calls = 5
lr = [0.1]
schedule = "cosine"
"""


def test_a_study_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    study = load_study(path)
    assert study.title == "A study"
    plans = [(plan.problem.spec, plan.recipe.name, plan.size, plan.steps) for plan in study.plans]
    sizes = [("gradient_descent", 6), ("momentum", 12), ("lbfgs", 2), ("adam", 2)]
    first = [(problem, name, size, 50) for problem in ("quadratic:dim=4", "rosenbrock:dim=3") for name, size in sizes]
    assert plans == [*first, *(("logistic:data=iris", name, 2, 4) for name in ("sgd", "random_search"))]
    assert load_study(path, seeds=3, steps=7).plans[-1].steps == 7
    assert load_study(path, seeds=3).plans[0].seeds == (0, 1, 2)


def test_the_default_suite_has_sixteen_optimizers() -> None:
    assert "default" in suites()
    study = load_study("default")
    quadratic = {plan.recipe.name for plan in study.plans if plan.problem.name == "quadratic"}
    assert "sgd" in {plan.recipe.name for plan in study.plans} - quadratic
    assert len(quadratic) == 16
    data = {plan.problem.data for plan in study.plans if plan.problem.name == "logistic"}  # type: ignore[attr-defined]
    assert data == {"breast_cancer", "digits"}
    plane = [plan for plan in study.plans if plan.problem.dim == 2]
    landscapes = {"valley", "rosenbrock", "beale", "himmelblau", "strict_saddle"}
    assert {plan.problem.name for plan in plane} == landscapes
    assert {plan.problem.name for plan in study.plans} == {"quadratic", "logistic", "mlp"} | landscapes
    assert {(plan.problem.name, plan.recipe.name) for plan in plane} == set(itertools.product(landscapes, quadratic))
    assert all(plan.checkpoint_count == plan.steps + 1 for plan in plane)
    for problem in {plan.problem for plan in plane}:
        low, high = np.transpose(present(problem.view))
        shown = np.vstack([present(problem.minimizers), problem.starts(study.plans[0].seeds)])
        assert ((low < shown) & (shown < high)).all()
    assert all(len(plan.seeds) >= 3 for plan in study.plans)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.1, (0.1,)),
        ("0.1", (0.1,)),
        ("1e-3,1e-2", (1e-3, 1e-2)),
        ("1e-2:1:3", (0.01, 0.1, 1.0)),
        ({"low": 0.1, "high": 10, "per_decade": 2}, (0.1, 0.316227766017, 1.0, 3.16227766017, 10.0)),
        ({"low": 1, "high": 4, "count": 3}, (1.0, 2.0, 4.0)),
        ([1, 0.5], (1.0, 0.5)),
    ],
)
def test_learning_rates(given: Any, expected: tuple[float, ...]) -> None:
    assert learning_rates(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        *("abc", "1:2", "0:1:3", "1:0:3", "1:2:2.5", "1:2:0", "nan", None, [0.1, -1], [], [True], True),
        *({"low": 1}, {"low": 1, "hihg": 2}, {"low": 2, "high": 1}),
        *({"low": 1, "high": 2, "per_decade": count} for count in (-9, 0)),
    ],
)
def test_impossible_learning_rates(given: Any) -> None:
    with pytest.raises(InputError):
        learning_rates(given)


SMALL = "[[compare]]\nproblems = ['quadratic']\noptimizers = ['sgd']\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not valid TOML"),
        ("title = 'a'", r"no \[\[compare\]\] table"),
        ("sedes = 3\n" + SMALL, "did you mean 'seeds'"),
        ("[[compare]]\noptimizers = ['adam']", "problems is missing"),
        ("[[compare]]\nproblems = ['quadratic']", "optimizers is missing"),
        (SMALL.replace("sgd", "adm"), "did you mean 'adam'"),
        (SMALL.replace("['quadratic']", "3"), "neither a spec"),
        (SMALL.replace("'quadratic'", "3"), "neither a spec"),
        (SMALL + "batch_size = ['a']", "a whole number or a list"),
        (SMALL + "seeds = 'x'", "a number of seeds"),
        (SMALL + "calls = nan", "calls must be above 0"),
        (SMALL + "schedule = [3]", "a schedule such as"),
        (SMALL + "steps = true", "steps must be a whole number"),
        (SMALL.replace("quadratic", "mlp").replace("sgd", "newton"), "needs Hessians"),
        (SMALL.replace("quadratic", "logistic").replace("sgd", "lbfgs") + "batch_size = 8", "compares values"),
        (SMALL + SMALL.replace("quadratic", "x"), "table 2"),
    ],
)
def test_errors_in_a_file_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_study(path)
    assert str(path) in str(error.value)


def test_missing_studies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'default'"):
        load_study("defualt")
    with pytest.raises(InputError, match="cannot read the study"):
        load_study(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="cannot read the study"):
        load_study(tmp_path)


def test_linear_scaling_in_a_study() -> None:
    content = {"compare": [{"problems": ["logistic:data=iris"], "optimizers": ["sgd"], "batch_size": [5, 10]}]}
    content["compare"][0] |= {"linear_scaling": True, "lr": [0.1]}
    study = load_study(content)
    assert [plan.grid for plan in study.plans] == [({"lr": 0.1},), ({"lr": 0.2},)]


HOSTILE = {
    "digits": b"steps = " + b"9" * 5000,
    "hexadecimal": b"seeds = 0x" + b"f" * 5000,
    "brackets": b"title = " + b"[" * 5000 + b"]" * 5000,
    "tables": b"a = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
    "large": b"#" * (2 << 20),
    "bytes": b"title = '\xff'",
    "nul": b"[[compare]]\nproblems = ['quadr\\u0000atic']\noptimizers = ['adam']",
    "import": b"import = 5\n[[compare]]\nproblems = ['quadratic']",
    "names": b"[[compare]]\nproblems = ['" + b"x" * 5000 + b"']\noptimizers = ['adam']",
    "runs": b"[[compare]]\nproblems = ['quadratic:dim=2']\noptimizers = ['adam']\nseeds = 1000000",
    "seeds": b"[[compare]]\nproblems = ['quadratic:dim=2']\noptimizers = ['adam']\nseeds = 100000000",
    "calls": b"[[compare]]\nproblems = ['quadratic:dim=2']\noptimizers = ['adam']\ncalls = 1e300",
    "curves": b"[[compare]]\nproblems = ['quadratic:dim=2']\noptimizers = ['adam']\nsteps = 1000000000\n"
    b"checkpoint_count = 1000000000\nseeds = 100",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_short_message(tmp_path: Path, name: str) -> None:
    (tmp_path / "study.toml").write_bytes(HOSTILE[name])
    with pytest.raises(InputError) as caught:
        load_study(tmp_path / "study.toml")
    with short_errors():
        raise caught.value


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize(
    "name", ["pipe.toml", "zero.toml", "folder.toml", "x" * 5000, "x" * 5000 + ".toml", "", "\udcff", "a\0b"]
)
def test_what_is_no_file_is_no_study(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError) as caught:
        load_study(f"{tmp_path}/{name}")
    with short_errors():
        raise caught.value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["adam", "rosenbrock"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "low", "high", "count", "dim"]), inner)
    ),
    max_leaves=6,
)
KEYS = ["problems", "optimizers", "title", "import", "nope", *names_of(StudyOptions)]


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(KEYS[4:]), VALUES, max_size=2),
)
@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
def test_any_dictionary_is_a_study_or_an_input_error(top: Any, table: Any, options: Any) -> None:
    top.pop("import", None)  # a text may be the name of any module
    table = {"problems": ["beale"], "optimizers": ["sgd"], "lr": [0.1], "seeds": 2} | table
    with short_errors():
        load_study(top | {"compare": [table]}, **options)
