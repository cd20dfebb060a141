"""The overview: what the headline may say, figures of all problems together, and their part of the page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import reports
from optbench.analysis import grid, profiles, ranking
from optbench.core.trace import TARGETS
from optbench.results.runs import Runs
from reports import tables, verdict, wording
from reports.figures import heatmap, style
from reports.page.context import PageContext
from reports.sections import overview
from tests.conftest import present
from tests.rows import run_row


def row(method: str, problem: str, seed: int, calls: Any, **more: Any) -> dict[str, Any]:
    """A run that takes so many calls to every target; None without a known optimum."""
    known = {
        "key": f"{method}-{problem}-{seed}-{more.get('settings')}", "problem_spec": problem, "optimizer": method,
        "seed": seed, "f_start": 1.0, "f_end": 0.5, "f_best": 0.5, "f_star": None if calls is None else 0.0,
        "f_star_method": "by hand", "calls_to_target": None if calls is None else [calls] * len(TARGETS),
        "t": [0, 1], "f": [1.0, 0.5], "best": [1.0, 0.5], "end": 99, "gradient_norm": [1.0, 0.5],
        "exact_targets": True, "chunk_runs": 1, "calls": 100.0, "values": 100.0,
    }  # fmt: skip
    return run_row(**known | more)


def runs_with(times: Mapping[str, Sequence[Any]], seeds: int = 3, **of: Mapping[str, Any]) -> Runs:
    """Method -> calls on the problems p0, p1, ...; None where it did not run; `of` has more columns of a method."""
    return Runs.from_rows(
        [
            row(method, f"p{p}", seed, calls, **of.get(method, {}))
            for method, line in times.items()
            for p, calls in enumerate(line)
            if calls is not None
            for seed in range(seeds)
        ]
    )


def said(runs: Runs) -> str:
    return " ".join("".join(sentence) for sentence in verdict.headline(runs))


def test_one_problem_and_two_optimizers_are_put_into_words() -> None:
    text = said(runs_with({"a": [2], "b": [8]}))
    assert text.startswith("a is first on the one problem that both ran on: mean rank 1")
    assert "a reaches 1e-4 of the initial gap on it; there b needs 4 times as many oracle calls." in text
    assert "This rests on 1 problem and 3 seeds each: too few problems" in text


CLEAR = {"fast": [2] * 8, "slow": [20] * 8, "slower": [40] * 8}


def test_as_many_calls_are_not_called_one_times_as_many() -> None:
    text = said(runs_with({"a": [2, 2, 2, 2, 2, 2], "b": [2, 2, 2, 2, 2, 2]}))
    assert "there b needs as many oracle calls." in text


def test_one_call_is_one_call() -> None:
    assert [leader.result for leader in tables.leaders(runs_with({"a": [1, 2]}))] == ["1 call", "2 calls"]


def test_a_ranking_of_one_or_two_can_be_read() -> None:
    for count in (1, 2):
        runs = runs_with(dict(zip("ab"[:count], ([2], [8]), strict=False)))
        made = overview.ranks_figure(PageContext(runs), ranking.ranking(runs))
        assert re.findall(r">(\d[.\d]*)</text>", str(made.svg)) == [str(place) for place in range(1, count + 1)]


def test_a_clear_winner_is_said_to_lead_with_its_margin_and_its_base() -> None:
    text = said(runs_with(CLEAR))
    assert text.startswith(
        "fast leads over the 8 problems that all 3 ran on: mean rank 1.00 (95 % interval 1.00 to 1.00), before slow (2.00)"
    )
    assert "in every resample of problems and seeds" in text
    assert (
        "fast reaches 1e-4 of the initial gap on all of them; there slow needs 10 times as many oracle calls." in text
    )
    assert "8 problems and 3 seeds each; fast is ahead of slow on 8 problems and behind on 0" in text
    assert f"p = {2**-7:.2g}" in text


def test_a_tie_is_not_called() -> None:
    text = said(runs_with({"one": [2, 20, 2, 20], "two": [20, 2, 20, 2]}))
    assert "too close to call" in text
    assert "one and two have the same mean rank, 1.50" in text
    assert " leads " not in text


def test_a_small_lead_is_not_called_either() -> None:
    text = said(runs_with({"one": [2, 2, 2, 20, 20], "two": [20, 20, 20, 2, 2]}))
    table = ranking.ranking(runs_with({"one": [2, 2, 2, 20, 20], "two": [20, 20, 20, 2, 2]}))
    assert 0.5 < table.loc[0, "beats_next"] < verdict.LIKELY
    assert "too close to call" in text
    assert f"in only {100 * table.loc[0, 'beats_next']:.0f} % of resamples" in text


def test_between_the_two_one_probably_leads() -> None:
    runs = runs_with({"one": [2, 2, 2, 2, 2, 20, 20], "two": [20, 20, 20, 20, 20, 2, 2]})
    assert verdict.LIKELY <= ranking.ranking(runs).loc[0, "beats_next"] < verdict.CLEAR
    assert said(runs).startswith("one probably leads over the 7 problems")


def test_five_problems_are_said_to_be_too_few() -> None:
    text = said(runs_with({name: line[:5] for name, line in CLEAR.items()}))
    assert "too few problems for any order to be significant at 5 % (sign test, p ≥ 0.0625)" in text
    assert text.startswith("fast is first over the 5 problems")
    assert " leads " not in text


def test_all_methods_that_tie_for_second_place_are_named() -> None:
    text = said(runs_with({"fast": [2] * 8, "b": [20] * 8, "c": [20] * 8, "d": [20] * 8}))
    assert "before b, c and d (3.00 each), before b in every resample" in text
    two = said(runs_with({"fast": [2] * 8, "b": [20] * 8, "c": [20] * 8, "d": [40] * 8}))
    assert "before b and c (2.50 each), before b in every resample" in two


def test_one_method_on_one_problem_is_not_compared() -> None:
    assert verdict.answer(runs_with({"a": [20]})) == ["a: 20 calls to 1e-10 of the initial gap"]
    first, second = verdict.answer(runs_with({"a": [20, 1]}))
    assert (first, second) == (
        "a: 20 calls to 1e-10 of the initial gap on p0",
        "a: 1 call to 1e-10 of the initial gap on p1",
    )


def test_hessians_are_named_as_the_caveat_and_the_best_without_them_is_told() -> None:
    text = said(runs_with(CLEAR, fast={"oracle": "hessian"}))
    assert "fast uses Hessians" in text
    assert "Without Hessians, slow leads among 2: mean rank 1.00 " in text
    assert "fast uses Hessians" not in said(runs_with(CLEAR, slow={"oracle": "hessian"}))
    alone = said(runs_with({"a": [2] * 3, "b": [9] * 3}, a={"oracle": "hessian"}))
    assert "Without Hessians" not in alone


def test_misses_of_the_second_are_told_and_not_averaged() -> None:
    text = said(runs_with({"a": [2, 4, 10, 5], "b": [6, np.inf, 10, np.inf]}))
    assert "a reaches 1e-4 of the initial gap on all of them; there b needs 1 to 3 times as many oracle calls" in text
    assert "and misses it on 2." in text
    none = said(runs_with({"a": [2, 4], "b": [np.inf, np.inf]}))
    assert "a reaches 1e-4 of the initial gap on all of them, b on none of those." in none


def test_divergence_over_the_grid_is_told() -> None:
    rows = []
    for method, fast in (("sgd", 5), ("adam", 9), ("lbfgs", 2)):
        for p in range(2):
            for seed in range(2):
                if method == "lbfgs":
                    rows.append(row(method, f"p{p}", seed, fast))
                    continue
                for lr, calls in ((0.1, 50), (1.0, fast), (10.0, np.inf)):
                    lost = {"status": "diverged"} if method == "sgd" and lr == 10 else {}
                    more = {"settings": json.dumps({"lr": lr}), "step_size": lr}
                    rows.append(row(method, f"p{p}", seed, calls, **more, **lost))
    text = said(Runs.from_rows(rows))
    assert "With a learning rate, sgd is first among 2" in text
    assert "33 % of the runs of sgd over 3 step sizes diverged." in text
    calm = [r for r in rows if r["optimizer"] != "sgd"]
    assert "None of the 12 runs of adam diverged, over 3 step sizes." in said(Runs.from_rows(calm))
    broken = [r | {"status": "failed"} if r["status"] == "diverged" and r["seed"] else r for r in rows]
    assert "33 % of the runs of sgd over 3 step sizes diverged or failed." in said(Runs.from_rows(broken))


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"only": [3, 4]}, "only is the only optimizer on 2 problems"),
        ({"a": [3, None], "b": [None, 3]}, "a is the only optimizer on 1 problem with a known optimal value"),
    ],
)
def test_without_a_second_there_is_nothing_to_rank(times: Any, words: str) -> None:
    assert words in said(runs_with(times))


def test_without_targets_the_headline_points_to_the_problems() -> None:
    assert said(Runs.from_rows([row("a", "p", 0, None), row("b", "p", 0, None)])).startswith(wording.NO_RANKING)
    assert said(Runs.from_rows([])).startswith(wording.NO_RANKING)


def test_headings_leave_out_what_a_family_shares() -> None:
    names = [
        "quadratic:dim=10,condition=100",
        "quadratic:dim=20,condition=100",
        "mlp:hidden=[16,16],data=moons",
        "beale",
    ]
    short = heatmap.headings(names)
    assert short == ["quadratic:dim=10", "quadratic:dim=20", names[2], "beale"]
    assert heatmap.headings(["mlp:hidden=[16,16]", "mlp:hidden=[16,8]"]) == ["mlp:hidden=[16,16]", "mlp:hidden=[16,8]"]
    (long,) = heatmap.headings(["mlp:hidden=" + 50 * "1"])
    assert len(long) == 40
    assert heatmap.headings(["a:x=1", "a:x=1,y=2"]) == ["a", "a:y=2"]


TIMES: dict[str, list[Any]] = {
    "a": [2, 8, 3, np.inf],
    "b": [4, 4, np.inf, np.inf],
    "c": [3, 16, 9, 50],
    "_$d$": [9, None, None, None],
}


@pytest.fixture(scope="module")
def runs() -> Runs:
    rows = [
        row(method, f"p{p}", seed, calls)
        for method, line in TIMES.items()
        for p, calls in enumerate(line)
        if calls is not None
        for seed in range(4)
    ]
    for r in rows:  # one seed of c misses on p1; one of b gets there on p2
        if (r["optimizer"], r["problem_spec"], r["seed"]) == ("c", "p1", 0):
            r["calls_to_target"] = [np.inf] * 50
        if (r["optimizer"], r["problem_spec"], r["seed"]) == ("b", "p2", 0):
            r["calls_to_target"] = [7.0] * 50
    return Runs.from_rows([*rows, *(row(m, "unknown", 0, None) for m in "ab")])


def line_of(ax: Axes, method: str, styles: style.Styles) -> tuple[np.ndarray, np.ndarray]:
    gid = re.compile(rf"(curve|rest)-{styles[method].index}-line")
    (line,) = [line for line in ax.lines if gid.fullmatch(line.get_gid() or "")]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


@pytest.mark.parametrize(
    ("draw", "compute", "column"),
    [
        (reports.performance_profile, profiles.performance_profile, "ratio"),
        (reports.data_profile, profiles.data_profile, "calls"),
    ],
)
def test_profiles_are_drawn_as_computed(runs: Runs, draw: Any, compute: Any, column: str) -> None:
    ax = draw(runs, 1e-2, Figure().add_subplot())
    styles, table = style.method_styles(runs), compute(runs, 1e-2)
    assert ax.get_xscale() == "log"
    assert "1e-2" in ax.get_title(loc="left")
    for method in grid.complete_set(runs).methods:
        x, y = line_of(ax, method, styles)
        steps = table[table["method"] == method]
        where = np.searchsorted(x, steps[column].to_numpy(float))
        assert y[where] == pytest.approx(steps["share"].to_numpy(float))
        assert x[-1] == ax.get_xlim()[1]  # all end where the axes do
        assert y[-1] == steps["share"].iloc[-1]


def test_the_ecdf_is_drawn_as_computed(runs: Runs) -> None:
    ax = reports.ecdf(runs, Figure().add_subplot())
    for method in grid.complete_set(runs).methods:
        x, y = line_of(ax, method, style.method_styles(runs))
        table = profiles.ecdf(runs, x)
        assert y == pytest.approx(table.loc[table["method"] == method, "share"].to_numpy(float))


def test_only_the_best_are_named_and_in_colour(runs: Runs) -> None:
    ax = reports.data_profile(runs, ax=Figure().add_subplot(), emphasis=1)
    styles, best = style.method_styles(runs), ranking.ranked_methods(runs)[0]
    gids = {line.get_gid() for line in ax.lines}
    assert f"curve-{styles[best].index}-line" in gids
    assert {f"rest-{styles[name].index}-line" for name in ranking.ranked_methods(runs)[1:]} <= gids
    assert [text.get_text() for text in ax.texts] == [best]


def test_ranks_are_drawn_as_computed(runs: Runs) -> None:
    ax = reports.ranks(runs, Figure().add_subplot())
    table, styles = ranking.ranking(runs), style.method_styles(runs)
    assert [label.get_text() for label in ax.get_yticklabels()] == table["method"].tolist()
    lines = {line.get_gid(): line for line in ax.lines}
    for place, line in enumerate(table.itertuples()):
        index = styles[line.method].index
        assert np.asarray(lines[f"curve-{index}-rank"].get_xydata()).tolist() == [[line.rank, place]]
        assert np.asarray(lines[f"curve-{index}-interval"].get_xydata()).tolist() == [
            [line.low, place],
            [line.high, place],
        ]


def test_the_heat_map_shows_misses_as_misses(runs: Runs) -> None:
    ax = reports.heatmap(runs, ax=Figure().add_subplot())
    rows = [label.get_text() for label in ax.get_yticklabels()]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    assert rows == [*ranking.ranked_methods(runs), "_$d$"]
    assert columns == ["p0", "p1", "p2", "p3"]  # where no optimum is known there are no targets
    text = {(rows[round(t.get_position()[1])], columns[round(t.get_position()[0])]): t.get_text() for t in ax.texts}
    assert text["a", "p0"] == text["c", "p3"] == "1"
    assert text["c", "p0"] == "1.5"
    assert text["b", "p3"] == "×"
    assert text["b", "p2"] == "1/4"
    assert text["_$d$", "p1"] == "–"
    hatched = {
        (rows[round(p.get_y() + 0.5)], columns[round(p.get_x() + 0.5)])
        for p in ax.patches
        if isinstance(p, Rectangle) and p.get_hatch()
    }
    assert hatched == {("a", "p3"), ("b", "p2"), ("b", "p3")}
    shown = ax.images[0].get_array()
    assert np.ma.getmaskarray(present(shown)).sum() == 3 + 3  # misses and what did not run have no colour


@pytest.mark.parametrize("name", ["performance_profile", "data_profile", "ecdf", "heatmap", "ranks"])
@pytest.mark.parametrize(
    "empty", [Runs.from_rows([]), Runs.from_rows([row("a", "p", 0, None)])], ids=["nothing", "no targets"]
)
def test_figures_of_nothing_say_so(name: str, empty: Runs) -> None:
    ax = getattr(reports, name)(empty, ax=Figure().add_subplot())
    assert len(ax.texts) == 1


def test_long_names_at_the_top_stay_within_the_axes() -> None:
    heights = style._apart(np.ones(6), 0.05)
    assert heights == pytest.approx([1 - 0.05 * i for i in range(6)])
    assert style._apart(np.zeros(6), 0.05) == pytest.approx([0.25 - 0.05 * i for i in range(6)])


@pytest.fixture(scope="module")
def page(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    return reports.build_page(runs, tmp_path_factory.mktemp("site")).read_text(encoding="utf-8")


def part(page: str, begin: str, end: str) -> str:
    return page[page.index(begin) :].partition(end)[0]


def test_the_overview_is_on_the_page(page: str, runs: Runs) -> None:
    words = re.sub(r"<[^>]+>", "", part(page, '<div class="headline">', "</div>")).replace("\u00a0", " ")
    assert " ".join(words.split()) == " ".join(said(runs).split())
    section = part(page, '<section id="overview">', "</section>")
    assert section.count('role="img"') == 8
    assert section.count('<table class="heat') == 3
    assert "_$d$</bdi> did not run on" in section
    assert "unknown" in part(section, "No optimal value is known", "</p>")


def test_one_target_is_shown_at_first_and_each_can_be_chosen(page: str) -> None:
    radios = re.findall(r'<input type="radio" name="target" id="target-(\S+)" class="to-(\d)"[^>]*?( checked)?>', page)
    assert radios == [("1e-2", "0", ""), ("1e-4", "1", " checked"), ("1e-8", "2", "")]
    for name, number, _ in radios:
        assert f'<label for="target-{name}">' in page
        assert f".to-{number}:checked ~ .at-{number}" in page


def test_the_heat_map_of_the_page_is_the_table_behind_it(page: str, runs: Runs) -> None:
    table = profiles.relative_calls(runs, 1e-4).set_index(["method", "problem"])
    heat = part(page, '<div class="at at-1">', "</table>")
    problems = re.findall(r'class="tall"><a href="#[\w-]+" title="([^"]+)"', heat)
    rows = re.findall(r"<tr data-method.*?</tr>", heat, re.DOTALL)
    assert len(rows) == 4
    for text in rows:
        method = re.search(r"<bdi>(.*?)</bdi>", text)[1]  # type: ignore[index]
        cells = re.findall(r'<td class="(r\d|missed|absent)" title="([^"]*)">([^<]*)', text)
        assert len(cells) == len(problems)
        for problem, (kind, title, shown) in zip(problems, cells, strict=True):
            line = table.loc[(method, problem)]
            assert (kind == "missed") == (line["status"] == "missed")
            assert (kind == "absent") == (line["status"] == "not run")
            if line["status"] == "reached":
                assert float(shown) == pytest.approx(line["ratio"], rel=0.05)
                assert title.startswith(f"{line['calls']:g} calls, {line['reached']} of {line['seeds']} seeds")
                assert (kind == "r0") == (line["ratio"] == 1)


def test_the_ranking_of_the_page(page: str, runs: Runs) -> None:
    section = part(page, 'aria-label="Ranking"', "</table>")
    shown = re.findall(r'data-key="([^"]+)"><span', section)
    assert shown == ranking.ranking(runs)["method"].tolist()


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, WCAG 2.2."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_numbers_of_the_heat_map_can_be_read_and_its_colours_fall_in_order(mode: int) -> None:
    text = (Path(reports.__file__).parent / "templates" / "overview.css").read_text(encoding="utf-8")
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", text.split("prefers-color-scheme: dark")[mode].partition("}")[0]))
    for i in range(len(heatmap.STEPS)):
        assert contrast(colors[f"r{i}"], colors["on-deep" if i < 2 else "on-pale"]) >= 4.5
    page = ("#ffffff", "#16171b")[mode]
    strength = [contrast(colors[f"r{i}"], page) for i in range(len(heatmap.STEPS))]
    assert strength == sorted(strength, reverse=True)
    assert pd.Series(strength).is_unique


def test_many_methods_on_many_problems_are_drawn(rng: np.random.Generator, tmp_path: Path) -> None:
    times = {f"m{e:02}": rng.integers(2, 99, size=9).astype(float).tolist() for e in range(24)}
    runs = runs_with(times, seeds=2)
    text = reports.build_page(runs, tmp_path).read_text(encoding="utf-8")
    heat = part(text, '<div class="at at-1">', "</table>")
    assert len(re.findall(r'<td class="r\d', heat)) == 24 * 9
    # the leaders are below the figures where there are many
    assert text.index("Problem by problem") > text.index('aria-label="Ranking"')
