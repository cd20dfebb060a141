"""What is wrong with results and which targets do not count, as the terminal, the tables and the page say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optbench
import reports
from optbench.analysis.grid import complete_set
from optbench.results.runs import Runs
from tests.reports.conftest import page_of
from tests.reports.reader import Reader
from tests.rows import target_row

COARSE = [*[5.0] * 20, *[np.nan] * 30]
INVALID = {"status": "invalid", "error": "ValueError: the value -1.0 at step 0 is below the stated lower bound 0.0"}


def seen_text(page: str) -> str:
    """The text of a page, with single spaces."""
    return " ".join(Reader(page).text.split())


def both(problem: str, calls: Any = 20.0, **more: Any) -> list[dict[str, Any]]:
    """Two seeds of two methods."""
    return [target_row(method, problem, seed, calls, **more) for method in ("a", "b") for seed in range(2)]


@pytest.fixture(scope="module")
def wrong() -> Runs:
    """A problem that is right, a coarse one, one with an invalid run, one with different optima, and four missing runs."""
    mixed = [*both("mixed", f_star=0.25)[:2], *both("mixed")[2:]]
    invalid = [target_row("a", "invalid", 9, np.inf, f_best=-1.0, **INVALID), *both("invalid")]
    rows = Runs.from_rows([*both("right"), *both("coarse", COARSE, precision="float32"), *mixed, *invalid]).rows
    return Runs(rows, missing=4)


@pytest.fixture(scope="module")
def page_of_wrong(wrong: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(wrong, tmp_path_factory.mktemp("site"))


def test_nothing_is_wrong_with_right_results() -> None:
    runs = Runs.from_rows(both("p"))
    assert reports.alerts(runs) == []
    assert reports.unresolved_targets(runs) == []
    assert reports.alerts(Runs.from_rows([])) == []


def test_alerts_name_the_problem_the_reason_and_the_cure(wrong: Runs) -> None:
    assert reports.alerts(wrong) == [
        "invalid contradicts itself in 1 of 5 runs: the value -1.0 at step 0 is below the stated lower bound 0.0. No "
        "target counts there, and nothing is claimed about it.",
        "mixed has rows with different optimal values, 0 and 0.25, of different code. No target counts there until "
        "the same code has computed all its runs, for example in a new results folder.",
        "4 of 21 requested runs are missing, because the computation was interrupted. The same command computes what is "
        "missing.",
    ]
    (alert,) = reports.alerts(Runs(Runs.from_rows(both("p")).rows, missing=1))
    assert alert.startswith("1 of 5 requested runs is missing")


def test_alerts_are_on_top_of_the_page(wrong: Runs, page_of_wrong: str) -> None:
    header = page_of_wrong[page_of_wrong.index("<header>") :].partition("</header>")[0] + "</header>"
    assert header.count('role="alert"') == page_of_wrong.count('role="alert"') == 3
    text = seen_text(header)
    for alert in reports.alerts(wrong):
        assert alert in text


def test_nothing_is_claimed_about_wrong_problems(wrong: Runs, page_of_wrong: str) -> None:
    assert complete_set(wrong).problems == ("coarse", "right")
    others = reports.answer(Runs(wrong.rows[wrong.rows["problem"].isin(["invalid", "mixed"])]))
    assert others == [
        "invalid: it contradicts itself in 1 run",
        "mixed: it has rows with different optimal values, 0 and 0.25, of different code",
    ]
    text = seen_text(page_of_wrong)
    assert "1 contradicted the problem: ValueError: the value -1.0 at step 0" in text
    for reason in ("contradicts itself in 1 run", "has rows with different optimal values, 0 and 0.25"):
        assert reason in text


def test_targets_that_do_not_count_are_named_with_precision_and_problems(wrong: Runs, page_of_wrong: str) -> None:
    more = {"precision": "float32"}
    flat = both("flat", [np.nan] * 50)
    runs = Runs.from_rows([*both("p", COARSE, **more), *both("q", COARSE, **more), *both("r"), *flat])
    assert reports.unresolved_targets(runs) == [
        "Targets below 1e-4 of the initial gap cannot be resolved in float32 on p, q; they count neither as reached nor "
        "as missed.",
        "No target can be resolved on flat, so that none counts there.",
    ]
    assert reports.alerts(runs) == []  # nothing has to be corrected
    (sentence,) = reports.unresolved_targets(wrong)
    assert sentence in seen_text(page_of_wrong)


@pytest.fixture(scope="module")
def single() -> Runs:
    """A small study in single precision."""
    return optbench.compare(
        "logistic:data=iris", ["gradient_descent", "lbfgs"], lr=[0.1, 1.0], seeds=2, steps=200, precision="float32"
    )


def test_single_precision_does_not_claim_what_it_cannot_resolve(single: Runs) -> None:
    calls = np.array(single.rows["calls_to_target"].tolist())
    cannot = np.isnan(calls).any(axis=0)
    last = int(np.flatnonzero(~cannot)[-1])
    assert cannot[last + 1 :].all()
    assert 20 < last < 45  # between 1e-4 and 1e-9
    (sentence,) = reports.unresolved_targets(single)
    assert "cannot be resolved in float32 on logistic:data=iris" in sentence
    shown = reports.summary_table(single)
    assert "calls to 1e-4" in shown
    assert "calls to 1e-8" not in shown
    # with a problem that resolves all targets, the column is there
    double = optbench.compare("quadratic:dim=3", ["lbfgs"], seeds=2, steps=60)
    together = reports.summary_table(single + double).set_index("problem")["calls to 1e-8"]
    assert set(together["logistic:data=iris"]) == {"n/a"}
    assert together["quadratic:dim=3"].isdigit()


def test_figures_of_selected_curves_take_results_with_unresolved_targets(single: Runs) -> None:
    for draw in (reports.heatmap, reports.ecdf, reports.performance_profile, reports.data_profile, reports.sensitivity):
        assert draw(single).get_figure() is not None
