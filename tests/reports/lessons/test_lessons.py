"""Lessons: their numbers are recomputed, their commands reproduce them, and they appear where their runs exist."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reports
from optbench.analysis import tuning
from optbench.cli import main
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.study import load_study
from reports.lessons import LESSONS, Lesson
from reports.page.context import PageContext
from reports.sections import landscapes
from reports.sections import lessons as lessons_section
from reports.wording import notation, number
from tests.reports.conftest import page_of

VALLEY, BATCHES = "valley:condition=50", "logistic:data=breast_cancer,l2=1"
DECAY = "logistic:data=breast_cancer,l2=0,test_fraction=0.5"
OPTIMIZERS = ("gradient_descent", "momentum", "adam", "adam_uncorrected", "newton")


def suite() -> dict[str, Any]:
    """The blocks of the default suite that lessons need, with few landscapes and methods."""
    text = (resources.files("optbench.runner") / "suites" / "default.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    selected = []
    for table in content["compare"]:
        if "beale" in table["problems"]:
            selected.append(table | {"problems": ["strict_saddle", "valley", "beale"], "optimizers": list(OPTIMIZERS)})
        elif {VALLEY, BATCHES, DECAY} & set(table["problems"]):
            selected.append(table)
    return content | {"compare": selected}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    path = tmp_path_factory.mktemp("lessons")
    execute(load_study(suite(), seeds=2).plans, store=Store(path))
    return Store(path).load()


@pytest.fixture(scope="module")
def lessons(runs: Runs) -> dict[str, Lesson]:
    return {lesson.name: lesson for lesson in reports.find_lessons(runs)}


def tuned(runs: Runs, problem: str, optimizer: str) -> list[dict[str, Any]]:
    rows = tuning.tuned_rows(runs)
    records: list[dict[str, Any]] = rows[(rows["problem"] == problem) & (rows["optimizer"] == optimizer)].to_dict(
        "records"
    )
    return records


def text_of(lesson: Lesson) -> str:
    return " ".join([lesson.takeaway, *lesson.points])


def upper_median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def test_the_default_suite_has_all_lessons(lessons: dict[str, Lesson]) -> None:
    assert list(lessons) == list(LESSONS)
    for lesson in lessons.values():
        assert lesson.drawings
        assert len(lesson.table)
        assert lesson.question.endswith("?")
        assert not {"nan", "inf"} & set(text_of(lesson).split())
        assert lesson.command.endswith("optbench report lesson")
        assert all(len(drawing.label) > 40 and drawing.caption for drawing in lesson.drawings)


def test_valley_counts_crossings_and_steps(runs: Runs, lessons: dict[str, Lesson]) -> None:
    angle = np.radians(30)
    for optimizer in ("gradient_descent", "momentum"):
        steps, crossings = [], []
        for row in tuned(runs, VALLEY, optimizer):
            gaps = np.array(row["f"])  # f* = 0
            steps.append(next(t for t, gap in enumerate(gaps) if gap <= 1e-4 * gaps[0]))
            points = dict(row["metrics"])
            v = [np.cos(angle) * y - np.sin(angle) * x for x, y in zip(points["x_1"], points["x_2"], strict=True)]
            crossings.append(sum(a * b < 0 for a, b in itertools.pairwise(v[: steps[-1] + 1])))
        assert f"takes {upper_median(steps)} steps" in text_of(lessons["valley"])
        assert re.search(rf"crosses (the floor )?in {upper_median(crossings)} of ", text_of(lessons["valley"]))
    assert f"((κ − 1)/(κ + 1))² = {number((49 / 51) ** 2)}," in text_of(lessons["valley"])


def test_saddle_counts_steps(runs: Runs, lessons: dict[str, Lesson]) -> None:
    for optimizer, words in (
        ("gradient_descent", "Gradient descent (step size lr = 0.1) leaves after {} steps"),
        ("adam", "Adam (lr = 0.1) leaves after {} steps"),
        ("newton", "Newton leaves after {} steps"),
    ):
        rows = tuned(runs, "strict_saddle", optimizer)
        left = [next(t for t, y in enumerate(dict(row["metrics"])["x_2"]) if abs(y) >= 0.5) for row in rows]
        assert words.format(upper_median(left)) in text_of(lessons["saddle"])
    lr = tuned(runs, "strict_saddle", "gradient_descent")[0]["step_size"]
    assert f"= {number(np.log(500) / np.log(1 + lr))} steps" in text_of(lessons["saddle"])


def test_momentum_leaves_the_saddle_as_fast_as_the_formula_says() -> None:
    from reports.lessons.landscapes import growth

    y, v, lr, beta = 1e-9, 0.0, 0.03, 0.9
    for _ in range(400):
        before, v = y, beta * v - y
        y = y - lr * v
    assert y / before == pytest.approx(growth("momentum", {"lr": lr, "beta": beta}), rel=1e-9)


def test_bias_measures_first_steps(runs: Runs, lessons: dict[str, Lesson]) -> None:
    rows = runs.rows[runs.rows["optimizer"].isin(["adam", "adam_uncorrected"])]
    first: dict[str, list[float]] = {"adam": [], "adam_uncorrected": []}
    for row in rows.to_dict("records"):
        points = dict(row["metrics"])
        move = max(abs(points[name][1] - points[name][0]) for name in ("x_1", "x_2"))
        first[row["optimizer"]].append(move / row["step_size"])
    np.testing.assert_allclose(first["adam"], 1, rtol=1e-4)
    np.testing.assert_allclose(first["adam_uncorrected"], 0.1 / np.sqrt(0.001), rtol=1e-4)
    assert "Measured on 3 problems: 1 lr and 3.16 lr." in text_of(lessons["bias"])


def test_decay_counts_good_settings(runs: Runs, lessons: dict[str, Lesson]) -> None:
    judged: dict[tuple[str, str], list[float]] = {}
    for row in runs.rows[runs.rows["problem"] == DECAY].to_dict("records"):
        accuracy = dict(row["metrics"])["test_accuracy"]
        value = 0.0 if row["status"] == "diverged" else accuracy[-1]
        judged.setdefault((row["optimizer"], row["settings"]), []).append(value)
    medians = {key: float(np.median(values)) for key, values in judged.items()}
    best = max(medians.values())
    near = {
        name: sum(v >= best - 0.01 for (who, _), v in medians.items() if who == name) for name in ("adam_l2", "adamw")
    }
    assert f"The best accuracy on test data is {100 * best:.1f} %." in text_of(lessons["decay"])
    assert f"at {near['adamw']} of 63 settings, Adam with l2 at {near['adam_l2']}." in lessons["decay"].takeaway


def test_noise_fits_the_slope(runs: Runs, lessons: dict[str, Lesson]) -> None:
    rows = runs.rows[(runs.rows["problem"] == BATCHES) & (runs.rows["steps"] == 1000)]
    floors = {}
    for size, group in rows.groupby("batch_size"):
        late = [[f - row.f_star for t, f in zip(row.t, row.f, strict=True) if t > 500] for row in group.itertuples()]
        floors[int(size)] = upper_median([sum(gaps) / len(gaps) for gaps in late])
    slope = np.polyfit(np.log(list(floors)), np.log(list(floors.values())), 1)[0]
    assert f"Measured: slope −{-slope:.2f} over all batch sizes" in text_of(lessons["noise"])
    stalls = f"at {number(floors[4])} with batch size b = 4, at {number(floors[256])} with b = 256"
    assert stalls in lessons["noise"].takeaway


def test_scaling_compares_batches_at_equal_epochs(runs: Runs, lessons: dict[str, Lesson]) -> None:
    rows = runs.rows[(runs.rows["problem"] == BATCHES) & ~runs.rows["steps"].isin([400, 1000])]
    spread = []
    for scaled in (False, True):
        gaps = []
        for size in (4, 16, 64, 256):
            lr = 0.01 * (size / 4 if scaled else 1)
            group = rows[(rows["batch_size"] == size) & np.isclose(rows["step_size"], lr)]
            values = [
                np.exp(np.interp(1.0, np.array(row.t) * row.calls_per_step, np.log(np.array(row.f) - row.f_star)))
                for row in group.itertuples()
            ]
            gaps.append(upper_median(values))
        spread.append(max(gaps) / min(gaps))
    assert spread[1] < spread[0]
    one, scaled_to_batch = (f"a factor of {number(ratio)}" for ratio in spread)
    assert f"differ by {one} after one epoch" in text_of(lessons["scaling"])
    assert f"differ by {scaled_to_batch}, instead of {one} with" in lessons["scaling"].takeaway


def test_schedules_are_judged_by_their_last_iterate(runs: Runs, lessons: dict[str, Lesson]) -> None:
    rows = runs.rows[(runs.rows["problem"] == BATCHES) & (runs.rows["steps"] == 400)]
    best: dict[str, float] = {}
    for (schedule, _), group in rows.groupby(["schedule", "step_size"]):
        gap = upper_median([row.f[-1] - row.f_star if row.status == "budget" else np.inf for row in group.itertuples()])
        best[schedule] = min(best.get(schedule, np.inf), gap)
    assert set(best) == {"constant", "drops", "cosine", "linear", "inverse_sqrt:shift=100"}
    for name, gap in best.items():
        assert f"{name} {notation(best.values())(gap)} (" in text_of(lessons["schedules"])


def test_differences_find_the_best_step(runs: Runs, lessons: dict[str, Lesson]) -> None:
    lesson = lessons["differences"]
    assert {"beale", BATCHES, DECAY} == set(lesson.problems)  # the others are quadratic, or nearly, where they start
    for kind in ("forward", "central"):
        at = []
        for problem in lesson.problems:
            differences = json.loads(runs.rows.loc[runs.rows["problem"] == problem, "description"].iloc[0])[
                "differences"
            ]
            at.append(differences["h"][int(np.argmin(differences[kind]))])
        assert f"{number(float(np.median(at)))} (error" in text_of(lesson)
    counted = lesson.table[lesson.table["problem"].isin(lesson.problems)]
    np.testing.assert_allclose(counted["forward_truncation"], 1, atol=0.1)
    np.testing.assert_allclose(counted["central_truncation"], 2, atol=0.1)


@pytest.mark.parametrize("name", ["valley", "scaling"])
def test_commands_reproduce_the_lesson(
    name: str, lessons: dict[str, Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in lessons[name].command.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line)
        assert program == "optbench"
        assert main(words) == 0
    again = {lesson.name: lesson for lesson in reports.find_lessons(Store("lesson").load())}
    assert text_of(again[name]) == text_of(lessons[name])
    assert f'id="lesson-{name}"' in Path("lesson/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("lesson", "column", "value"),
    [
        ("valley", "optimizer", "momentum"),
        ("saddle", "problem_name", "strict_saddle"),
        ("bias", "optimizer", "adam_uncorrected"),
        ("decay", "optimizer", "adamw"),
        ("noise", "optimizer", "sgd"),
        ("scaling", "batch_size", 256),
        ("schedules", "steps", 400),
    ],
)
def test_a_lesson_without_its_runs_is_left_out(runs: Runs, lesson: str, column: str, value: Any) -> None:
    selected = runs.rows[~(runs.rows[column] == value).fillna(False).astype(bool)]
    available = {lesson.name for lesson in reports.find_lessons(Runs(selected))}
    if lesson == "scaling":  # three sizes are enough
        assert lesson in available
        selected = selected[~(selected["batch_size"] == 64).fillna(False).astype(bool)]
        available = {lesson.name for lesson in reports.find_lessons(Runs(selected))}
    assert lesson not in available
    assert available


def test_results_of_earlier_versions_have_lessons_without_paths(runs: Runs) -> None:
    rows = runs.rows.assign(
        description=None, metrics=[[p for p in recorded if p[0][:2] != "x_"] for recorded in runs.rows["metrics"]]
    )
    assert {lesson.name for lesson in reports.find_lessons(Runs(rows))} == {"decay", "noise", "scaling", "schedules"}
    assert reports.find_lessons(Runs(rows.iloc[:0])) == []


def broken(rows: pd.DataFrame, status: str) -> pd.DataFrame:
    """Rows as if all of them had diverged after one step."""
    lists = {
        name: [np.array([recorded[0], np.nan]) for recorded in rows[name]] for name in ("f", "best", "gradient_norm")
    }
    figures = [[(name, np.array([values[0], np.nan])) for name, values in recorded] for recorded in rows["metrics"]]
    hits = [np.full(50, np.inf) if star == star else None for star in rows["f_star"]]
    times = [np.array([0, 1])] * len(rows)
    return rows.assign(
        **lists, metrics=figures, calls_to_target=hits, t=times, status=status, end=1, f_end=rows["f_start"]
    )


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_lessons_without_finite_runs(runs: Runs, status: str) -> None:
    rows = broken(runs.rows, status)
    available = {lesson.name for lesson in reports.find_lessons(Runs(rows))}
    assert "noise" not in available
    assert "schedules" not in available
    if status == "failed":
        assert not available
        return
    context = PageContext(Runs(rows))
    shown = str(landscapes.section(context)) + str(lessons_section.section(context))
    assert "steps" in shown
    assert "nan steps" not in shown
    assert "inf steps" not in shown


def test_a_seed_that_diverged_counts_as_a_miss(runs: Runs, lessons: dict[str, Lesson]) -> None:
    """The median of two seeds is the worse."""
    chosen = runs.rows[(runs.rows["problem"] == VALLEY) & (runs.rows["optimizer"] == "momentum")]
    lost = chosen[chosen["seed"] == 1]
    rows = pd.concat([runs.rows.drop(index=lost.index), broken(lost, "diverged")])
    available = {lesson.name: lesson for lesson in reports.find_lessons(Runs(rows))}
    assert "does not reach it" in text_of(available["valley"])
    assert "does not reach" not in text_of(lessons["valley"])


def test_hostile_names_stay_text(runs: Runs, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> $x_1$ \"' \x07"
    names = {
        name: runs.rows[name].replace({VALLEY: evil, "beale": f"{evil} 2"}) for name in ("problem", "problem_spec")
    }
    rows = runs.rows.assign(**names)
    available = reports.find_lessons(Runs(rows))
    assert {"valley", "differences"} <= {lesson.name for lesson in available}
    valley = next(lesson for lesson in available if lesson.name == "valley")
    assert evil in shlex.split(valley.command.replace("\\\n", " "))
    page = page_of(Runs(rows, runs.environments), tmp_path)
    assert "<script>alert" not in page
    assert page.count('<article class="lesson"') == len(available)


def test_lessons_use_the_first_of_several_stores(runs: Runs, lessons: dict[str, Lesson]) -> None:
    both = pd.concat([runs.rows.assign(store="one"), broken(runs.rows, "diverged").assign(store="two")])
    both_stores = Runs(both, [{"store": "one"}, {"store": "two"}])
    assert list(map(text_of, reports.find_lessons(both_stores))) == list(map(text_of, lessons.values()))


def test_the_page_lists_missing_lessons(runs: Runs, tmp_path: Path) -> None:
    rows = runs.rows[runs.rows["problem"].isin([VALLEY, DECAY])]
    page = page_of(Runs(rows, runs.environments), tmp_path)
    section = page[page.index('<section id="lessons"') :].partition("</section>")[0]
    assert "Not shown" in section
    assert "The linear scaling rule" in section
    assert section.count('<article class="lesson"') == 2
    other = runs.rows[runs.rows["problem"] == "beale"]
    page = page_of(Runs(other, runs.environments), tmp_path)
    assert '<section id="lessons"' in page  # Adam's first steps can be seen anywhere
    plain = other[other["optimizer"] == "newton"]
    page = page_of(Runs(plain, runs.environments), tmp_path)
    assert '<section id="lessons"' not in page
    assert 'href="#lessons"' not in page


def test_maps_of_lessons_are_not_repeated(runs: Runs, lessons: dict[str, Lesson]) -> None:
    def mapped(rows: pd.DataFrame) -> list[str]:
        section = landscapes.section(PageContext(Runs(rows)))
        return [] if section is None else [landscape.problem.name for landscape in section]

    rows = runs.rows
    assert mapped(rows) == ["beale", "strict_saddle", "valley"]
    assert mapped(rows[rows["problem"] == VALLEY]) == [VALLEY]  # nothing beside it
    # two methods that no lesson shows together
    few = (rows["problem"] != "beale") | rows["optimizer"].isin(["adam", "newton"])
    assert mapped(rows[few]) == ["strict_saddle", "valley", "beale"]


def test_ranges_of_step_sizes_are_spelled_as_they_are_read() -> None:
    from optbench.runner.options import learning_rates
    from reports.lessons.command import rates as spelled

    for given in ("1e-3:10:13", "0.1", "0.25,0.5,1,1.5", "1e-3:1:7"):
        rates = sorted(learning_rates(given))
        assert sorted(learning_rates(spelled(rates))) == rates
    assert spelled(sorted(learning_rates("1e-3:10:13"))) == "0.001:10:13"
