"""Profiles and ranks: known results, and loops that follow the definitions, for rows written by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from optbench.analysis import grid, metrics, profiles, ranking, statistics, tuning
from optbench.core.errors import InputError
from optbench.results.runs import Runs
from tests.rows import target_row as row

Calls = Mapping[tuple[str, str], Sequence[Any]]  # (method, problem) -> calls to the targets of every seed


def runs_with(calls_of: Calls, **more: Any) -> Runs:
    return Runs.from_rows(
        [row(m, p, seed, calls, **more) for (m, p), seeds in calls_of.items() for seed, calls in enumerate(seeds)]
    )


def from_matrix(times: Sequence[Sequence[float]], names: str = "ABC") -> Runs:
    """One seed; rows of `times` are problems, columns methods, and all targets take the same calls."""
    return runs_with({(names[e], f"p{p}"): [t] for p, line in enumerate(times) for e, t in enumerate(line)})


GOULD_SCOTT = [[1, 8, 3], [6, 3, 3], [2, 4, 7]]


def share(table: Any, method: str, column: str, at: float) -> float:
    """The value of a step function of a table at a point."""
    steps = table[table["method"] == method]
    return float(steps.loc[steps[column] <= at, "share"].iloc[-1])


def test_performance_profiles_change_their_order_with_the_set_of_methods() -> None:
    runs = from_matrix(GOULD_SCOTT)
    every = profiles.performance_profile(runs)
    assert share(every, "B", "ratio", 2) == pytest.approx(2 / 3)
    assert share(every, "C", "ratio", 2) == pytest.approx(1 / 3)
    without = profiles.performance_profile(runs, among=["B", "C"])
    assert share(without, "C", "ratio", 1) == pytest.approx(2 / 3)
    assert share(without, "B", "ratio", 1) == pytest.approx(2 / 3)
    assert share(without, "C", "ratio", 1.8) == pytest.approx(1.0)
    assert share(without, "B", "ratio", 1.8) == pytest.approx(2 / 3)


def test_ties_are_all_best_and_a_problem_that_all_missed_still_counts() -> None:
    table = profiles.performance_profile(from_matrix([[5, 5], [np.inf, np.inf], [4, 8]], "AB"))
    assert share(table, "A", "ratio", 1) == pytest.approx(2 / 3)
    assert share(table, "B", "ratio", 1) == pytest.approx(1 / 3)
    assert share(table, "A", "ratio", 1e9) == pytest.approx(2 / 3)
    assert share(table, "B", "ratio", 2) == pytest.approx(2 / 3)


def test_half_of_the_seeds_is_a_miss() -> None:
    runs = runs_with({("A", "p"): [3, 3, np.inf, np.inf], ("B", "p"): [9, 9, 9, np.inf]})
    table = profiles.relative_calls(runs).set_index("method")
    assert table["status"].to_dict() == {"A": "missed", "B": "reached"}
    assert table.loc["A", ["calls", "ratio", "reached", "seeds"]].tolist() == [np.inf, np.inf, 2, 4]
    assert table.loc["B", ["calls", "ratio", "reached", "seeds"]].tolist() == [9, 1, 3, 4]
    assert share(profiles.data_profile(runs), "A", "calls", 1e9) == 0


def test_relative_calls_mark_missing_runs_and_targets() -> None:
    runs = runs_with({("A", "p"): [4], ("B", "p"): [2], ("A", "q"): [7], ("B", "r"): [None]})
    table = profiles.relative_calls(runs).set_index(["method", "problem"])
    assert table["status"].to_dict() == {
        ("A", "p"): "reached", ("A", "q"): "reached", ("A", "r"): "not run",
        ("B", "p"): "reached", ("B", "q"): "not run", ("B", "r"): "no target",
    }  # fmt: skip
    assert table.loc[("A", "p"), "ratio"] == 2
    assert table.loc[[("B", "q"), ("B", "r")], ["calls", "ratio"]].isna().all(axis=None)


def test_a_failed_run_is_a_miss_even_without_its_optimum() -> None:
    lost = row("A", "p", 0, None, status="failed", calls_per_step=None, calls_to_target=None)
    runs = Runs.from_rows([lost, row("A", "p", 1, 5), row("B", "p", 0, 5), row("B", "p", 1, 5)])
    table = grid.tuned_runs(runs).set_index(["method", "seed"])
    assert np.isinf(table.loc[("A", 0), "calls_to_target"]).all()
    assert table.loc[("A", 0), "budget"] == 100  # known from the other run
    assert profiles.relative_calls(runs).set_index("method").loc["A", "status"] == "missed"
    only = Runs.from_rows([lost, row("B", "p", 0, 5)])
    assert ranking.ranking(only)["method"].tolist() == ["B", "A"]


def test_the_complete_set_is_the_largest_that_is_complete() -> None:
    ran = dict.fromkeys("ABC", "p q r") | {"D": "p q", "E": "r s", "F": "u"}
    calls_of = {(m, p): [None if p == "u" else 3] for m, where in ran.items() for p in where.split()}
    complete = grid.complete_set(runs_with(calls_of))
    assert complete.methods == ("A", "B", "C")
    assert complete.problems == ("p", "q", "r")
    assert dict(complete.left_out) == {
        "s": "was run by only 1 of 6 methods", "u": "has no known optimum, so it has no targets",
        "D": "did not run on r", "E": "did not run on p and q", "F": "did not run on p, q and 1 more",
    }  # fmt: skip


def test_a_problem_of_many_others_does_not_break_the_complete_set() -> None:
    calls_of = {(m, p): [3] for m in "ABCD" for p in "pqr"} | {(m, "s"): [3] for m in "AEFGHIJ"}
    complete = grid.complete_set(runs_with(calls_of))
    assert (complete.methods, complete.problems) == (("A", "B", "C", "D"), ("p", "q", "r"))


def test_the_complete_set_prefers_more_problems_and_wants_two_methods() -> None:
    # 4 methods on p alone, or 2 on p and q
    tie = {("A", "p"): [1], ("B", "p"): [1], ("C", "p"): [1], ("D", "p"): [1], ("A", "q"): [1], ("B", "q"): [1]}
    assert grid.complete_set(runs_with(tie)).problems == ("p", "q")
    # A alone has 3 problems, A and B have 1
    single = {("A", p): [1] for p in "pqr"} | {("B", "p"): [1]}
    assert grid.complete_set(runs_with(single)).methods == ("A", "B")
    assert grid.complete_set(runs_with({("A", p): [1] for p in "pqr"})).problems == ("p", "q", "r")


def test_ecdf_of_a_few_targets() -> None:
    runs = runs_with({("A", "p"): [[1.0, 2.0, 4.0], [2.0]], ("B", "p"): [[], []]})
    table = profiles.ecdf(runs)
    a = table[table["method"] == "A"]
    assert a["calls"].tolist() == [1, 2, 4]
    assert a["share"].tolist() == pytest.approx([0.01, 0.03, 0.04])
    assert (table["method"] == "B").sum() == 0
    at = profiles.ecdf(runs, at=np.array([0.5, 2.0, 1e6]))
    assert at["share"].tolist() == pytest.approx([0, 0.03, 0.04, 0, 0, 0])


def test_targets_below_which_every_run_starts_do_not_count() -> None:
    below = [1.0] * 25 + [5.0] * 25
    runs = runs_with({("A", "p"): [below], ("B", "p"): [[1.0] * 25 + [10.0] * 25]})
    table = profiles.ecdf(runs, at=np.array([1.0, 5.0, 10.0]))
    assert table["share"].tolist() == [0, 1, 1, 0, 0, 1]
    area = ranking.areas(runs).set_index("method")["area"]
    assert area.to_dict() == pytest.approx({"A": math.log10(100 / 5), "B": math.log10(100 / 10)})
    all_solved = runs_with({("A", "p"): [1.0], ("B", "p"): [1.0]})
    assert profiles.ecdf(all_solved, at=np.array([1.0]))["share"].tolist() == [0, 0]
    assert ranking.ranking(all_solved)["rank"].tolist() == [1.5, 1.5]


def test_areas_end_at_the_common_budget() -> None:
    rows = [row("A", "p", 0, 10), row("B", "p", 0, [10.0] * 25 + [150.0] * 25, steps=999)]
    area = ranking.areas(Runs.from_rows(rows)).set_index("method")
    assert area["budget"].tolist() == [100, 100]
    assert area["area"].to_dict() == pytest.approx({"A": 1.0, "B": 0.5})
    assert area["rank"].to_dict() == {"A": 1, "B": 2}


def test_batch_sizes_of_one_optimizer_are_one_method() -> None:
    rows = []
    for name in ("adam", "sgd"):
        rows += [row(name, "quadratic", 0, 7), row(name, "digits", 0, 3, batch_size=64)]
    complete = grid.complete_set(Runs.from_rows(rows))
    assert complete.methods == ("adam", "sgd")
    assert complete.problems == ("digits", "quadratic")


def random_runs(rng: np.random.Generator) -> Runs:
    """Misses, unequal numbers of seeds, a problem without an optimum, a missing pair, two settings, a failed run."""
    rows = []
    for e, method in enumerate("ABCDE"):
        for p in range(4):
            if (e, p) == (4, 2):
                continue
            for seed in range(5 - (e + p) % 3):
                for lr in (0.1, 1.0):
                    depth = int(rng.integers(0, 51))
                    calls = np.sort(rng.choice([1.5, 2, 3, 5, 8, 20, 80, 99, 130], size=depth)).tolist()
                    more = {"settings": json.dumps({"lr": lr}), "step_size": lr, "steps": 99 + 50 * e}
                    if (e, p, seed, lr) == (1, 1, 0, 0.1):
                        more |= {"status": "failed", "calls_to_target": None, "calls_per_step": None}
                    rows.append(row(method, f"p{p}", seed, None if p == 3 else calls, **more))
    return Runs.from_rows(rows)


@pytest.fixture(params=range(5))
def ragged(request: pytest.FixtureRequest) -> Runs:
    return random_runs(np.random.default_rng(request.param))


def calls_by_hand(runs: Runs) -> dict[tuple[str, str], list[list[float]]]:
    """(method, problem) -> calls to the targets of every seed, in a loop over the stored rows."""
    best = {(t.problem, t.method): t.settings for t in tuning.tuned(runs).itertuples()}
    result: dict[tuple[str, str], list[list[float]]] = {}
    for r in runs.rows.to_dict("records"):
        if r["settings"] == best[r["problem"], r["method"]] and r["problem"] != "p3":
            calls_of = r["calls_to_target"] if r["calls_to_target"] is not None else [math.inf] * 50
            result.setdefault((r["method"], r["problem"]), []).append(list(calls_of))
    return result


def median_by_hand(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("target", metrics.SHOWN_TARGETS)
def test_profiles_equal_loops(ragged: Runs, target: float) -> None:
    calls_of, complete = calls_by_hand(ragged), grid.complete_set(ragged)
    assert complete.problems in {("p0", "p1"), ("p0", "p1", "p2")}
    k = tuning.target_index(target)
    times = {key: median_by_hand([h[k] for h in seeds]) for key, seeds in calls_of.items()}
    relative = profiles.relative_calls(ragged, target).set_index(["method", "problem"])
    for (e, p), t in times.items():
        best = min(times[key] for key in times if key[1] == p)
        assert relative.loc[(e, p), "calls"] == t
        assert relative.loc[(e, p), "ratio"] == (t / best if t < math.inf else math.inf)
        assert relative.loc[(e, p), "reached"] == sum(h[k] < math.inf for h in calls_of[e, p])
    performance, data = profiles.performance_profile(ragged, target), profiles.data_profile(ragged, target)
    for e in complete.methods:
        for point in (1.0, 1.5, 2.0, 5.0, 40.0, 1e6):
            near = within = 0
            for p in complete.problems:
                best = min(times[other, p] for other in complete.methods)
                near += times[e, p] < math.inf and times[e, p] <= point * best
                within += times[e, p] <= point
            assert share(performance, e, "ratio", point) == pytest.approx(near / len(complete.problems))
            first = data[data["method"] == e]["calls"].iloc[0]
            got = share(data, e, "calls", point) if point >= first else 0.0
            assert got == pytest.approx(within / len(complete.problems))


def test_ecdf_and_areas_are_what_loops_say(ragged: Runs) -> None:
    calls_of, complete = calls_by_hand(ragged), grid.complete_set(ragged)
    points = np.array([0.5, 1, 2, 7, 80, 99, 130, 1e6])
    ecdf = profiles.ecdf(ragged, at=points).set_index(["method", "calls"])["share"]
    areas = ranking.areas(ragged).set_index(["method", "problem"])
    for e in complete.methods:
        for point in points:
            parts = []
            for p in complete.problems:
                triples = [h <= point for seed in calls_of[e, p] for h in seed]
                parts.append(Fraction(sum(triples), len(triples)))
            assert ecdf[e, point] == pytest.approx(float(sum(parts) / len(parts)))
        for p in complete.problems:
            budget = min(100 + 50 * "ABCDE".index(name) for name in complete.methods)
            gains = [math.log10(budget / min(h, budget)) for seed in calls_of[e, p] for h in seed]
            assert areas.loc[(e, p), "area"] == pytest.approx(sum(gains) / len(gains))
    for p in complete.problems:
        area = areas.xs(p, level="problem")["area"]
        for e in complete.methods:
            others = area.drop(e) - area[e]
            level = others.abs() < 1e-9
            assert areas.loc[(e, p), "rank"] == 1 + (others[~level] > 0).sum() + level.sum() / 2


def test_ranking_is_the_mean_of_the_ranks(ragged: Runs) -> None:
    table = ranking.ranking(ragged).set_index("method")
    mean = ranking.areas(ragged).groupby("method")["rank"].mean()
    assert table["rank"].to_dict() == pytest.approx(mean.to_dict())
    assert table["rank"].is_monotonic_increasing
    assert table.index.tolist() == ranking.ranked_methods(ragged)
    assert (table["low"] <= table["high"]).all()
    assert table["first"].sum() == pytest.approx(1)
    assert table["rank"].sum() == pytest.approx(len(table) * (len(table) + 1) / 2)
    assert table.equals(ranking.ranking(ragged).set_index("method"))
    two = ranking.ranking(ragged, among=tuple(table.index[:2]))
    assert two["rank"].sum() == 3


def test_the_bootstrap_equals_a_loop_with_the_same_numbers(rng: np.random.Generator) -> None:
    E, P, S, B = 4, 3, 5, 40
    areas = rng.integers(0, 6, size=(E, P, S)).astype(float)
    seeds = rng.integers(1, S + 1, size=(E, P))
    result = statistics.resampled_mean_ranks(areas, seeds, B, 7)
    again = np.random.default_rng(7)
    expected = np.zeros((E, B))
    for _ in range(P):
        problems, u = again.integers(P, size=B), again.random((S, B))
        for b, p in enumerate(problems):
            means = [np.mean([areas[e, p, int(u[s, b] * seeds[e, p])] for s in range(seeds[e, p])]) for e in range(E)]
            for e in range(E):
                ties = sum(np.isclose(m, means[e]) for m in means)
                expected[e, b] += (sum(m > means[e] + 1e-9 for m in means) + (ties + 1) / 2) / P
    assert result == pytest.approx(expected, abs=1e-12)


def test_a_method_that_always_leads_is_first_in_every_resample() -> None:
    times = {("A", f"p{p}"): [2, 3] for p in range(6)} | {("B", f"p{p}"): [5, 6] for p in range(6)}
    table = ranking.ranking(runs_with(times))
    assert table["method"].tolist() == ["A", "B"]
    assert table[["rank", "low", "high", "first"]].to_numpy().tolist() == [[1, 1, 1, 1], [2, 2, 2, 0]]
    assert table.loc[0, ["ahead", "behind", "beats_next"]].tolist() == [6, 0, 1]
    assert table.loc[0, "p_next"] == 2 ** (1 - 6)
    assert table.loc[1, ["ahead", "behind", "beats_next", "p_next"]].isna().all()


def test_a_miss_costs_a_rank_and_is_not_averaged_away() -> None:
    # A is fast on two seeds and misses on two; B is slow on all: the mean of A's calls, misses dropped, would be smaller
    table = ranking.areas(runs_with({("A", "p"): [20, 20, np.inf, np.inf], ("B", "p"): [40, 40, 40, 40]}))
    areas = table.set_index("method")["area"]
    assert areas["A"] == pytest.approx(math.log10(100 / 20) / 2)
    assert areas["B"] == pytest.approx(math.log10(100 / 40))
    assert areas["B"] > areas["A"]


def test_one_method_one_problem_one_seed() -> None:
    runs = runs_with({("A", "p"): [4]})
    assert grid.complete_set(runs).methods == ("A",)
    (line,) = ranking.ranking(runs).itertuples()
    assert (line.rank, line.low, line.high, line.first) == (1, 1, 1, 1)
    assert share(profiles.performance_profile(runs), "A", "ratio", 1) == 1
    assert profiles.ecdf(runs)["share"].tolist() == [1]


def test_all_missed() -> None:
    runs = runs_with({("A", "p"): [[], []], ("B", "p"): [[], []]})
    assert (profiles.relative_calls(runs)["status"] == "missed").all()
    for table in (profiles.performance_profile(runs), profiles.data_profile(runs)):
        assert table["share"].tolist() == [0, 0]
    assert profiles.ecdf(runs).empty
    table = ranking.ranking(runs)
    assert table["rank"].tolist() == [1.5, 1.5]
    assert table["first"].tolist() == [0.5, 0.5]
    assert table.loc[0, ["beats_next", "p_next"]].tolist() == [0.5, 1]


def test_all_failed() -> None:
    lost = {"status": "failed", "calls_per_step": None, "oracle": None, "calls_to_target": None}
    table = ranking.ranking(Runs.from_rows([row(m, "p", 0, 9, **lost) for m in "AB"]))
    assert table["rank"].tolist() == [1.5, 1.5]


def test_only_methods_of_the_complete_set_can_be_ranked() -> None:
    runs = from_matrix(GOULD_SCOTT)
    for function in (ranking.ranking, profiles.performance_profile):
        with pytest.raises(InputError, match="'Z' is not one of the compared methods: A, B, C"):
            function(runs, among=("A", "Z"))


@pytest.mark.parametrize("runs", [Runs.from_rows([]), runs_with({("A", "p"): [None], ("B", "p"): [None]})])
def test_without_targets_tables_are_empty_and_have_their_columns(runs: Runs) -> None:
    complete = grid.complete_set(runs)
    assert complete.problems == ()
    tables = (profiles.performance_profile, profiles.data_profile, profiles.ecdf, ranking.areas, ranking.ranking)
    for function in tables:
        table = function(runs)
        assert table.empty
        assert "method" in table.columns
    assert ranking.ranked_methods(runs) == []
    assert set(profiles.relative_calls(runs)["status"]) <= {"no target"}
    assert "calls_to_target" in grid.tuned_runs(runs).columns
