"""Paths over landscapes: which runs are drawn, how lines are clipped, and runs that leave the map or diverge."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import optbench
import reports
from optbench.analysis import tuning
from optbench.core.errors import InputError
from optbench.results.runs import Runs
from reports.figures import paths
from reports.page.context import PageContext, Picture
from reports.sections import landscapes
from tests.reports.conftest import page_of

PROBLEM = "beale"
SWEEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gradient_descent", {"lr": [0.001, 0.03]}),
    ("adam", {"lr": [0.3]}),
    ("newton", {}),
    ("random_search", {"scale": [1.0]}),
    ("sgd", {"lr": [100.0]}),  # diverges
)


@pytest.fixture(scope="module")
def runs() -> Runs:
    sweeps = [
        optbench.sweep(PROBLEM, name, seeds=2, steps=60, checkpoint_count=61, **settings).rows
        for name, settings in SWEEPS
    ]
    return Runs(pd.concat(sweeps, ignore_index=True))


@pytest.fixture(autouse=True)
def close() -> Any:
    yield
    plt.close("all")


def path_of(row: dict[str, Any]) -> np.ndarray:
    points = dict(row["metrics"])
    return np.column_stack([points["x_1"], points["x_2"]])


def table_of(runs: Runs, seed: int = 0, most: int = paths.MOST) -> pd.DataFrame:
    selection = paths.select(runs, seed, most)
    assert selection is not None
    return selection.table


def test_a_line_is_clipped_to_the_box() -> None:
    rng = np.random.default_rng(1)
    low, high = np.array([-1.0, 0.0]), np.array([2.0, 1.0])
    points = rng.normal(size=(200, 2)) * 2
    points[50], points[51] = (0.5, 0.5), (0.5, 5.0)  # straight up, and along an edge
    points[52], points[53] = (-1.0, 0.2), (-1.0, 0.8)
    parts = paths.clipped(points, low, high)
    assert all((part >= low - 1e-12).all() and (part <= high + 1e-12).all() for part in parts)
    length = sum(np.linalg.norm(np.diff(part, axis=0), axis=1).sum() for part in parts)
    fractions = (np.arange(20_000) + 0.5) / 20_000
    expected = 0.0
    for a, b in itertools.pairwise(points):
        dense = a + fractions[:, None] * (b - a)
        expected += float(((dense >= low) & (dense <= high)).all(axis=1).mean() * np.linalg.norm(b - a))
    assert length == pytest.approx(expected, rel=1e-3)


def test_lines_inside_and_outside_of_the_box() -> None:
    low, high = np.zeros(2), np.ones(2)
    inside = np.array([[0.1, 0.1], [0.9, 0.2], [0.5, 0.8]])
    (part,) = paths.clipped(inside, low, high)
    np.testing.assert_allclose(part, inside)
    assert paths.clipped(inside + 5, low, high) == []
    assert paths.clipped(inside[:1], low, high) == []
    (part,) = paths.clipped(np.array([[-1e300, 0.5], [1e300, 0.5]]), low, high)
    np.testing.assert_allclose(part[:, 0], [0, 1], atol=1e-6)
    assert paths.clipped(np.array([[0.5, 0.5], [0.5, 0.5]]), low, high)[0].shape == (2, 2)


def test_the_table_has_the_tuned_runs(runs: Runs) -> None:
    table = table_of(runs)
    assert list(table["method"]) == tuning.ranked(runs)[PROBLEM]
    assert set(table["seed"]) == {0}
    best = tuning.tuned_rows(runs)
    for line in table.to_dict("records"):
        row = best[(best["method"] == line["method"]) & (best["seed"] == 0)].iloc[0].to_dict()
        path = path_of(row)
        assert line["steps"] == row["end"]
        assert line["step_size"] == row["step_size"] or pd.isna(row["step_size"])
        np.testing.assert_array_equal([line["start_x_1"], line["start_x_2"]], path[0])
        if row["status"] == "budget":
            assert line["final"] == row["f_end"]  # f* = 0
            np.testing.assert_array_equal([line["end_x_1"], line["end_x_2"]], path[-1])
    lost = table.set_index("method").loc["sgd"]
    assert (lost["status"], lost["outside"], np.isinf(lost["final"])) == ("diverged", True, True)
    assert set(table_of(runs, seed=1)["seed"]) == {1}
    assert set(table_of(runs, seed=7)["seed"]) == {0}
    assert len(table_of(runs, most=2)) == 2


def test_maps_show_name_settings_and_end(runs: Runs) -> None:
    ax = reports.paths(runs)
    texts = [text.get_text() for text in ax.texts]
    assert len(texts) == 3 * len(SWEEPS)
    assert texts[::3] == tuning.ranked(runs)[PROBLEM]
    at = texts.index("gradient_descent")
    assert texts[at + 1].startswith("step size 0.03, 60 steps")
    assert texts[at + 2].startswith("gap ")
    assert "diverged, leaves the map" in texts
    assert texts[texts.index("newton") + 1].endswith("steps")
    assert "step size" not in texts[texts.index("newton") + 1]


def test_a_path_has_the_coordinates_of_the_run(runs: Runs) -> None:
    ax = reports.paths(runs, columns=3)
    order = tuning.ranked(runs)[PROBLEM]
    k = order.index("gradient_descent")
    surface = json.loads(runs.rows["description"].iloc[0])["surface"]
    row = tuning.tuned_rows(runs).query("method == 'gradient_descent' and seed == 0").iloc[0].to_dict()
    height = np.clip(np.ptp(surface["y"]) / np.ptp(surface["x"]), 0.6, 1.4)
    unit = (
        (path_of(row) - [surface["x"][0], surface["y"][0]]) / [np.ptp(surface["x"]), np.ptp(surface["y"])] * [1, height]
    )
    corner = np.array([k % 3 * (1 + paths.GAP), -(k // 3) * (height + paths.HEAD)])
    lines = [c for c in ax.collections if str(c.get_gid()).endswith("-path")]
    drawn = [np.concatenate([np.asarray(part) for part in c.get_segments()]) for c in lines]  # type: ignore[attr-defined]
    assert any(len(points) == len(unit) and np.allclose(points, unit + corner) for points in drawn)


def test_level_lines_are_drawn_once_for_all_maps(runs: Runs) -> None:
    ax = reports.paths(runs)
    (levels,) = [c for c in ax.collections if c.get_gid() == "levels"]
    assert len(levels.get_paths()) == 1
    assert len(np.asarray(levels.get_offsets())) == len(SWEEPS)
    (crosses,) = [c for c in ax.collections if c.get_gid() == "minimizers"]
    surface = json.loads(runs.rows["description"].iloc[0])["surface"]
    height = np.clip(np.ptp(surface["y"]) / np.ptp(surface["x"]), 0.6, 1.4)
    middle = np.mean(np.asarray(crosses.get_paths()[0].vertices), axis=0)
    expected = [(3 - surface["x"][0]) / np.ptp(surface["x"]), (0.5 - surface["y"][0]) / np.ptp(surface["y"]) * height]
    np.testing.assert_allclose(middle, expected)


def test_level_lines_are_evenly_spaced_in_the_logarithm(runs: Runs) -> None:
    surface = json.loads(runs.rows["description"].iloc[0])["surface"]
    f = np.array(surface["f"])
    ax = reports.paths(runs)
    (levels,) = [c for c in ax.collections if c.get_gid() == "levels"]
    points = np.asarray(levels.get_paths()[0].vertices)  # (k, 2)
    height = np.clip(np.ptp(surface["y"]) / np.ptp(surface["x"]), 0.6, 1.4)
    x = surface["x"][0] + points[:, 0] * np.ptp(surface["x"])
    y = surface["y"][0] + points[:, 1] / height * np.ptp(surface["y"])
    values = optbench.make_problem("beale").value(np.column_stack([x, y]))
    low, high = np.quantile(f[f > 0], [0.004, 0.9])
    wanted = np.geomspace(low, high, paths.LEVELS)
    nearest = np.abs(np.log(values[:, None] / wanted)).min(axis=1)
    assert np.quantile(nearest, 0.9) < 0.1  # the grid is coarse where f is steep
    assert set(np.abs(np.log(values[:, None] / wanted)).argmin(axis=1)) == set(range(paths.LEVELS))


def with_description(runs: Runs, **changes: Any) -> Runs:
    description = json.loads(runs.rows["description"].iloc[0])
    for key, value in changes.items():
        description[key] = value
    return Runs(runs.rows.assign(description=json.dumps(description)))


def test_surfaces_with_holes_or_constant_values(runs: Runs) -> None:
    surface = json.loads(runs.rows["description"].iloc[0])["surface"]
    holes = [[None if i < 40 else value for value in line] for i, line in enumerate(surface["f"])]
    for f in (holes, [[0.0] * 81] * 81, [[None] * 81] * 81, [[5.0] * 81] * 81):
        reports.paths(with_description(runs, surface=surface | {"f": f})).figure.canvas.draw()
    reports.paths(with_description(runs, minimizers=[[99.0, 99.0]])).figure.canvas.draw()
    unknown = runs.rows.assign(f_star=np.nan, calls_to_target=None)
    ax = reports.paths(Runs(unknown))
    assert any(text.get_text().startswith("f = ") for text in ax.texts)


def test_results_without_surface_or_paths_are_refused(runs: Runs) -> None:
    bare = Runs(runs.rows.assign(metrics=[[]] * len(runs.rows)))
    for lacking in (Runs(runs.rows.assign(description=None)), Runs(runs.rows.drop(columns="description")), bare):
        assert paths.select(lacking, 0, paths.MOST) is None
        assert landscapes.section(PageContext(lacking)) is None
        with pytest.raises(InputError, match="no level lines"):
            reports.paths(lacking)
    with pytest.raises(InputError, match="no results for problem"):
        reports.paths(runs, "rosenbrock")


def test_a_failed_method_is_labelled(runs: Runs) -> None:
    rows = runs.rows.copy()
    failed = rows["optimizer"] == "adam"
    empty = pd.Series([[]] * len(rows), index=rows.index)
    for name in ("metrics", "t", "f", "best", "gradient_norm"):
        rows[name] = rows[name].where(~failed, empty)
    rows["status"] = rows["status"].where(~failed, "failed")
    ax = reports.paths(Runs(rows))
    texts = [text.get_text() for text in ax.texts]
    assert texts[texts.index("adam") + 1] == "failed"


def figure_of(runs: Runs) -> Picture:
    """The figure in the section of the only landscape of some results."""
    section = landscapes.section(PageContext(runs))
    assert section is not None
    (landscape,) = section
    return landscape.figure


def test_the_section_is_small_and_reproducible(runs: Runs) -> None:
    one, two = map(figure_of, (runs, runs))
    assert one == two
    assert len(one.svg) < 150_000
    assert "step by step" in one.caption
    assert "Diverged: <bdi>sgd</bdi>" in one.caption
    for drawn in PageContext(runs).styles.values():
        assert f'data-method="{drawn.index}"' in one.svg


def test_the_caption_tells_steps_from_checkpoints() -> None:
    runs = optbench.sweep(PROBLEM, "adam", lr=[0.1], seeds=1, steps=60, checkpoint_count=20)
    assert "from checkpoint to checkpoint" in figure_of(runs).caption


def test_hostile_names_stay_text(runs: Runs, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> $\\frac{1}{0}$ \"' \x07\u202e"
    rows = runs.rows.assign(problem=evil, method=runs.rows["method"].replace({"adam": f"_{evil}"}))
    page = page_of(Runs(rows, runs.environments), tmp_path)
    assert '<section id="landscapes"' in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
