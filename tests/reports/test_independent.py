"""The auditor of a page: it agrees with the page of a store of many kinds of problems, and sees one number changed."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reports
from optbench.optimizer import make_recipe
from optbench.problem import make_problem
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.plan import make_plans
from optbench.runner.study import load_study
from tests.reports import independent
from tests.rows import target_row

STUDY = {
    "seeds": 4,
    "lr": "1e-2:10:4",
    "steps": 60,
    "compare": [
        {"problems": ["quadratic:dim=6"], "optimizers": ["gradient_descent", "lbfgs", "newton", "random_search"]},
        {"problems": ["quadratic:dim=6"], "optimizers": [{"name": "momentum", "beta": [0.5, 0.9]}]},
        {"problems": ["valley", "strict_saddle"], "optimizers": [{"name": "momentum", "beta": [0.5, 0.9]}]},
        {"problems": ["valley", "strict_saddle"], "optimizers": ["gradient_descent", "adam"]},
        {"problems": ["logistic:data=iris,test_fraction=0.3"], "optimizers": ["sgd", "adam"], "batch_size": [16, 32]},
        {"problems": ["mlp:data=iris,hidden=4"], "optimizers": ["sgd", "lbfgs"], "steps": 20},
        {"problems": ["quadratic:dim=30,spectrum=chain"], "optimizers": ["gradient_descent"], "lr": [1e3, 1e4]},
    ],
}  # fmt: skip


def broken(xp: Any, x: Any, g: Any, t: int, lr: Any = 0.1) -> tuple[Any, ...]:
    """A rule with a defect."""
    raise RuntimeError("= no <luck> today")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exact and mini-batch runs, problems with and without an optimum, one on which all diverged, and runs that failed."""
    path = tmp_path_factory.mktemp("results")
    plans = [*load_study(STUDY).plans]
    for problem, params in (("quadratic", {"dim": 6}), ("mlp", {"data": "wine"})):
        plans += make_plans(make_problem(problem, params), make_recipe(broken, {}), seeds=2)
    execute(plans, store=Store(path))
    return path


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return reports.build_page(Store(folder).load(), folder / "page.html").read_text(encoding="utf-8")


def test_it_agrees_with_the_page_about_every_table(folder: Path, text: str) -> None:
    audit = independent.audited(folder, text)
    assert audit.wrong == []
    compared = set(audit.compared)
    assert {"heat map", "ranking", "leaders", "calls to powers of ten", "summary of a problem"} <= compared
    assert {"divergences and failures", "profiles, embedded", "relative calls, embedded"} <= compared
    assert sum(audit.compared.values()) > 2_000
    assert "table lesson-valley" in audit.unknown  # tests of lessons recompute it


COARSE = [*[9.0] * 20, *[math.inf] * 5, *[math.nan] * 25]
INVALID: dict[str, Any] = {
    "status": "invalid",
    "error": "the value -1 is below the stated lower bound 0",
    "f_best": -1.0,
}


def test_it_masks_what_cannot_be_judged_as_the_page_does(tmp_path: Path) -> None:
    """Targets that one method cannot resolve, an invalid run, different optima, and a method that only failed."""
    failed: dict[str, Any] = dict.fromkeys(
        ["f_start", "f_end", "f_best", "f_star", "calls_to_target", "calls_per_step"]
    )
    failed |= {"status": "failed", "error": "no luck", "end": None, "checkpoint_calls": []}
    failed |= {name: [] for name in ("t", "f", "best", "gradient_norm")}
    rows = [
        target_row(method, problem, seed, 20.0 + seed)
        for problem in ("fine", "coarse", "invalid", "mixed")
        for method in ("adam", "sgd")
        for seed in range(3)
        if (problem, method) not in {("coarse", "adam"), ("mixed", "adam")}
    ]
    for seed in range(3):
        rows.append(target_row("adam", "coarse", seed, COARSE, precision="float32"))
        rows.append(target_row("adam", "mixed", seed, 9.0, f_star=0.25))
        rows.append(target_row("lion", "coarse", seed, None, **failed))
    for seed, error in ((7, INVALID["error"]), (8, "the value -2 is below the stated lower bound 0")):
        rows.append(target_row("adam", "invalid", seed, math.inf, **INVALID | {"error": error}))
    store = Store(tmp_path)
    store.write([row | {"identity": row["key"]} for row in rows])
    page = reports.build_page(store.load(), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 contradicted the problem, for example: the value -1 is" in page
    audit = independent.audited(tmp_path, page)
    assert audit.wrong == []
    assert {"leaders", "ranking", "profiles, embedded", "targets at any time, embedded"} <= set(audit.compared)


def seen(pattern: str) -> Callable[[str], str]:
    """Change the last digit before the end of what a pattern finds first."""

    def changed(text: str) -> str:
        match = re.search(pattern, text, re.DOTALL)
        assert match
        end = match.end(1) - 1
        return text[:end] + ("3" if text[end] != "3" else "4") + text[end + 1 :]

    return changed


def rewritten(text: str, name: str, change: Callable[[list[list[str]]], None]) -> str:
    """The page with another table for download; lines are split at commas from the right, where no names are."""
    match = re.search(r'id="tables">(.*?)</script>', text, re.DOTALL)
    assert match
    tables = json.loads(match[1])
    lines = gzip.decompress(base64.b64decode(tables[name])).decode("utf-8").rstrip("\n").split("\n")
    cells = [line.split(",") for line in lines]
    change(cells)
    content = "".join(",".join(line) + "\n" for line in cells)
    tables[name] = base64.b64encode(gzip.compress(content.encode("utf-8"))).decode("ascii")
    return text[: match.start(1)] + json.dumps(tables) + text[match.end(1) :]


def embedded(name: str, column: str, line: int = 2) -> Callable[[str], str]:
    """Change the first digit of a cell of a table for download."""

    def change(cells: list[list[str]]) -> None:
        at = cells[0].index(column) - len(cells[0])  # from the end: names before may have commas
        cells[line][at] = re.sub(r"\d", lambda digit: "3" if digit[0] != "3" else "4", cells[line][at], count=1)

    return lambda text: rewritten(text, name, change)


@pytest.mark.parametrize(
    ("change", "table"),
    [
        (seen(r'<p class="lead">(\d+)'), "head line"),
        (seen(r'aria-label="Summary table".*?<td class="number" data-key="[^"]*">(\d[\d.]*)<'), "summary of a problem"),
        (seen(r'aria-label="Calls to targets".*?<td class="number"[^>]*>(\d+)<'), "calls to powers of ten"),
        (seen(r'aria-label="Ranking".*?<td class="number"[^>]*>(\d+)'), "ranking"),
        (seen(r'<td class="r[1-7]" title="[^"]*">(\d[\d.]*)<'), "heat map"),
        (seen(r'aria-label="Who leads.*?<td class="number">(\d+) calls'), "leaders"),
        (seen(r"<bdi>(\d+) diverged"), "divergences and failures"),
        (embedded("quadratic-dim-6-summary", "final"), "summary of a problem, embedded"),
        (embedded("quadratic-dim-6-targets", "calls"), "calls to powers of ten, embedded"),
        (embedded("ranking", "area"), "ranking, embedded"),
        (embedded("ecdf", "share", 30), "targets at any time, embedded"),
        (embedded("performance-profile-1e-4", "share"), "profiles, embedded"),
        (embedded("relative-calls-1e-8", "seeds"), "relative calls, embedded"),
    ],
)
def test_it_sees_one_number_that_was_changed(folder: Path, text: str, change: Callable[[str], str], table: str) -> None:
    changed = change(text)
    assert changed != text
    audit = independent.audited(folder, changed)
    assert {wrong.partition(": ")[0] for wrong in audit.wrong} == {table}


def test_a_further_column_is_reported_and_breaks_nothing(folder: Path, text: str) -> None:
    def add_embedded(cells: list[list[str]]) -> None:
        for line, cell in zip(cells, ["further", *map(str, range(1, len(cells)))], strict=True):
            line.append(cell)

    changed = rewritten(text, "quadratic-dim-6-summary", add_embedded)
    head, body = '<th scope="col" class="number">mean rank</th>', r'(<th scope="row"[^>]*>(?:(?!</th>).)*</th>)'
    start, end = changed.index('aria-label="Ranking"'), changed.index("</table>", changed.index('aria-label="Ranking"'))
    ranking = changed[start:end].replace(head, f'<th scope="col">further</th>{head}')
    changed = changed[:start] + re.sub(body, r"\1<td>7</td>", ranking) + changed[end:]
    audit = independent.audited(folder, changed)
    assert audit.wrong == []
    assert audit.unknown - independent.audited(folder, text).unknown == {
        "column 'further' of summary of a problem, embedded",
        "column 'further' of ranking",
    }
    # a wrong number next to it is still detected
    audit = independent.audited(folder, embedded("quadratic-dim-6-summary", "final")(changed))
    assert {wrong.partition(": ")[0] for wrong in audit.wrong} == {"summary of a problem, embedded"}


def test_a_column_that_is_gone_is_wrong(folder: Path, text: str) -> None:
    changed = text.replace('<th scope="col" class="number">mean rank</th>', '<th scope="col" class="number">rank</th>')
    audit = independent.audited(folder, changed)
    assert {wrong.partition(": ")[0] for wrong in audit.wrong} == {"heat map", "ranking"}


def test_the_script_needs_no_package_of_the_project(folder: Path, text: str, tmp_path: Path) -> None:
    """It runs where optbench and reports cannot be imported; its exit status is 1 after a disagreement."""
    page = tmp_path / "page.html"
    script = Path(independent.__file__)
    for content, status in ((text, 0), (seen(r'<p class="lead">(\d+)')(text), 1)):
        page.write_text(content, encoding="utf-8")
        code = (
            "import sys, runpy; sys.modules.update(optbench=None, reports=None, problems=None); "
            f"sys.argv = {[str(script), str(folder), str(page)]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, "")
        assert done.stdout.endswith("1 disagreement\n" if status else "0 disagreements\n")
