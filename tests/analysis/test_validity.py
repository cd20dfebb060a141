"""Targets that cannot be resolved, problems that contradict themselves, and optima that differ: what is judged then."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from optbench.analysis import metrics, profiles, ranking, tuning, validity
from optbench.analysis.grid import complete_set, run_grid
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from reports import tables
from tests.rows import target_row

PLACE = tuning.target_index(1e-4)  # the last target that counts on "coarse" is the one before 1e-4
FINE, COARSE = 20.0, [*[10.0] * (PLACE - 5), *[np.inf] * 5, *[np.nan] * (50 - PLACE)]
INVALID = {"status": "invalid", "error": "the value -1.0 at step 0 is below the stated lower bound 0.0"}


def runs_of(*rows: dict[str, Any]) -> Runs:
    return Runs.from_rows(list(rows))


@pytest.fixture
def half() -> Runs:
    """Two methods on two problems: on one of them half of the targets cannot be resolved in the runs of "a"."""
    return runs_of(
        *(target_row("a", "coarse", seed, COARSE, precision="float32") for seed in range(3)),
        *(target_row("b", "coarse", seed, FINE) for seed in range(3)),
        *(target_row(method, "fine", seed, FINE / 2) for method in "ab" for seed in range(3)),
    )


def test_a_target_that_one_method_cannot_resolve_counts_for_none(half: Runs) -> None:
    state = validity.judged(half)
    calls = dict(iter(state.rows.groupby(["problem", "method"])["calls_to_target"]))
    for (problem, _), of_pair in calls.items():
        known = ~np.isnan(np.array(list(of_pair)))
        assert (known == ((np.arange(50) < PLACE) | (problem == "fine"))).all()
    assert state.unjudged == {}
    assert list(state.resolved) == ["coarse"]
    assert half.rows["calls_to_target"].map(len).eq(50).all()
    assert np.isfinite(np.array(list(half.rows.loc[half.rows["method"] == "b", "calls_to_target"]))).all()  # untouched
    assert validity.judged(state) is state
    assert validity.judged(half) is state


def test_runs_that_are_judged_survive_a_process(half: Runs) -> None:
    state = validity.judged(Runs(half.rows, half.environments, missing=4))
    copy = pickle.loads(pickle.dumps(state))
    assert (copy.missing, copy.unjudged, list(copy.resolved)) == (4, {}, ["coarse"])
    pd.testing.assert_frame_equal(copy.rows, state.rows)


@pytest.mark.parametrize("profile", [profiles.performance_profile, profiles.data_profile])
def test_profiles_leave_out_problems_that_do_not_resolve_the_target(half: Runs, profile: Any) -> None:
    alone = Runs(half.rows[half.rows["problem"] == "fine"].reset_index(drop=True))
    pd.testing.assert_frame_equal(profile(half, 1e-4), profile(alone, 1e-4))
    assert len(profile(half, 1e-2)) > len(profile(alone, 1e-2))


def test_the_heat_map_has_no_target_where_it_is_not_resolved(half: Runs) -> None:
    status = {target: profiles.relative_calls(half, target).set_index(["problem", "method"]) for target in (1e-2, 1e-4)}
    assert set(status[1e-2]["status"]) == {"reached"}
    assert status[1e-4]["status"].to_dict() == {
        (problem, method): "no target" if problem == "coarse" else "reached"
        for problem in ("coarse", "fine")
        for method in "ab"
    }
    assert status[1e-4].loc["coarse", ["calls", "ratio"]].isna().all(axis=None)
    assert status[1e-4].loc["coarse", "reached"].tolist() == [0, 0]


def test_the_ecdf_and_the_areas_count_the_resolved_targets_alone(half: Runs) -> None:
    end = profiles.ecdf(half).groupby("method")["share"].max()
    assert end["b"] == pytest.approx(1.0)
    assert end["a"] == pytest.approx((1 + (PLACE - 5) / PLACE) / 2)
    area = ranking.areas(half).set_index(["problem", "method"])["area"]  # of 100 calls
    assert area["coarse", "b"] == pytest.approx(np.log10(100 / FINE))
    assert area["coarse", "a"] == pytest.approx(np.log10(100 / 10) * (PLACE - 5) / PLACE)
    assert ranking.ranking(half)["rank"].tolist() == [1.25, 1.75]  # a tie on "fine"


def test_no_column_of_calls_has_a_target_that_is_not_resolved(half: Runs) -> None:
    table = metrics.calls_by_target(half)
    assert table.groupby("problem")["target"].min().to_dict() == pytest.approx({"coarse": 1e-3, "fine": 1e-10})
    assert metrics.summary(half).set_index(["problem", "method"])["reached_1e-04"]["coarse"].tolist() == [0, 0]


def test_a_summary_tells_what_is_missed_from_what_does_not_count() -> None:
    """'–' is a miss, 'n/a' a target that does not count; a column without any number is left out."""
    cannot = [*[10.0] * 5, *[np.inf] * (PLACE + 1 - 5), *[np.nan] * (49 - PLACE)]
    table = tables.summary_table(
        runs_of(
            *(target_row("a", "coarse", seed, cannot, precision="float32") for seed in range(3)),
            *(target_row("a", "fine", seed, FINE) for seed in range(3)),
        )
    ).set_index("problem")
    assert table.loc["coarse", ["calls to 1e-2", "calls to 1e-4", "calls to 1e-8"]].tolist() == ["–", "–", "n/a"]
    assert table.loc["fine", "calls to 1e-8"] == "20"
    alone = tables.summary_table(runs_of(target_row("a", "coarse", 0, COARSE, precision="float32")))
    assert "calls to 1e-8" not in alone


def test_tuning_prefers_no_setting_for_a_target_that_a_seed_cannot_resolve() -> None:
    """The deepest target of the setting with a step size of 1 is resolved on two of three seeds only."""
    deep, shallow = [*[9.0] * 30, *[np.nan] * 20], [*[9.0] * 25, *[np.nan] * 25]
    rows = [
        target_row("a", "p", seed, calls, step_size=lr, settings=f'{{"lr": {lr}}}')
        for lr, of_seeds in ((1.0, [deep, deep, shallow]), (2.0, [[8.0] * 25] * 3))
        for seed, calls in enumerate(of_seeds)
    ]
    assert tuning.tuned(runs_of(*rows))[["step_size", "hardest", "calls"]].to_numpy().tolist() == [[2.0, -24.0, 8.0]]


def test_a_failed_run_misses_only_targets_that_count(half: Runs) -> None:
    failed: dict[str, Any] = {"f_start": None, "f_end": None, "f_best": None, "f_star": None, "calls_to_target": None}
    failed |= {"status": "failed", "error": "no luck", "end": None, "calls_per_step": None}
    rows = [target_row("c", problem, seed, None, **failed) for problem in ("coarse", "fine") for seed in range(3)]
    grid = run_grid(half + runs_of(*rows))
    calls = grid.calls_to_target[grid.methods.index("c")]  # (P, S, 50)
    assert np.isinf(calls[grid.problems.index("fine")]).all()
    assert np.isinf(calls[grid.problems.index("coarse"), :, :PLACE]).all()
    assert np.isnan(calls[grid.problems.index("coarse"), :, PLACE:]).all()


def test_a_problem_without_any_resolved_target_has_none() -> None:
    none = [target_row(method, "flat", seed, [np.nan] * 50) for method in "ab" for seed in range(2)]
    runs = runs_of(*none, *(target_row(method, "fine", 0, FINE) for method in "ab"))
    (entry,) = validity.judged(runs).unjudged.values()
    assert (entry.problem, entry.runs, entry.is_wrong) == ("flat", 0, False)
    assert complete_set(runs).problems == ("fine",)
    assert complete_set(runs).left_out == (("flat", entry.why),)
    leader = tables.leaders(runs)[1]
    assert (leader.problem, leader.goal.partition(" within")[0]) == ("flat", "smallest objective")


def test_an_invalid_run_leaves_its_problem_out() -> None:
    """It reaches nothing, whatever was stored; the runs that seem to be right are not judged either."""
    good = [target_row(method, "fine", seed, FINE) for method in "ab" for seed in range(2)]
    rows = [target_row("a", "bad", 0, FINE, f_end=-1.0, f_best=-1.0, **INVALID)]
    rows += [target_row("b", "bad", seed, FINE) for seed in range(2)]
    runs = runs_of(*good, *rows)
    (entry,) = validity.judged(runs).unjudged.values()
    assert (entry.problem, entry.runs, entry.is_wrong, entry.reason) == ("bad", 1, True, INVALID["error"])
    assert complete_set(runs).problems == ("fine",)
    assert complete_set(runs).left_out == (("bad", "contradicts itself in 1 run"),)
    assert ranking.ranking(runs)["problems"].tolist() == [1, 1]
    relative = profiles.relative_calls(runs).set_index(["problem", "method"])
    assert relative.loc["bad", "status"].tolist() == ["no target"] * 2
    assert relative.loc["bad", "reached"].tolist() == [0, 0]
    summary = metrics.summary(runs).set_index(["problem", "method"])
    assert summary["invalid"].to_dict() == {("bad", "a"): 1, ("bad", "b"): 0, ("fine", "a"): 0, ("fine", "b"): 0}
    assert summary.loc[("bad", "a"), "final"] == np.inf  # as a run that diverged
    assert not summary.loc["bad", "gap"].any()
    assert set(metrics.calls_by_target(runs)["problem"]) == {"fine"}
    shown = tables.summary_table(runs).set_index(["problem", "method"])["invalid"]
    assert shown.to_dict() == {("bad", "a"): "1 of 1", ("bad", "b"): "0", ("fine", "a"): "0", ("fine", "b"): "0"}
    assert "invalid" not in tables.summary_table(runs_of(*good))
    leader = tables.leaders(runs)[0]
    assert (leader.problem, leader.methods, leader.result) == ("bad", (), "–")
    assert leader.remark == "it contradicts itself in 1 run"


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("times", "is_wrong"), [(0.5, False), (2.0, True)])
def test_only_a_value_further_below_the_bound_than_rounding_contradicts(
    precision: str, times: float, is_wrong: bool
) -> None:
    room = 64 * float(np.finfo(precision).eps)  # values are near 1
    optimum = {"f_star": 0.5, "f_star_lower": 0.25}
    best = 0.25 - times * room
    state = validity.judged(runs_of(target_row("a", "p", 0, FINE, f_best=best, precision=precision, **optimum)))
    assert [entry.is_wrong for entry in state.unjudged.values()] == [True] * is_wrong
    assert state.rows["f_star"].isna().all() == is_wrong


@pytest.mark.parametrize(
    ("others", "stated"),
    [
        ({"f_star": 0.25}, "0 and 0.25"),  # another value
        ({"f_star": 0.25, "f_star_lower": 0.125}, "0 and 0.25"),  # an interval that excludes the value
        ({"f_star": None, "calls_to_target": None}, "0 and none"),  # only some know it
        ({"f_star": 0.25, "f_star_lower": 0.0}, ""),  # an interval with the value
        ({"f_star": 1e-15}, ""),  # the same but for rounding
        ({"f_star": None, "calls_to_target": None, "status": "failed", "error": "no luck"}, ""),
    ],
)
def test_rows_with_different_optima_are_not_mixed(others: dict[str, Any], stated: str) -> None:
    rows = [target_row("a", "p", seed, FINE) for seed in range(2)]
    state = validity.judged(runs_of(*rows, target_row("b", "p", 0, FINE, **others)))
    if not stated:
        assert state.unjudged == {}
        return
    (entry,) = state.unjudged.values()
    assert (entry.runs, entry.is_wrong) == (0, True)
    assert entry.why == f"has rows with different optimal values, {stated}, of different code"
    assert state.rows["f_star"].isna().all()
    assert np.isnan(np.array(list(state.rows["calls_to_target"]))).all()
    assert complete_set(state).problems == ()


def test_nothing_is_judged_of_no_runs() -> None:
    state = validity.judged(runs_of())
    assert (len(state), state.unjudged, state.resolved) == (0, {}, {})
    assert validity.calls_to_target(state.rows).shape == (0, len(TARGETS))
