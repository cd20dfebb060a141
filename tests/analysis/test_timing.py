"""Summaries of races: intervals, ratios, disturbances, and seconds to target."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optbench.analysis import timing
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from tests.rows import race_rows, race_table, run_row


def timings(seconds: Any, place: int = 0, **more: Any) -> list[dict[str, Any]]:
    """`race_rows` of a configuration that is named by its place."""
    return race_rows(more.pop("configuration", f"m{place}"), seconds, place, **more)


def summary(*rows: list[dict[str, Any]]) -> pd.DataFrame:
    return timing.race_summary(race_table(*rows))


def to_target(rows: Runs, *timed: list[dict[str, Any]]) -> list[Any]:
    """A line for each method whose seconds to target are known."""
    return list(timing.seconds_to_target(rows, race_table(*timed)).itertuples())


def test_intervals_contain_the_truth(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RESAMPLES", 200)
    inside = []
    for _ in range(100):
        (line,) = summary(timings(np.exp(0.1 * rng.standard_normal(11)))).itertuples()
        inside.append(line.seconds_low <= 1 <= line.seconds_high)
        assert line.seconds_low <= line.seconds <= line.seconds_high
    assert np.mean(inside) > 0.86  # below 0.95, because there are only eleven rounds and 100 trials


def test_ratios_are_taken_within_rounds(rng: np.random.Generator) -> None:
    noise = np.exp(rng.standard_normal(10))  # tenfold, but the same for all configurations of a round
    a, b = summary(timings(noise), timings(2 * noise, 1)).itertuples()
    assert (a.ratio, a.ratio_low, a.ratio_high) == (1, 1, 1)
    assert (b.ratio, b.ratio_low, b.ratio_high) == pytest.approx((2, 2, 2))
    assert b.seconds_high > 1.5 * b.seconds_low
    assert b.oracle_share == pytest.approx(0.5)
    assert b.optimizer_seconds == pytest.approx(b.seconds / 2)


def test_the_reference_is_the_first_on_the_same_problem() -> None:
    races = timings([1, 1, 1]), timings([3, 3, 3], 1, problem="q"), timings([6, 6, 6], 2)
    assert summary(*races)["ratio"].tolist() == [1, 1, 6]


@pytest.mark.parametrize(
    ("seconds", "more", "reason"),
    [
        ([1, 1.01, 0.99, 1], {}, ""),
        ([1, 2, 1, 2], {}, "rounds vary by 67 %"),
        ([1, 1, 1, 1], {"load_before": 1.5}, "load average 1.5 before the race, on 4 cores"),
        ([1, 1, 1, 1], {"load_after": 1.9}, ""),  # the race itself adds 1
        ([1, 1, 1, 1], {"load_after": 3.0}, "load average 3.0 at the end"),
        ([1, 2, 1, 2], {"load_before": 3.0}, "load average 3.0 before the race, on 4 cores; rounds vary by"),
        ([1, 1, 1, 1], {"load_before": None, "load_after": None}, ""),
    ],
)
def test_disturbance_is_marked_with_its_reason(seconds: list[float], more: dict[str, Any], reason: str) -> None:
    (line,) = summary(timings(seconds, **more)).itertuples()
    assert line.reason.startswith(reason)
    assert line.disturbed == bool(reason) == bool(line.reason)


def test_races_are_superseded_by_better_ones() -> None:
    def rows_of(race: str, *names: str, scatter: float = 0.0, **more: Any) -> list[list[dict[str, Any]]]:
        rounds = [1, 1 + scatter, 1, 1 + scatter]
        return [timings(rounds, n, configuration=c, race=race, created=race, **more) for n, c in enumerate(names)]

    races = race_table(
        *rows_of("1", "a", "b"),
        *rows_of("2", "a", "b", "c"),  # all of 1, and newer
        *rows_of("3", "a", "b", "c", scatter=1.0),  # newer, but disturbed
        *rows_of("4", "a", "d"),  # not all of 2
        *rows_of("5", "a", fused=False),
        *rows_of("6", "a", machine="another"),
    )
    assert sorted(set(timing.current_races(races)["race"])) == ["2", "4", "5", "6"]
    alone = race_table(*rows_of("3", "a", "b", scatter=1.0))
    assert len(timing.current_races(alone)) == len(alone)


def test_no_races_give_empty_tables() -> None:
    assert summary().empty
    assert not to_target(Runs.from_rows([]), timings([1, 1, 1]))


# ---- seconds to target -----------------------------------------------------------------------------------------------


def run(seed: int, calls: float | None, **more: Any) -> dict[str, Any]:
    """A run of m0 that reaches every target after the same number of calls."""
    known = {
        "key": f"{seed}", "problem_spec": "p", "optimizer": "m0", "settings": json.dumps({"lr": 0.1}), "step_size": 0.1,
        "seed": seed, "f_start": 1.0, "f_end": 0.0, "f_best": 0.0, "f_star": None if calls is None else 0.0,
        "calls_to_target": None if calls is None else [calls] * len(TARGETS),
    }  # fmt: skip
    return run_row(**known | more)


def runs(*calls: float | None, **more: Any) -> Runs:
    return Runs.from_rows([run(seed, count, **more) for seed, count in enumerate(calls)])


def test_seconds_to_target_are_calls_times_seconds_a_call() -> None:
    seconds = [0.1, 0.11, 0.1, 0.09, 0.1]
    (line,) = to_target(runs(100, 200, 300), timings(seconds))
    assert (line.calls, line.reached, line.seeds) == (200, 3, 3)
    assert line.seconds == pytest.approx(20)
    assert line.seconds_low == pytest.approx(100 * 0.09, rel=0.2)
    assert line.seconds_high == pytest.approx(300 * 0.11, rel=0.2)
    assert not line.disturbed


def test_configurations_that_differ_in_their_step_size_time_one_method() -> None:
    pair = [timings([1] * 3, place, optimizer="m0", settings=f'{{"lr": {lr}}}') for place, lr in enumerate((0.1, 1.0))]
    other = timings([1] * 3, 2, optimizer="m1")
    (line,) = to_target(runs(10, 10, 10), *pair, other)
    assert line.places == (0, 1)


def test_a_call_of_a_mini_batch_takes_several_steps() -> None:
    batch: dict[str, Any] = {"batch_size": 4, "calls_per_step": 0.25}
    (line,) = to_target(runs(10, 10, 10, **batch), timings([1, 1, 1], **batch))
    assert line.seconds_per_call == pytest.approx(4)
    assert line.seconds == pytest.approx(40)


def test_missed_targets_take_infinite_time() -> None:
    races = timings([1, 1, 1])
    (line,) = to_target(runs(10, 10, np.inf), races)
    assert (line.seconds, line.seconds_high, line.reached) == (10, np.inf, 2)
    (line,) = to_target(runs(10, np.inf, np.inf), races)
    assert (line.seconds, line.seconds_low) == (np.inf, 10)
    (line,) = to_target(runs(None, None, None), races)
    assert np.isnan([line.calls, line.seconds, line.seconds_low, line.seconds_high]).all()


@pytest.mark.parametrize(
    "other",
    [
        {"problem_params": '{"dim": 3}'}, {"data_hash": "x"}, {"optimizer": "m1"}, {"schedule": "cosine"},
        {"batch_size": 8}, {"precision": "float32"}, {"backend": "cupy"}, {"structure": '{"memory": 3}'},
    ],
)  # fmt: skip
def test_races_with_other_costs_are_not_used(other: dict[str, Any]) -> None:
    assert not to_target(runs(10, 10, 10), timings([1, 1, 1], **other))
    other_race = timings([9, 9, 9], 1, configuration="m0", **({"optimizer": "m0"} | other))
    (line,) = to_target(runs(10, 10, 10), timings([1, 1, 1]), other_race)
    assert line.seconds == pytest.approx(10)


def test_races_with_the_structure_of_the_settings_are_used() -> None:
    races = [timings([n] * 3, n, optimizer="m0", structure=f'{{"memory": {3 * n}}}') for n in (1, 2)]
    (line,) = to_target(runs(10, 10, 10, settings='{"memory": 3}'), *races)
    assert line.seconds == pytest.approx(10)


def test_each_machine_has_its_newest_undisturbed_race() -> None:
    lines = to_target(
        runs(10, 10, 10),
        timings([1, 1, 1], race="old", created="1"),
        timings([2, 2, 2], race="new", created="2"),
        timings([3, 3, 3], race="noisy", created="3", load_before=4.0),
        timings([5, 5, 5], race="there", machine="N", load_before=4.0),
        timings([7, 7, 7], race="plain", fused=False),
    )
    assert {line.race: line.seconds for line in lines} == pytest.approx({"new": 20, "there": 50, "plain": 70})
    assert {line.race: line.disturbed for line in lines} == {"new": False, "there": True, "plain": False}
