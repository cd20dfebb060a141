"""Labels of methods and problems."""

from __future__ import annotations

from typing import Any

import pytest

from optbench.results.methods import method_name
from optbench.results.runs import Runs
from tests.rows import run_row


def labels(*rows: dict[str, Any]) -> list[tuple[str, str]]:
    table = Runs.from_rows([run_row(**{"problem_spec": "p", "optimizer": "adam"} | row) for row in rows]).rows
    return list(zip(table["problem"], table["method"], strict=True))


@pytest.mark.parametrize(
    ("optimizer", "settings", "schedule", "name"),
    [
        ("adam", {}, "constant", "adam"),
        ("adam", {"beta1": 0.8, "eps": 1e-10}, "constant", "adam:beta1=0.8,eps=1e-10"),
        ("mine", {"fast": True, "levels": [1, 2], "name": None}, "constant", "mine:fast=true,levels=1-2,name=none"),
        ("sgd", {}, "cosine:final=0.1", "sgd, cosine:final=0.1"),
    ],
)
def test_a_method_is_named_by_optimizer_fixed_settings_and_schedule(
    optimizer: str, settings: dict[str, Any], schedule: str, name: str
) -> None:
    assert method_name(optimizer, settings, schedule) == name


def test_labels_have_budget_precision_and_module_if_they_differ_on_a_problem() -> None:
    several = labels({"steps": 10}, {"steps": 20}, {"problem_spec": "q", "steps": 30})
    assert several == [("p", "adam, 10 steps"), ("p", "adam, 20 steps"), ("q", "adam")]
    assert labels({"precision": "float32"}, {}) == [("p", "adam, float32"), ("p", "adam, float64")]
    both = labels({"backend": "cupy", "steps": 9}, {"steps": 9}, {"steps": 5})
    assert [method for _, method in both] == ["adam, 9 steps, cupy", "adam, 9 steps, numpy", "adam, 5 steps"]
    sweep = labels(*({"settings": f'{{"lr":{lr}}}', "seed": seed} for lr in (0.1, 1.0) for seed in range(2)))
    assert set(sweep) == {("p", "adam")}


def test_batch_sizes_of_different_problems_are_one_method() -> None:
    assert labels({}, {"problem_spec": "q", "batch_size": 64}, {"problem_spec": "r", "batch_size": 8}) == [
        ("p", "adam"), ("q", "adam"), ("r", "adam"),
    ]  # fmt: skip


def test_several_batch_sizes_on_one_problem_are_labelled_everywhere() -> None:
    result = labels(
        {"batch_size": 8}, {"batch_size": 64}, {"problem_spec": "q", "batch_size": 64}, {"problem_spec": "r"},
        {"optimizer": "sgd", "batch_size": 64},
    )  # fmt: skip
    assert result == [
        ("p", "adam, batch 8"), ("p", "adam, batch 64"), ("q", "adam, batch 64"), ("r", "adam"), ("p", "sgd"),
    ]  # fmt: skip


def test_full_batches_are_marked_if_mini_batches_ran_too() -> None:
    result = labels({}, {"batch_size": 8}, {"problem_spec": "q", "batch_size": 8}, {"problem_spec": "r"})
    assert result == [("p", "adam, full batch"), ("p", "adam, batch 8"), ("q", "adam, batch 8"), ("r", "adam")]


def test_budgets_that_differ_with_the_batch_size_are_not_labelled() -> None:
    assert labels({"batch_size": 8, "steps": 80}, {"batch_size": 64, "steps": 10}) == [
        ("p", "adam, batch 8"), ("p", "adam, batch 64"),
    ]  # fmt: skip


def test_changed_data_make_another_problem() -> None:
    old, new, other = labels(
        {"data_hash": "0123456789"}, {"data_hash": "abcdefghij"}, {"problem_spec": "q", "data_hash": "0123456789"}
    )
    assert (old[0], new[0], other[0]) == ("p [data 01234567]", "p [data abcdefgh]", "q")
    assert {old[1], new[1], other[1]} == {"adam"}
