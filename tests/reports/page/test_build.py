"""The page of a small store of real runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reports
from optbench.core import workers
from optbench.core.errors import InputError, StoreError
from optbench.results.runs import Runs
from optbench.results.store import Store
from reports import tables, wording
from reports.sections import problems
from tests.reports.conftest import HOSTILE, NETWORK, STEEP, VALLEY, page_of
from tests.reports.reader import Reader


def test_every_problem_and_method_is_on_the_page(page: str, runs: Runs) -> None:
    read = Reader(page)
    for name in {*runs.rows["problem"], *runs.rows["method"]}:
        assert name in read.text
    assert "RuntimeError: no <b>luck</b> & no $\\end today" in read.text
    assert "optbench run a.toml" in read.text
    for key in ("numpy", "processor", "cores", "commit", "float64"):
        assert key in read.text


@pytest.mark.parametrize(
    ("description", "summary"),
    [
        ({"summary": "f(x) = x^2: a bowl.", "formula": "f(x) = x^2"}, "A bowl."),
        ({"summary": "f(x) = x^2, with a minimum.", "formula": "f(x) = x^2"}, "f(x) = x^2, with a minimum."),
        ({"summary": "f(x) = x^2: a bowl."}, "f(x) = x^2: a bowl."),
        ({}, None),
    ],
)
def test_the_summary_of_a_problem_does_not_repeat_its_formula(description: dict[str, Any], summary: Any) -> None:
    assert problems._summary(description) == summary


@pytest.fixture(params=["page", "raced_page"])
def either(request: pytest.FixtureRequest) -> str:
    text: str = request.getfixturevalue(request.param)
    return text


def test_the_page_loads_nothing(either: str) -> None:
    page = either
    assert "http://" not in page.replace('"http://www.w3.org/2000/svg"', "")  # a name, not an address
    assert "https://" not in page
    for _, attributes in Reader(page).elements:
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(key, "#").startswith(("#", "data:,"))
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_the_page_can_be_used_without_seeing_it(either: str) -> None:
    read = Reader(either)
    assert read.all("html")[0]["lang"] == "en"
    assert "A page" in read.text
    pictures = [a for a in read.all("svg") if a.get("aria-hidden") != "true"]
    assert len(pictures) == len(read.all("figure")) == len(read.all("figcaption")) > 10
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in pictures)
    assert len(read.all("caption")) == len(read.all("table"))
    assert all(a["scope"] in ("col", "row", "rowgroup") for a in read.all("th"))


def test_references_inside_figures_lead_somewhere(either: str) -> None:
    page, read = either, Reader(either)
    ids = {a["id"] for _, a in read.elements if "id" in a}
    used = {a["href"][1:] for a in read.all("use")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert used
    assert used <= ids


def test_links_and_anchors_are_names_that_lead_somewhere(either: str) -> None:
    read = Reader(either)
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in read.all("a") if a["href"].startswith("#")}
    assert links <= set(ids)
    assert {"overview", "quadratic-dim-8", "mlp-digits"} <= links
    figures = {a["id"] for a in read.all("figure") if "id" in a}
    assert {"quadratic-dim-8-best", "quadratic-dim-8-sizes", "ranking", "performance-profile-1e-4"} <= figures
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in links | figures)


def test_every_button_has_its_table(either: str) -> None:
    tables = json.loads(either.partition('id="tables">')[2].partition("</script>")[0])
    offered = {a["data-table"] for a in Reader(either).all("button") if a.get("class") == "download"}
    assert len(offered) >= 8
    assert offered <= set(tables)


def test_same_results_same_bytes(
    runs: Runs, races: pd.DataFrame, page: str, raced_page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"title": "A page", "command": "optbench run a.toml"}
    shuffled = Runs(runs.rows.sample(frac=1, random_state=1), runs.environments)
    assert page_of(shuffled, tmp_path, **options) == page
    assert page_of(runs, tmp_path, title="A page", races=races.sample(frac=1, random_state=1)) == raced_page
    assert page_of(runs, tmp_path, **options, jobs=2) == page

    def refuse(*_: Any) -> Any:
        raise OSError("no more processes")

    workers.dismiss_idle()
    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)
    assert page_of(runs, tmp_path, **options, jobs=2) == page


def test_a_page_needs_a_process_to_draw_it(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jobs is 0"):
        reports.build_page(runs, tmp_path / "none.html", jobs=0)
    assert not (tmp_path / "none.html").exists()


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 600_000


def test_drawing_a_page_leaves_pyplot_alone(page: str) -> None:
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


@pytest.mark.parametrize("where", ["problem", "method"])
def test_hostile_names_are_text(runs: Runs, tmp_path: Path, where: str) -> None:
    rows = runs.rows[(runs.rows["problem"] == VALLEY) & (runs.rows["seed"] < 2)].copy()
    known = sorted(set(rows["method"])) if where == "method" else [VALLEY]
    for old, new in zip(known, HOSTILE, strict=False):
        rows[where] = rows[where].replace(old, new)
    renamed = Runs(rows, [{"processor": HOSTILE[0], "numpy": HOSTILE[1]}, {"numpy": "2"}])
    text = page_of(renamed, tmp_path, title=HOSTILE[1], command="\ud800" + HOSTILE[0])
    read = Reader(text)
    assert [a.get("type") for a in read.all("script")] == ["application/json", None]
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    for name in HOSTILE[: len(known)]:
        assert wording.clean(name) in read.text
    assert not set("\x07\u202e") & set(text)


def test_an_empty_page(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    path = reports.build_page(Store(tmp_path / "results").load(), tmp_path / "a.html")
    assert "There are no results to show yet" in Reader(path.read_text("utf-8")).text
    assert reports.summary_table(Runs.from_rows([])).empty


@pytest.mark.parametrize(
    "pick",
    [
        pytest.param(lambda rows: rows.index == rows.index[rows["method"] == "adam"][0], id="one run"),
        pytest.param(lambda rows: rows["method"] == "broken", id="only failures"),
        pytest.param(lambda rows: rows["problem"] == STEEP, id="only divergences"),
        pytest.param(lambda rows: rows["problem"] == NETWORK, id="no optimum"),
        pytest.param(lambda rows: rows["method"] == "newton", id="no step size"),
    ],
)
def test_odd_results_make_a_page(runs: Runs, tmp_path: Path, pick: Any) -> None:
    rows = runs.rows[pick(runs.rows)]
    assert len(rows)
    read = Reader(page_of(Runs(rows, runs.environments), tmp_path))
    for name in {*rows["problem"], *rows["method"]}:
        assert name in read.text
    assert "nan" not in read.text.replace("finance", "")


def test_only_failures_on_a_problem_without_an_optimum(runs: Runs, tmp_path: Path) -> None:
    rows = runs.rows[runs.rows["method"] == "broken"].assign(f_star=np.nan, f_star_lower=np.nan, calls_to_target=None)
    assert tables.leaders(Runs(rows))[0].remark == "no run has a finite value"
    reports.build_page(Runs(rows), tmp_path / "a.html")


def test_a_page_that_cannot_be_written(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be written .*choose another place"):
        reports.build_page(Runs.from_rows([]), tmp_path / "file" / "page.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        reports.build_page(Runs.from_rows([]), tmp_path / "folder.html")
    old = tmp_path / "page.html"
    old.write_text("as it was")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match="No space left on device"):
        reports.build_page(Runs.from_rows([]), old)
    assert old.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html", "page.html"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are those of POSIX")
def test_others_may_read_the_page(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = reports.build_page(Runs.from_rows([]), tmp_path / "page.html")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_importing_reports_imports_no_libraries() -> None:
    code = "import sys, reports; print([m for m in ('matplotlib', 'pandas', 'seaborn', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'conver'"):
        _ = getattr(reports, "conver")  # noqa: B009
    assert {"build_page", "summary_table"} <= set(dir(reports))
