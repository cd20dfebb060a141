"""Parameters of every registered object: whatever is given, the outcome is an object or one short error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optbench.core.errors import MAX_MESSAGE, InputError, shown
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.core.specs import MAX_DIM, Parameter, coerce, parameters, parse_spec
from optbench.optimizer import make_recipe
from optbench.optimizers.schedules import make_schedule, schedule_parameters
from optbench.problem import make_problem
from tests.conftest import short_errors

NUMBERS = ["nan", "-inf", "-1", "-0", "0", "0.5", "1e308", "5e-324", "1e300", "9" * 5000, "1e", "٣", "0x10", "1_0"]
TEXTS = [*NUMBERS, "", " ", "none", "true", "1-1", "x" * 5000, "~nosuchuser/x.csv", "a\0b", "\ud800", "/dev/zero", "*"]
VALUES: list[Any] = [*TEXTS, 10**5000, float("nan"), None, True, [], ["1"] * 10, {"a": 1}, b"1", object()]


def make(registry: Registry, name: str, setting: dict[str, Any]) -> None:
    if registry is PROBLEMS:
        make_problem(name, setting)
    elif registry is OPTIMIZERS:
        recipe = make_recipe(name, setting)
        recipe.build(recipe.settings)
    else:
        ((key, value),) = setting.items()
        _, factor = make_schedule(f"{name}:{key}={value}")
        assert all(factor(t, 50) >= 0 for t in (0, 1, 49, 50))


@pytest.mark.parametrize(
    ("registry", "name"),
    [(registry, name) for registry in (PROBLEMS, OPTIMIZERS, SCHEDULES) for name in registry.names()],
)
def test_impossible_parameters_get_one_short_message(registry: Registry, name: str) -> None:
    declared = {PROBLEMS: lambda: parameters(registry[name]), OPTIMIZERS: lambda: make_recipe(name).declared}
    for key in declared.get(registry, lambda: schedule_parameters(name))():
        for value in TEXTS if registry is SCHEDULES else VALUES:
            with short_errors():
                make(registry, name, {key: value})


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_sizes_beyond_memory_are_refused(name: str) -> None:
    sizes = [key for key, p in parameters(PROBLEMS[name]).items() if p.range is not None and p.range.high == MAX_DIM]
    for key in sizes:
        with pytest.raises(InputError, match=f"{key} must be at most 1e.08"):
            make_problem(name, {key: 10**9} | ({"data": "synthetic"} if name == "logistic" else {}))


@pytest.mark.parametrize("spec", ["logistic:data=synthetic,rows=100000000,columns=99999", "quadratic:dim=20000"])
def test_the_memory_of_a_problem_is_estimated(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optbench.core.memory.machine_memory", lambda: 1 << 30)
    with pytest.raises(InputError, match=r"needs about .* GiB of memory, and this machine has 1"):
        make_problem(spec)


@given(st.text(max_size=300))
@settings(max_examples=80, deadline=1000)
def test_any_spec(text: str) -> None:
    with short_errors():
        parse_spec(text)
        make_schedule(text)


@given(
    st.sampled_from([int, float, bool, str, int | None, tuple[int, ...], tuple[float, ...]]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
)
@settings(max_examples=150, deadline=1000)
def test_any_value(kind: Any, value: Any) -> None:
    with short_errors():
        result = coerce("it", Parameter("n", kind, None), value)
        assert coerce("it", Parameter("n", kind, None), result) == result, "an accepted value stays as it is"


def test_messages_are_short_lines_and_survive_pickling() -> None:
    error = InputError("the file " + "x" * 5000 + "\n\0 of " + "many words " * 1000 + "; rename it")
    assert len(str(error)) <= MAX_MESSAGE
    assert str(error).isprintable()
    assert str(error).startswith("the file xxx")
    assert str(error).endswith("; rename it")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert all(len(shown(value)) < MAX_MESSAGE for value in [10**5000, "x" * 10**6, [1] * 10**6, {"a": 10**5000}])
