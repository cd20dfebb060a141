"""The figures, the tables and the page, made from a small store of real runs."""

from __future__ import annotations

import html.parser
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import optbench
import reports
from benchmarks.gpu import COLUMNS as GPU_COLUMNS
from optbench.analysis import metrics, tuning
from optbench.analysis import timing as seconds
from optbench.cli import main
from optbench.core.errors import InputError, StoreError
from optbench.optimizer import make_recipe
from optbench.problem import make_problem
from optbench.results.runs import Runs
from optbench.results.schema import RACE_COLUMNS, to_arrow, to_frame
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import make_plans
from optbench.runner.race import compete, make_race_plans
from optbench.runner.study import load_study
from reports import tables, wording
from reports.figures import convergence, sensitivity, style
from reports.figures.lines import gap_floor
from reports.page import notes
from reports.page.svg import to_svg
from tests.conftest import present

NETWORK = "mlp:data=digits"
VALLEY, NOISE, STEEP = "quadratic:dim=8", "quadratic:dim=5,noise=0.1", "quadratic:dim=50,spectrum=chain"
STUDY = {
    "seeds": 5,
    "lr": "1e-3:10:9",
    "steps": 60,
    "compare": [
        {"problems": [VALLEY], "optimizers": ["gradient_descent", "adam", "lbfgs", "newton", "random_search"]},
        {"problems": [VALLEY], "optimizers": [{"name": "momentum", "beta": [0.5, 0.9]}], "stop_at_target": True},
        {"problems": [NOISE], "optimizers": ["sgd"], "steps": 40},
        {"problems": ["mlp"], "optimizers": ["sgd", "adam"], "batch_size": 100, "steps": 20, "lr": "1e-2:1:3"},
        {"problems": ["mlp"], "optimizers": ["lbfgs"], "steps": 6},
        {"problems": [STEEP], "optimizers": ["gradient_descent"], "lr": [1e3, 1e4], "steps": 400},
    ],
}
HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)\' </title></svg>',
    "$\\frac{1}{0}$ & _under {{ 7 * 7 }} {% raise %}",
    "最適化 метод بهینه‌سازی \u202eevil \x07",
    "long" * 50,
]


def broken(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.1) -> tuple[Any, ...]:
    """A rule with a defect, whose message is hostile too."""
    raise RuntimeError("no <b>luck</b> & no $\\end today")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of real runs, one method of which fails."""
    path = tmp_path_factory.mktemp("results")
    plans = [
        *load_study(STUDY).plans,
        *make_plans(make_problem("quadratic", {"dim": 8}), make_recipe(broken, {}), seeds=2),
    ]
    execute(plans, store=Store(path))
    return path


@pytest.fixture(scope="module")
def runs(folder: Path) -> Runs:
    return Store(folder).load()


@pytest.fixture(scope="module")
def page(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = reports.build_page(runs, tmp_path_factory.mktemp("site"), title="A page", command="optbench run a.toml")
    assert path.name == "index.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def races() -> pd.DataFrame:
    """Two races, as they ran but for the times, which are of the test's making: the second is disturbed."""
    held = [
        (make_race_plans([VALLEY, "rosenbrock"], ["adam", "lbfgs:memory=5", "newton"], rounds=3, steps=4), 0.5),
        (make_race_plans([VALLEY], ["adam", "sgd:lr=50"], rounds=3, steps=4, fused=False), 30.0),
    ]
    rows = []
    for day, (plans, load) in enumerate(held, start=1):
        for row in compete(plans):
            step = 1e-5 * (1 + row["place"]) * (1 + row["round"] / 100)
            rows.append(
                row
                | {"race": f"race {day}", "created": f"2026-01-0{day}T10:20:30.000000+00:00", "machine": "Abacus <4>"}
                | {"core": 3, "cores": 4, "load_before": load, "load_after": load}
                | {"seconds": 4 * step, "oracle_seconds": 4 * step * (0.25 if row["place"] else 1.0)}
            )
    return to_frame(to_arrow(rows, RACE_COLUMNS))


@pytest.fixture(scope="module")
def raced_page(runs: Runs, races: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = reports.build_page(runs, tmp_path_factory.mktemp("site"), title="A page", races=races)
    return path.read_text(encoding="utf-8")


class Reader(html.parser.HTMLParser):
    """What a browser would make of a page: its elements with their attributes, its text without that of scripts and style
    sheets, and whether it is well nested.
    """

    VOID = ("meta", "link", "br", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def speed_of(page: str) -> Reader:
    """The section Speed alone."""
    return Reader(page[page.index('<section id="speed"') :].partition("</section>")[0] + "</section>")


def test_every_problem_and_method_is_on_the_page(page: str, runs: Runs) -> None:
    read = Reader(page)
    for name in {*runs.rows["problem"], *runs.rows["method"]}:
        assert name in read.text
    assert "RuntimeError: no <b>luck</b> & no $\\end today" in read.text
    assert "optbench run a.toml" in read.text
    for key in ("numpy", "processor", "cores", "commit", "float64"):
        assert key in read.text


@pytest.fixture(params=["page", "raced_page"])
def either(request: pytest.FixtureRequest) -> str:
    text: str = request.getfixturevalue(request.param)
    return text


def test_the_page_asks_for_nothing(either: str) -> None:
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
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in read.all("a")} <= set(ids)


def test_references_inside_figures_lead_somewhere(either: str) -> None:
    page, read = either, Reader(either)
    ids = {a["id"] for _, a in read.elements if "id" in a}
    used = {a["href"][1:] for a in read.all("use")} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert used
    assert used <= ids


def test_every_button_has_its_table(either: str) -> None:
    held = json.loads(either.partition('id="tables">')[2].partition("</script>")[0])
    offered = {a["data-table"] for a in Reader(either).all("button") if a.get("class") == "download"}
    assert len(offered) >= 8
    assert offered <= set(held)


def test_same_results_same_bytes(runs: Runs, page: str, tmp_path: Path) -> None:
    shuffled = Runs(runs.rows.sample(frac=1, random_state=1), runs.environments)
    again = reports.build_page(shuffled, tmp_path / "again.html", title="A page", command="optbench run a.toml")
    assert again.read_text(encoding="utf-8") == page


def test_a_run_below_the_optimum_shows_that_the_optimum_is_wrong(runs: Runs) -> None:
    def said(rows: pd.DataFrame) -> list[str]:
        return [
            note for note in notes.notes(rows, tables.lines(Runs(rows)), pd.DataFrame()) if "value is wrong" in note
        ]

    assert said(runs.rows) == []
    rows = runs.rows.copy()
    at = rows.index[(rows["problem"] == VALLEY) & rows["f_best"].notna()][0]
    rows.loc[at, "f_best"] = rows.loc[at, "f_star"] - 1e-9
    (note,) = said(rows)
    assert note.startswith(f"On {VALLEY} ")


def test_several_processes_make_the_same_page(runs: Runs, page: str, tmp_path: Path) -> None:
    again = reports.build_page(runs, tmp_path / "again.html", title="A page", command="optbench run a.toml", jobs=2)
    assert again.read_text(encoding="utf-8") == page
    with pytest.raises(InputError, match="jobs is 0"):
        reports.build_page(runs, tmp_path / "none.html", jobs=0)
    assert not (tmp_path / "none.html").exists()


def test_processes_that_cannot_begin_are_done_without(
    runs: Runs, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ProcessPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Any:
            raise BrokenProcessPool("a worker ended")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Broken)
    again = reports.build_page(runs, tmp_path / "again.html", title="A page", command="optbench run a.toml", jobs=2)
    assert again.read_text(encoding="utf-8") == page


def test_same_races_same_bytes(runs: Runs, races: pd.DataFrame, raced_page: str, tmp_path: Path) -> None:
    shuffled = races.sample(frac=1, random_state=1)
    again = reports.build_page(runs, tmp_path / "again.html", title="A page", races=shuffled)
    assert again.read_text(encoding="utf-8") == raced_page


def test_a_page_without_races_says_how_to_run_one(page: str) -> None:
    read = speed_of(page)
    assert "optbench race --problem quadratic:dim=100 --optimizer adam --optimizer sgd" in read.text
    assert "Methods are not compared in seconds" in Reader(page).text
    assert read.all("table") == []


def test_the_speed_of_every_configuration_is_on_the_page(raced_page: str, races: pd.DataFrame) -> None:
    read = speed_of(raced_page)
    for name in ("lbfgs:memory=5", "sgd:lr=50", "rosenbrock", "Abacus <4>", "pinned to core 3", "float64"):
        assert name in read.text
    assert "0.50 in the minute before, 0.50 at its end" in read.text
    assert "30.00 in the minute before" in read.text
    assert "3 rounds of 4 steps" in read.text
    assert "load average 30.0 before it began, on 4 cores" in read.text
    assert "Methods are not compared in seconds" not in raced_page
    shown = reports.speed_table(races)
    assert len(shown) == 8
    text = " ".join(read.text.split())
    for line in shown.to_dict("records"):
        assert f"{line['a step']}{line['a step, 95 %']}" in text
        assert f"{line['times the first']}{line['times the first, 95 %']}" in text
    assert shown["a step"].tolist()[:3] == ["10.1 µs", "20.2 µs", "30.3 µs"]
    assert shown["times the first"].tolist()[:3] == ["1.00", "2.00", "3.00"]
    assert shown["oracle"].tolist()[:3] == ["100 %", "25 %", "25 %"]


def test_seconds_to_target_are_on_the_page_or_listed_as_missing(
    runs: Runs, races: pd.DataFrame, raced_page: str
) -> None:
    shown = reports.seconds_table(runs, races)
    assert set(shown["problem"]) == {VALLEY}
    forms = sorted(zip(shown["method"], shown["update"], shown["disturbed"], strict=True))
    assert ("newton", "as written", False) in forms
    assert ("adam", "as written", True) in forms
    assert "lbfgs" not in set(shown["method"])  # its memory in the race is another
    newton = tuning.tuned_rows(runs).query("problem == @VALLEY and method == 'newton'")
    calls = np.median([hits[tuning.target_index(1e-4)] for hits in newton["calls_to_target"]])
    (line,) = shown[shown["method"] == "newton"].to_dict("records")
    assert line["to 1e-4"] == f"{calls * 30.3:.1f} µs"
    read = speed_of(raced_page)
    assert line["to 1e-4"] in read.text
    assert f"On {VALLEY} these did not race: broken; gradient_descent; lbfgs; momentum; random_search." in read.text
    assert f"On {NETWORK} there are no targets" in read.text
    assert f"On {STEEP} no method raced." in read.text
    assert "On rosenbrock there are races, but no runs" in read.text


def test_disturbed_figures_are_marked_where_they_stand(raced_page: str, races: pd.DataFrame) -> None:
    quiet, loud = (races[races["race"] == name] for name in ("race 1", "race 2"))
    for part, word in ((quiet, ""), (loud, " – disturbed")):
        ax = reports.speed(part, VALLEY, Figure().add_subplot())
        assert all(label.get_text().endswith(word) for label in ax.get_yticklabels())
        assert any("disturbed" in label.get_text() for label in ax.get_yticklabels()) == bool(word)
    whole = raced_page[raced_page.index('<section id="speed"') :]
    heads = re.findall(r"<h3 id=\"race-[a-z0-9-]+\">(Race of [^<]*)(.*?)</h3>", whole)
    assert [(head.strip(), "disturbed" in flag) for head, flag in heads] == [
        ("Race of 2026-01-02 10:20:30 UTC", True),
        ("Race of 2026-01-01 10:20:30 UTC", False),
    ]


def test_the_figure_of_speed_draws_the_medians(races: pd.DataFrame, ax: Axes) -> None:
    part = races[races["race"] == "race 1"]
    assert reports.speed(part, VALLEY, ax) is ax
    table = seconds.race_summary(part[part["problem"] == VALLEY])
    drawn = {line.get_marker(): np.asarray(line.get_xdata()).tolist() for line in ax.get_lines()}
    assert drawn["o"] == table["seconds"].tolist()
    assert drawn["D"] == table["oracle_seconds"].tolist()
    assert drawn["s"] == table["optimizer_seconds"].tolist()[1:]  # of the first nothing is left to draw
    assert VALLEY in ax.get_title(loc="left")
    assert "time per step" in ax.get_xlabel()
    assert [text.get_text() for text in present(ax.get_legend()).get_texts()] == [
        "whole step",
        "oracle call",
        "optimizer",
    ]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["adam", "lbfgs:memory=5", "newton"]
    assert all(label.get_text().endswith(" µs") for label in ax.get_xticklabels())


def test_the_figure_of_speed_asks_for_one_race(races: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="choose a problem"):
        reports.speed(races)
    with pytest.raises(InputError, match=r"there are 2 races .* choose one"):
        reports.speed(races, VALLEY)
    with pytest.raises(InputError, match="no race on problem 'sphere'"):
        reports.speed(races, "sphere")


def test_hostile_names_in_races_are_text(runs: Runs, races: pd.DataFrame, tmp_path: Path) -> None:
    odd = races.copy()
    for column in ("problem", "configuration", "machine"):
        for old, new in zip(sorted(set(odd[column])), HOSTILE, strict=False):
            odd[column] = odd[column].replace(old, new)
    read = Reader(reports.build_page(runs, tmp_path / "a.html", races=odd).read_text("utf-8"))
    assert [a.get("type") for a in read.all("script")] == ["application/json", None]
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    for name in {*odd["problem"], *odd["configuration"], *odd["machine"]}:
        assert wording.clean(name) in read.text


def test_races_alone_make_a_page(races: pd.DataFrame, tmp_path: Path) -> None:
    Store(tmp_path / "r").write_race(races[races["race"] == "race 1"].to_dict("records"))
    assert main(["report", str(tmp_path / "r")]) == 0
    read = Reader((tmp_path / "r" / "report.html").read_text("utf-8"))
    assert "1 race, and no runs yet" in read.text
    assert "lbfgs:memory=5" in read.text
    assert len(read.all("nav")) == 1


def test_a_gpu_needs_no_runs_beside_races(races: pd.DataFrame, tmp_path: Path) -> None:
    figure = dict.fromkeys(GPU_COLUMNS) | {
        "measurement": "a", "created": "2026-01-02", "machine": "A GPU", "processor": "a CPU", "section": "sweeps",
        "case": "a sweep", "precision": "float64", "size": 100, "contender": "gpu", "quantity": "seconds", "repeat": 0,
        "value": 1.0, "note": "300 steps",
    }  # fmt: skip
    gpu = to_frame(to_arrow([figure], GPU_COLUMNS))
    read = Reader(reports.build_page(Runs.from_rows([]), tmp_path / "a.html", races=races, gpu=gpu).read_text("utf-8"))
    assert "a sweep, 100 runs, 300 steps" in read.text
    assert [a["href"] for a in read.all("a") if a.get("href") == "#gpu"] == ["#gpu"]


def test_budgets_that_differ_by_the_first_call_are_the_same() -> None:
    def told(steps: int) -> bool:
        full = {"problem": "p", "seed": 0, "budget_calls": 101.0, "status": "budget", "exact_targets": True}
        full |= {"f_start": 1.0, "f_best": 0.5, "f_star": np.nan, "f_star_lower": np.nan, "precision": "float64"}
        rows = pd.DataFrame([full, full | {"budget_calls": (steps + 1) * 64 / 1000}])
        return any("same budget" in note for note in notes.notes(rows, pd.DataFrame(), pd.DataFrame()))

    assert not told(1562)  # 1563 mini-batches of 64 out of 1000 samples: 100.03 calls beside 101
    assert told(800)


def test_races_that_are_repeated_are_not_shown_twice(runs: Runs, races: pd.DataFrame, tmp_path: Path) -> None:
    first = races[races["race"] == "race 1"]
    again = first.assign(race="race 3", created="2026-01-03T00:00:00.000000+00:00")
    read = speed_of(reports.build_page(runs, tmp_path / "a.html", races=pd.concat([races, again])).read_text("utf-8"))
    assert "2026-01-01" not in read.text
    assert "1 stored race not shown" in read.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.234e-5, 1.1e-5, 1.3e-5), ("12.3 µs", "11.0 to 13.0")),
        ((0.5, 0.25, np.inf), ("500 ms", "250 to never")),
        ((12.3456, 12.0, 13.0), ("12.3 s", "12.0 to 13.0")),
        ((-2e-8, -1e-6, 1e-6), ("-0.0200 µs", "-1.0000 to 1.0000")),
        ((250.0, 240.0, 260.0), ("250 s", "240 to 260")),
        ((np.inf, 1.0, np.inf), ("–", "")),
        ((np.nan, np.nan, np.nan), ("–", "")),
    ],
)
def test_durations_have_a_unit(values: tuple[float, float, float], text: tuple[str, str]) -> None:
    assert wording.duration(*values) == text


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 600_000


def test_figures_do_not_depend_on_matplotlib_settings(runs: Runs) -> None:
    import matplotlib as mpl

    def drawn() -> str:
        return to_svg(style.figure(convergence.convergence, runs, VALLEY), "a-", "label", dict.fromkeys(range(99), "m"))

    plain = drawn()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9}):
        assert drawn() == plain


def test_drawing_a_page_leaves_pyplot_alone(page: str) -> None:
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


@pytest.mark.parametrize("where", ["problem", "method"])
def test_hostile_names_are_text(runs: Runs, tmp_path: Path, where: str) -> None:
    rows = runs.rows[(runs.rows["problem"] == VALLEY) & (runs.rows["seed"] < 2)].copy()
    known = sorted(set(rows["method"])) if where == "method" else [VALLEY]
    for old, new in zip(known, HOSTILE, strict=False):
        rows[where] = rows[where].replace(old, new)
    made = Runs(rows, [{"processor": HOSTILE[0], "numpy": HOSTILE[1]}, {"numpy": "2"}])
    text = reports.build_page(made, tmp_path / "a.html", title=HOSTILE[1], command="\ud800" + HOSTILE[0]).read_text(
        "utf-8"
    )
    read = Reader(text)
    assert [a.get("type") for a in read.all("script")] == ["application/json", None]
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    for name in HOSTILE[: len(known)]:
        assert wording.clean(name) in read.text
    assert not set("\x07\u202e") & set(text)


def test_hostile_names_in_a_figure_are_drawn_as_they_are(runs: Runs) -> None:
    rows = runs.rows[runs.rows["problem"] == VALLEY].replace({"problem": {VALLEY: HOSTILE[2]}})
    svg = to_svg(
        style.figure(convergence.convergence, Runs(rows), HOSTILE[2]), "a-", "label", dict.fromkeys(range(9), "<m>")
    )
    curves = [g for g in ET.fromstring(svg).iter("g") if g.get("data-method")]
    assert curves
    assert all(g[0].tag == "title" and g[0].text == "<m>" for g in curves)
    assert "$\\frac{1}{0}$ &amp;" in svg


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
    read = Reader(reports.build_page(Runs(rows, runs.environments), tmp_path / "a.html").read_text("utf-8"))
    for name in {*rows["problem"], *rows["method"]}:
        assert name in read.text
    assert "nan" not in read.text.replace("finance", "")


def test_only_failures_on_a_problem_without_an_optimum(runs: Runs, tmp_path: Path) -> None:
    rows = runs.rows[runs.rows["method"] == "broken"].assign(f_star=np.nan, f_star_lower=np.nan, calls_to_target=None)
    assert tables.leaders(Runs(rows))[0].remark == "no run has a finite value"
    reports.build_page(Runs(rows), tmp_path / "a.html")


def test_methods_that_are_level_without_an_optimum_lead_together(runs: Runs) -> None:
    one = runs.rows[(runs.rows["problem"] == NETWORK) & (runs.rows["method"] == "lbfgs")]
    (leader,) = tables.leaders(Runs(pd.concat([one, one.assign(method="twin")], ignore_index=True)))
    assert leader.methods == ("lbfgs", "twin")
    assert leader.remark == "no method is behind"
    assert not leader.certain


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("momentum", 8, "momentum"),
        ("gradient_descent", 9, "grad…cent"),
        ("最適化手法", 10, "最適化手法"),
        ("最適化手法", 9, "最適…手法"),
        ("😀" * 100, 22, "😀😀😀😀😀…😀😀😀😀😀"),
        ("two\nlines\t", 20, "two lines"),
    ],
)
def test_names_are_shortened_to_columns(name: str, width: int, shown: str) -> None:
    assert wording.shorten(name, width) == shown


@pytest.mark.parametrize("start", [0.0, 1e-300])
def test_a_start_at_the_optimum_is_drawn_at_the_floor(runs: Runs, ax: Axes, start: float) -> None:
    rows = runs.rows[(runs.rows["problem"] == VALLEY) & (runs.rows["method"] == "adam")].copy()
    flat = [np.full(len(t), start) for t in rows["t"]]
    held = Runs(rows.assign(f=flat, best=flat, f_star=0.0, f_start=start, f_end=start, f_best=start))
    convergence.convergence(held, ax=ax)
    floor = gap_floor(held)[1]
    (line,) = [line for line in ax.lines if str(line.get_gid()).endswith("-line")]
    assert set(np.asarray(line.get_ydata()).tolist()) == {floor}
    cast(Figure, ax.figure).draw_without_rendering()
    low, high = ax.get_ylim()
    labels = [t.get_text() for t in ax.get_yticklabels() if low <= t.get_position()[1] <= high and t.get_text()]
    assert len(set(labels)) == len(labels) > 1


def test_nothing_finite_is_said_and_not_drawn(runs: Runs) -> None:
    rows = runs.rows[runs.rows["method"] == "broken"]
    for draw in (convergence.convergence, sensitivity.sensitivity):
        svg = to_svg(style.figure(draw, Runs(rows), VALLEY), "a-", "label", {})
        assert ">No " in svg


def test_the_leader_on_every_kind_of_problem(runs: Runs) -> None:
    found = {leader.problem: leader for leader in tables.leaders(runs)}
    assert found[VALLEY].methods == ("newton",)
    assert found[VALLEY].goal == "1e-10 of the initial gap"
    assert "without Hessians: " in found[VALLEY].remark
    assert found[STEEP].methods == ()
    assert found[NETWORK].goal.startswith("smallest objective within ")
    assert len(found[NETWORK].methods) == 1


def test_a_lead_on_few_seeds_is_too_close_to_call(runs: Runs, tmp_path: Path) -> None:
    rows = runs.rows[runs.rows["problem"] == NOISE]
    best = rows[rows["step_size"] == tuning.tuned(Runs(rows))["step_size"][0]]
    twin = best.assign(method="twin", seed=best["seed"].to_numpy()[::-1])
    leader = tables.leaders(Runs(pd.concat([best, twin], ignore_index=True)))[0]
    assert not leader.certain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (0.0312345, "0.0312"), (4.6416, "4.64"), (1234.5, "1230"), (5.4321e-10, "5.43e-10"),
        (99_999.0, "1e5"), (1e-3, "0.001"), (-0.12255, "-0.123"), (2e300, "2e300"), (np.inf, "–"), (np.nan, "–"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.2, "3.2"), (0.064, "0.064"), (5.0, "5"), (41.4, "41"), (99_999, "99999"), (1e6, "1e6"), (np.inf, "–")],
)
def test_calls_are_whole_from_ten_on(value: float, text: str) -> None:
    assert wording.calls(value) == text


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


@pytest.mark.parametrize("draw", [reports.convergence, reports.sensitivity])
@pytest.mark.parametrize("problem", [VALLEY, NETWORK, NOISE, STEEP])
def test_figures_say_what_they_show(runs: Runs, ax: Axes, draw: Any, problem: str) -> None:
    assert draw(runs, problem, ax) is ax
    assert problem in ax.get_title(loc="left")
    assert "oracle calls" in ax.get_xlabel() or "step size" in ax.get_xlabel()
    assert ax.get_ylabel().startswith("objective" if problem == NETWORK else "gap")
    named = [text for text in ax.texts if text.get_gid()]
    names = {text.get_text() for text in named}
    rows = runs.rows[(runs.rows["problem"] == problem) & (runs.rows["status"] != "failed")]
    wanted = set(rows["method"] if draw is reports.convergence else rows.loc[rows["step_size"].notna(), "method"])
    assert {wording.shorten(method.partition(", batch")[0], 18) for method in wanted} == names
    assert min(text.get_window_extent().x0 for text in named) >= ax.get_window_extent().x1  # they hide no data


def test_convergence_draws_the_bands(runs: Runs, ax: Axes) -> None:
    convergence.convergence(runs, VALLEY, ax)
    curve = metrics.bands(runs).query("problem == @VALLEY and method == 'adam'")
    index = style.method_styles(runs)["adam"].index
    (line,) = [line for line in ax.get_lines() if line.get_gid() == f"curve-{index}-line"]
    np.testing.assert_array_equal(line.get_xdata(), curve["calls"])
    np.testing.assert_array_equal(line.get_ydata(), curve["median"])


def test_gaps_below_rounding_are_drawn_at_the_floor(runs: Runs, ax: Axes) -> None:
    convergence.convergence(runs, VALLEY, ax)
    lowest = min(np.min(line.get_ydata()) for line in ax.get_lines())
    assert lowest == 8 * np.finfo(float).eps


def test_a_method_looks_the_same_everywhere(runs: Runs) -> None:
    index = style.method_styles(runs)["lbfgs"].index
    looks = set()
    for problem in (VALLEY, NETWORK):
        ax = reports.convergence(runs, problem, Figure().add_subplot())
        (line,) = [line for line in ax.get_lines() if line.get_gid() == f"curve-{index}-line"]
        looks.add((line.get_color(), line.get_marker(), line.get_linestyle()))
    assert len(looks) == 1


def test_methods_can_be_told_apart_in_grey() -> None:
    names = [f"method {i}" for i in range(36)]
    many = Runs(pd.DataFrame({"problem": "a", "method": names, "batch_size": pd.array([pd.NA] * 36, "Int64")}))
    assert len({(look.dashes, look.marker) for look in style.method_styles(many).values()}) == 36


def test_curves_are_thinned() -> None:
    kept = style.thin(5000)
    assert len(kept) == style.MAX_POINTS
    assert kept[0] == 0
    assert kept[-1] == 4999
    assert style.thin(3).tolist() == [0, 1, 2]


def test_figures_of_a_table_of_curves(runs: Runs) -> None:
    def drawn(what: Any) -> dict[str, np.ndarray]:
        ax = reports.convergence(what, VALLEY, Figure().add_subplot())
        return {
            str(line.get_gid()): np.asarray(line.get_xydata())
            for line in ax.get_lines()
            if str(line.get_gid()).endswith("-line")
        }

    well = Runs(runs.rows[~runs.rows["status"].isin(["failed"])])
    whole, told = drawn(well), drawn(well.curves)
    assert whole.keys() == told.keys()
    for name in whole:
        np.testing.assert_allclose(whole[name], told[name], rtol=1e-12)
    fewer = well.curves.query("optimizer == 'adam' and step_size > 0.5")
    assert len(drawn(fewer)) == 1
    with pytest.raises(InputError, match="lacks best_gap"):
        reports.convergence(well.curves.drop(columns="best_gap"), VALLEY)


def test_the_last_iterate_is_drawn_below_a_ceiling(runs: Runs) -> None:
    ax = reports.convergence(runs, STEEP, Figure().add_subplot(), value="f")
    ((line,),) = [[line for line in ax.get_lines() if str(line.get_gid()).endswith("-line")]]
    start, end = np.asarray(line.get_ydata())[[0, -1]]
    assert end == 100 * start
    best = reports.convergence(runs, STEEP, Figure().add_subplot())
    assert max(np.max(line.get_ydata()) for line in best.get_lines() if line.get_gid()) == start


def test_guaranteed_rates_hold_for_gradient_descent(runs: Runs) -> None:
    rows = runs.rows[runs.rows["problem"] == VALLEY]
    table = convergence.rates(Runs(rows)).query("rate == 'gradient descent, step 1/L'")
    # L = 1 and mu = 1/100, by the definition of the problem
    start = np.median((rows["f_start"] - rows["f_star"]).groupby(rows["seed"]).first())
    np.testing.assert_allclose(table["bound"], start * 0.99 ** table["t"], rtol=1e-12)
    run = optbench.sweep(VALLEY, "gradient_descent", lr=1.0, seeds=5, steps=60).curves
    part = run["gap"] / run.groupby("seed")["gap"].transform("first")
    assert (part <= 0.99 ** run["t"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("problem", [NETWORK, STEEP, NOISE])
def test_no_rate_is_claimed_where_none_is_known(runs: Runs, problem: str) -> None:
    rows = runs.rows[runs.rows["problem"] == problem].copy()
    assert convergence.rates(
        Runs(rows[["calls_per_step", "exact_targets", "f_start", "f_star", "end"]])
    ).empty  # stored without `about`
    if problem == STEEP:
        return  # strongly convex, with exact gradients
    assert convergence.rates(Runs(rows)).empty


@pytest.mark.parametrize("kind", ["accuracy", "loss"])
def test_parts_of_the_data_are_told_apart(runs: Runs, kind: str) -> None:
    ax = reports.generalization(runs, NETWORK, Figure().add_subplot(), kind=kind)
    legend = ax.get_legend()
    assert legend is not None
    parts = [text.get_text() for text in legend.get_texts()]
    assert parts == (["train", "validation", "test"] if kind == "accuracy" else ["validation", "test"])
    assert len({line.get_marker() for line in ax.get_lines()}) == len(parts)
    table = metrics.learned(runs).query(
        "problem == @NETWORK and figure == @kind.__str__() or figure == 'test_' + @kind"
    )
    order = table.sort_values("median", ascending=kind == "loss")["method"].tolist()
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(shown) == sorted(order)
    assert table.set_index("method")["median"][shown[0]] == (max if kind == "accuracy" else min)(table["median"])


def test_figures_ask_for_a_problem(runs: Runs) -> None:
    with pytest.raises(InputError, match="choose a problem"):
        reports.convergence(runs)
    with pytest.raises(InputError, match="no results for problem 'sphere'"):
        reports.sensitivity(runs, "sphere")


def test_one_problem_needs_no_name(runs: Runs) -> None:
    import matplotlib.pyplot as plt

    ax = reports.convergence(Runs(runs.rows[runs.rows["problem"] == NETWORK]))
    assert NETWORK in ax.get_title(loc="left")
    plt.close("all")


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


def test_importing_reports_draws_nothing_in() -> None:
    code = "import sys, reports; print([m for m in ('matplotlib', 'pandas', 'seaborn', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'conver'"):
        _ = getattr(reports, "conver")  # noqa: B009
    assert {"build_page", "summary_table"} <= set(dir(reports))
