"""The page in a real browser, without a network: figures, sorting, picking, downloads and the explorer.

The browser is a Chromium on PATH, or what OPTBENCH_BROWSER names (`.ci/browser` installs one). Without one these tests are
skipped, but where CI is set they fail.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import optbench
import reports
from optbench.analysis import metrics, tuning
from optbench.results.runs import Runs
from optbench.results.store import Store
from optbench.runner.execute import execute
from optbench.runner.study import load_study
from reports.figures import style
from reports.page import embed
from reports.page.context import PageContext
from reports.sections import explorer as explorer_of_page
from reports.wording import clean
from tests.reports.conftest import HOSTILE, NETWORK, VALLEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MIDDLE = """(line) => {
  const at = line.getPointAtLength(line.getTotalLength() / 2).matrixTransform(line.getScreenCTM());
  return [at.x, at.y];
}"""  # of a path, in the window
SIZES = """() => [...document.querySelectorAll("figure")].map((figure, i) => {
  const { width, height } = figure.querySelector("svg").getBoundingClientRect();
  return [i, width, height];
})"""
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    named = os.environ.get("OPTBENCH_BROWSER")
    path = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    missing = (
        None if path else f"no browser: {named or 'none of ' + ', '.join(NAMES)} is on PATH (.ci/browser installs one)"
    )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """More methods than a figure draws in colour, on a problem with an optimum and one with accuracies."""
    many = ["gradient_descent", "momentum", "nesterov", "adam", "adagrad", "rmsprop", "lbfgs", "bfgs", "newton"]
    compare = [
        {"problems": [VALLEY], "optimizers": many},
        {"problems": ["mlp"], "optimizers": ["sgd", "adam"], "batch_size": 100, "steps": 20},
        {"problems": ["mlp"], "optimizers": ["lbfgs"], "steps": 6},
    ]
    store = Store(tmp_path_factory.mktemp("results"))
    execute(load_study({"seeds": 3, "lr": "1e-3:10:5", "steps": 60, "compare": compare}).plans, store=store)
    return store.load()


@pytest.fixture(scope="module")
def path(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reports.build_page(runs, tmp_path_factory.mktemp("site"), command="optbench run a.toml")


@pytest.fixture(scope="module")
def hostile(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same under names that try to break the page, and one that a spreadsheet would run."""
    rows = runs.rows.copy()
    for column, names in (("method", [*HOSTILE, "=1+2", "-2", '@a,"b"']), ("problem", HOSTILE[:2])):
        for old, new in zip(sorted(set(rows[column])), names, strict=False):
            rows[column] = rows[column].replace(old, new)
    rows.loc[rows.index[:1], ["status", "error"]] = "failed", "a long story, " * 30 + "long" * 50
    return reports.build_page(Runs(rows, runs.environments), tmp_path_factory.mktemp("site"), title=HOSTILE[1])


@pytest.fixture(scope="module")
def windows(browser: Browser) -> dict[str, Page]:
    """Pages by their options, for reuse: a new one takes a third of a second."""
    return {}


@pytest.fixture
def opened(browser: Browser, windows: dict[str, Page]) -> Iterator[Open]:
    """Opens a page without a network; fails if the page sends a request or reports an error."""
    requested: list[str] = []
    messages: list[str] = []

    def ask(request: Any) -> None:
        requested.append(request.url)

    def listen(message: Any) -> None:
        messages.append(str(message))

    listeners: dict[Any, Any] = {"request": ask, "console": listen, "pageerror": listen}

    def open_page(path: Path, **options: Any) -> Page:
        if repr(options) not in windows:
            defaults: dict[str, Any] = {"viewport": DESKTOP, "offline": True, "reduced_motion": "reduce"}
            context = browser.new_context(**defaults | options)
            context.set_default_timeout(5000)
            windows[repr(options)] = context.new_page()
        page = windows[repr(options)]
        for event, listener in listeners.items():
            page.on(event, listener)
        page.emulate_media(media="screen")
        page.mouse.move(0, 0)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("#explorer .plot .line", state="attached")
        return page

    yield open_page
    for page in windows.values():
        for event, listener in listeners.items():
            with contextlib.suppress(KeyError):  # not a page of this test
                page.remove_listener(event, listener)
    assert messages == []
    assert requested
    assert not [url for url in requested if not url.startswith(("file:", "data:", "blob:"))]


def expect(locator: Locator) -> Any:
    """Playwright's `expect`, which waits; imported late, because playwright may not be there."""
    from playwright.sync_api import expect

    return expect(locator)


def explorer(page: Page) -> Locator:
    page.locator("#explorer .controls").scroll_into_view_if_needed()
    page.locator("#explorer .plot svg").scroll_into_view_if_needed()
    return page.locator("#explorer")


def ticks(page: Page) -> list[str]:
    return page.locator("#explorer .ticks text:not(.title)").all_text_contents()


def curve(page: Page, index: int) -> str:
    return page.locator(f'#explorer .curve[data-method="{index}"] .line').get_attribute("d") or ""


def index_of(runs: Runs, problem: str, method: str) -> int:
    return style.method_styles(runs)[method].index


@pytest.mark.parametrize(
    ("which", "viewport", "scheme"),
    [
        ("path", DESKTOP, "light"), ("path", DESKTOP, "dark"), ("path", PHONE, "light"), ("path", PHONE, "dark"),
        ("hostile", DESKTOP, "light"), ("hostile", PHONE, "dark"),
    ],
    ids=["desktop", "desktop dark", "phone", "phone dark", "hostile desktop", "hostile phone dark"],
)  # fmt: skip
def test_every_figure_can_be_seen(
    request: pytest.FixtureRequest, opened: Open, which: str, viewport: dict[str, int], scheme: str
) -> None:
    page = opened(request.getfixturevalue(which), viewport=viewport, color_scheme=scheme)
    count = page.locator("figure").count()
    assert count >= 7  # three a problem, and the explorer
    sizes: dict[int, tuple[float, float]] = {}
    targets = page.locator("input[name=target]")
    for number in range(max(1, targets.count())):
        if targets.count():
            targets.nth(number).check()
        sizes |= {i: (w, h) for i, w, h in page.evaluate(SIZES) if w > 0}
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert sorted(sizes) == list(range(count))
    assert min(sizes.values()) > (250, 0)
    assert min(height for _, height in sizes.values()) > 90
    parts = "getComputedStyle(document.querySelector(e)).%s.match(/\\d+/g)"
    shade = f"(e) => {parts}.reduce((sum, part) => sum + Number(part), 0)"
    paper = page.evaluate(shade % "backgroundColor", "body")
    inks = [page.evaluate(shade % "color", "body"), page.evaluate(shade % "fill", "#explorer .ticks text")]
    inks.append(page.evaluate(shade % "fill", ".legend ~ .pair figure svg text"))
    assert all(ink > paper + 250 if scheme == "dark" else ink < paper - 250 for ink in inks)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_long_names_and_reasons_stay_within_their_cells(opened: Open, hostile: Path, viewport: dict[str, int]) -> None:
    page = opened(hostile, viewport=viewport)
    beyond = """(cells) => cells.filter((cell) => {
      const inside = cell.querySelector("bdi").getBoundingClientRect();
      return inside.width && inside.right > cell.getBoundingClientRect().right + 1;
    }).map((cell) => cell.textContent)"""
    assert page.locator(".heat tbody th").count() > 5
    assert page.locator(".heat tbody th").evaluate_all(beyond) == []
    reason = page.locator("#lost .remark", has_text="a long story").first
    assert reason.evaluate_all(beyond) == []
    box = reason.bounding_box()
    assert box is not None
    assert box["width"] < viewport["width"]


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_long_list_of_problems_scrolls_down_and_not_sideways(
    opened: Open, path: Path, viewport: dict[str, int]
) -> None:
    page = opened(path, viewport=viewport)
    page.locator("nav summary").click()
    menu = page.locator("nav .menu")
    menu.evaluate("(m) => { for (let k = 0; k < 200; k++) m.append(m.firstElementChild.cloneNode(true)); }")
    wide, there, high, seen = menu.evaluate("(m) => [m.scrollWidth, m.clientWidth, m.scrollHeight, m.clientHeight]")
    assert wide <= there <= viewport["width"]
    assert high > seen


@pytest.mark.parametrize("which", ["path", "hostile"])
def test_long_names_are_text(request: pytest.FixtureRequest, opened: Open, which: str, runs: Runs) -> None:
    page = opened(request.getfixturevalue(which))
    assert page.locator("script").count() == 2
    shown = explorer(page).locator("select[name=problem] option").all_text_contents()
    assert len(shown) == 2
    if which == "hostile":
        names, network = (
            part.locator(".legend bdi").all_text_contents() for part in page.locator(".problem:has(.legend)").all()
        )
        assert page.locator("#explorer .methods bdi").all_text_contents() != []
        assert set(page.locator("#explorer .methods bdi").all_text_contents()) == set(names)
        assert {clean(name) for name in HOSTILE} | {"=1+2"} <= set(names) | set(network)
        assert set(shown) == set(HOSTILE[:2])
        assert page.title() == HOSTILE[1]


def test_tables_are_sorted(opened: Open, runs: Runs, path: Path) -> None:
    page = opened(path)
    table = page.locator("#quadratic-dim-8 table.sortable").first

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_text_contents()

    order = column(1)
    head = table.locator("thead th").nth(4)
    assert head.inner_text() == "calls to 1e-8"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = [float(text.split()[0]) if text[0] != "–" else np.inf for text in column(5)]
    assert up == sorted(up)
    assert len(set(up)) > 3
    assert np.inf in up
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    down = [float(text.split()[0]) if text[0] != "–" else np.inf for text in column(5)]
    finite = [value for value in up if value < np.inf]
    assert down == sorted(finite, reverse=True) + [np.inf] * (len(up) - len(finite))  # never is last again
    table.locator("thead th").nth(0).locator("button").click()
    assert column(1) == sorted(order)
    assert table.locator("thead th[aria-sort]").count() == 1


def test_sorting_keeps_the_order_of_equals(opened: Open, path: Path) -> None:
    page = opened(path)
    table = page.locator("#quadratic-dim-8 table.sortable").first
    heads = table.locator("thead th").all()
    heads[0].locator("button").click()
    names = table.locator("tbody th").all_text_contents()
    tried = next(head for head in heads if head.inner_text().startswith("tried"))
    at = heads.index(tried) + 1
    keys = dict(zip(names, table.locator(f"tbody tr > :nth-child({at})").all_text_contents(), strict=True))
    for descending in (False, True):
        tried.locator("button").click()
        wanted = sorted(names, key=lambda name: float(keys[name]), reverse=descending)
        assert table.locator("tbody th").all_text_contents() == wanted


@pytest.mark.parametrize("which", ["path", "hostile"])
def test_a_method_is_highlighted_everywhere(request: pytest.FixtureRequest, opened: Open, which: str) -> None:
    page = opened(request.getfixturevalue(which))
    problem = page.locator(".problem:has(.legend)").first
    picked = "[...new Set([...document.querySelectorAll('.picked')].map((e) => e.dataset.method))]"
    row = problem.locator("table.sortable").first.locator("tbody tr").first
    index = row.get_attribute("data-method")
    row.locator("td").nth(1).hover()
    page.wait_for_selector("body.picking")
    assert page.evaluate(picked) == [index]
    assert page.locator(f'[data-method="{index}"]').count() == page.locator(".picked").count() > 5
    assert page.locator(f'#explorer .curve[data-method="{index}"].picked').count() == 1
    dimmed = problem.locator("figure g.curve:not(.picked)").first
    assert float(dimmed.evaluate("(e) => getComputedStyle(e).opacity")) < 0.2
    page.locator("h1").hover()
    page.wait_for_selector("body:not(.picking)")
    assert page.evaluate(picked) == []

    button = problem.locator(".legend button").nth(2)
    other = button.get_attribute("data-method")
    button.focus()  # as the Tab key does
    assert page.evaluate(picked) == [other]
    button.press("Enter")
    page.locator("h1").hover()
    assert button.get_attribute("aria-pressed") == "true"
    button.evaluate("(e) => e.blur()")
    assert page.evaluate(picked) == [other]
    page.keyboard.press("Escape")
    assert page.evaluate(picked) == []
    assert button.get_attribute("aria-pressed") == "false"


def test_pointing_near_a_grey_curve_highlights_it(opened: Open, path: Path) -> None:
    page = opened(path)
    line = page.locator("#quadratic-dim-8 figure g.rest[id$=line] path").first
    line.scroll_into_view_if_needed()
    colour = "(e) => getComputedStyle(e).stroke"
    grey = line.evaluate(colour)
    x, y = line.evaluate(MIDDLE)
    index = line.evaluate("(e) => e.closest('[data-method]').dataset.method")
    page.mouse.move(x, y)
    page.wait_for_selector("body.picking")
    picked = page.locator("figure g.picked").first.get_attribute("data-method")
    if picked != index:  # another curve lies on top there
        page.locator(f'#quadratic-dim-8 .legend [data-method="{index}"]').hover()
        page.wait_for_selector(f'figure g.rest.picked[data-method="{index}"]')
    assert line.evaluate(colour) != grey


def test_a_tap_highlights_and_another_releases(opened: Open, path: Path) -> None:
    page = opened(path, viewport=PHONE, has_touch=True)
    row = page.locator("#quadratic-dim-8 table.sortable").first.locator("tbody tr").nth(1)
    row.locator("th").tap()
    assert page.locator(".picked").first.get_attribute("data-method") == row.get_attribute("data-method")
    page.locator("#quadratic-dim-8 h2").tap()
    assert page.locator(".picked").count() == 0
    line = explorer(page).locator(".curve .line").first
    page.touchscreen.tap(*line.evaluate(MIDDLE))
    assert page.locator("#explorer .curve.picked").count() == 1
    assert page.locator("#explorer .tip").is_visible()


def test_downloads_are_the_tables(opened: Open, runs: Runs, path: Path) -> None:
    page = opened(path)
    context = PageContext(runs, pd.DataFrame())
    explorer_of_page.section(context)
    for problem, anchor in ((VALLEY, "quadratic-dim-8"), (NETWORK, "mlp-digits")):
        curves, sizes = context.tables[f"{anchor}-curves"], metrics.sensitivity(context.parts[problem])
        for name, table in ((f"{anchor}-curves", curves), (f"{anchor}-sizes", sizes)):
            with page.expect_download() as waiting:
                page.locator(f'.download[data-table="{name}"]').first.click()
            assert waiting.value.suggested_filename == f"optbench-{name}.csv"
            text = Path(waiting.value.path()).read_text("utf-8")
            assert text == embed.csv(table)
            read = pd.read_csv(io.StringIO(text))
            assert list(read.columns) == list(table.columns)
            assert read["method"].tolist() == table["method"].tolist()
            numbers = [column for column in table.columns if column.endswith("median")]
            np.testing.assert_allclose(read[numbers], table[numbers].astype(float), rtol=6e-6)


def test_every_button_has_a_table(opened: Open, path: Path) -> None:
    page = opened(path)
    names = page.evaluate("[...new Set([...document.querySelectorAll('.download')].map((e) => e.dataset.table))]")
    assert len(names) >= 6
    for name in names:
        lines = page.evaluate("unpack", name).splitlines()
        assert len(lines) > 1
        assert {"problem", "method", "optimizer"} & set(lines[0].split(","))


def test_a_download_of_hostile_names(opened: Open, hostile: Path) -> None:
    page = opened(hostile)
    with page.expect_download() as waiting:
        page.locator("#explorer .download").click()
    read = pd.read_csv(waiting.value.path())
    names = set(read["method"])
    assert "'=1+2" in names
    assert "=1+2" not in names
    assert clean(HOSTILE[3]) in names


def test_the_explorer_switches(opened: Open, runs: Runs, path: Path) -> None:
    page = opened(path)
    form = explorer(page).locator("form")
    quantity = form.locator("[name=quantity]")
    offered = quantity.locator("option").all_text_contents()
    assert offered == ["smallest gap so far", "gap at the iterate", "gradient norm"]
    lines = page.locator("#explorer .plot .curve")
    assert lines.count() == 6  # the leading ones
    assert page.locator("#explorer .heading").inner_text() == f"Smallest gap so far: {VALLEY}"
    lead = index_of(runs, VALLEY, tuning.ranked(runs)[VALLEY][0])
    first = curve(page, lead)
    form.locator("[name=problem]").select_option(label=NETWORK)
    expect(lines).to_have_count(3)
    offered = quantity.locator("option").all_text_contents()
    assert offered[:2] == ["smallest objective so far", "objective at the iterate"]
    quantity.select_option("train accuracy")
    assert not form.locator("[name=logy]").is_checked()
    assert "train accuracy" in page.locator("#explorer .ticks .title").all_text_contents()
    assert page.locator("#explorer .plot svg").get_attribute("aria-label") == (
        f"train accuracy against oracle calls on {NETWORK}, 3 of 3 methods"
    )
    form.locator("[name=problem]").select_option(label=VALLEY)
    expect(lines).to_have_count(6)
    assert curve(page, lead) == first
    calls = ticks(page)
    form.locator("[name=axis]").select_option("t")
    assert "steps" in page.locator("#explorer .ticks .title").all_text_contents()
    form.locator("[name=axis]").select_option("calls")
    assert ticks(page) == calls


@pytest.mark.parametrize("name", ["logx", "logy"])
def test_the_explorer_is_logarithmic_or_linear(opened: Open, runs: Runs, path: Path, name: str) -> None:
    page = opened(path)
    box = explorer(page).locator(f"[name={name}]")
    lead = index_of(runs, VALLEY, tuning.ranked(runs)[VALLEY][1])
    assert box.is_checked()
    logarithmic, before = curve(page, lead), ticks(page)
    box.uncheck()
    assert curve(page, lead) != logarithmic
    assert ticks(page) != before
    box.check()
    assert curve(page, lead) == logarithmic
    assert ticks(page) == before


def test_the_explorer_zooms(opened: Open, path: Path) -> None:
    page = opened(path)
    box = explorer(page).locator(".plot svg").bounding_box()
    reset = page.locator("#explorer [name=reset]")
    before = ticks(page)
    assert box is not None
    assert reset.is_disabled()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.3, 0.2))
    page.mouse.down()
    page.mouse.move(*at(0.45, 0.35))
    page.mouse.move(*at(0.6, 0.5))
    lasso = page.locator("#explorer .lasso")
    assert float(lasso.get_attribute("width") or 0) == pytest.approx(0.3 * box["width"], abs=2)
    page.mouse.up()
    assert reset.is_enabled()
    assert not lasso.get_attribute("width")
    near = ticks(page)
    assert near != before
    page.mouse.wheel(0, -240)
    expect(page.locator("#explorer .ticks text:not(.title)")).not_to_have_text(near)
    page.mouse.dblclick(*at(0.5, 0.5))
    assert ticks(page) == before
    assert reset.is_disabled()
    page.mouse.wheel(0, -240)
    page.wait_for_selector("#explorer [name=reset]:enabled")
    reset.click()
    assert ticks(page) == before
    top = page.locator("#explorer h2").bounding_box()
    assert top is not None
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.wheel(0, 120)  # nothing to zoom out of: the page scrolls
    page.wait_for_timeout(200)
    scrolled = page.locator("#explorer h2").bounding_box()
    assert scrolled is not None
    assert scrolled["y"] < top["y"] - 50
    assert ticks(page) == before


def test_the_explorer_zooms_with_two_fingers(opened: Open, path: Path) -> None:
    page = opened(path, viewport=PHONE, has_touch=True)
    explorer(page)
    before = ticks(page)
    page.evaluate(
        """() => {
          const svg = document.querySelector("#explorer .plot svg"), box = svg.getBoundingClientRect();
          svg.setPointerCapture = () => {};  // pointers that are made up cannot be captured
          const send = (type, id, x) => svg.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: id, button: 0,
            pointerType: "touch", clientX: box.left + x * box.width, clientY: box.top + 0.5 * box.height }));
          send("pointerdown", 8, 0.45);
          send("pointerdown", 9, 0.55);
          send("pointermove", 8, 0.25);
          send("pointermove", 9, 0.75);
          send("pointerup", 8, 0.25);
          send("pointerup", 9, 0.75);
        }"""
    )
    assert ticks(page) != before
    page.locator("#explorer [name=reset]").tap()
    assert ticks(page) == before


def test_the_explorer_shows_the_chosen_methods(opened: Open, path: Path) -> None:
    page = opened(path)
    place = explorer(page)
    lines, items = page.locator("#explorer .plot .curve"), place.locator(".methods li")
    first = items.first.locator(".toggle")
    index = first.get_attribute("data-method")
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert lines.count() == 5
    assert place.locator(f'.curve[data-method="{index}"]').count() == 0
    place.locator("[name=all]").click()
    assert lines.count() == 9
    items.nth(3).hover()
    items.nth(3).locator(".only").click()
    assert lines.count() == 1
    items.nth(3).locator(".toggle").click(modifiers=["Shift"])  # the same again brings the others back
    assert lines.count() == 9
    place.locator("[name=none]").click()
    assert lines.count() == 0
    place.locator("[name=leading]").click()
    assert lines.count() == 6


def test_the_explorer_reads_values_off(opened: Open, runs: Runs, path: Path) -> None:
    page = opened(path)
    method = tuning.ranked(runs)[VALLEY][2]
    index = index_of(runs, VALLEY, method)
    line = explorer(page).locator(f'.curve[data-method="{index}"]')
    page.locator(f'#explorer .methods li:has([data-method="{index}"])').hover()
    page.locator(f'#explorer .only[data-index="{index}"]').click()
    x, y = line.locator(".line").evaluate(
        "(e) => { const at = e.getPointAtLength(0).matrixTransform(e.getScreenCTM()); return [at.x, at.y]; }"
    )
    page.mouse.move(x + 1, y + 4)
    tip = page.locator("#explorer .tip")
    band = metrics.bands(runs).query("problem == @VALLEY and method == @method").iloc[0]
    assert tip.locator("b").inner_text() == method
    shown = re.match(r"(\S+) after 1 oracle calls", tip.locator("span").first.inner_text())
    assert shown
    assert float(shown[1]) == pytest.approx(band["median"], rel=6e-3)
    value = page.locator(f'#explorer .toggle[data-method="{index}"] .value')
    assert value.inner_text() == shown[1]
    assert line.evaluate("(e) => e.classList.contains('picked')")
    page.mouse.move(x, y - 300)
    assert tip.is_hidden()


def test_the_explorer_works_with_keys(opened: Open, path: Path) -> None:
    page = opened(path)
    explorer(page)
    chart = page.locator("#explorer .plot svg")
    before = ticks(page)
    chart.focus()
    chart.press("ArrowRight")
    tip = page.locator("#explorer .tip")
    here = tip.inner_text()
    chart.press("ArrowRight")
    there = tip.inner_text()
    assert here != there
    chart.press("ArrowDown")
    assert tip.locator("b").inner_text() != there.splitlines()[0]
    chart.press("+")
    near = ticks(page)
    assert near != before
    chart.press("Shift+ArrowRight")
    chart.press("Shift+ArrowRight")
    assert ticks(page) != near
    chart.press("0")
    assert ticks(page) == before
    chart.press("Tab")
    assert tip.is_hidden()


def test_a_page_on_paper_has_no_controls(opened: Open, path: Path) -> None:
    page = opened(path)
    page.emulate_media(media="print")
    for controls in (
        "nav",
        ".download",
        "#explorer form",
        "#explorer .only",
        "#explorer .actions",
        "#explorer-keys",
        ".hint.scripted",
    ):
        assert page.locator(controls).count() > 0
        assert not any(part.is_visible() for part in page.locator(controls).all()), controls
    assert page.locator("#explorer .methods .toggle:visible").count() == 6  # the legend of what is drawn
    assert all(figure.is_visible() for figure in page.locator(".problem figure svg, #explorer figure svg").all())


def test_a_page_without_scripts(opened: Open, path: Path) -> None:
    page = opened(path, java_script_enabled=False)
    assert page.locator("#explorer .unscripted").is_visible()
    assert not page.locator("#explorer .scripted").is_visible()
    assert page.locator(".download").count() >= 6
    assert page.locator(".download:visible").count() == 0
    assert page.locator("#quadratic-dim-8 figure svg").first.is_visible()


def test_the_list_of_problems_opens_and_closes(opened: Open, path: Path) -> None:
    page = opened(path, viewport=PHONE)
    menu, link = page.locator("nav details"), page.locator("nav .menu a").nth(1)
    assert not link.is_visible()
    menu.locator("summary").press("Enter")
    assert link.is_visible()
    page.keyboard.press("Escape")
    assert not link.is_visible()
    menu.locator("summary").click()
    link.click()
    assert not link.is_visible()
    assert page.url.endswith("#mlp-digits")
    top = page.locator("#mlp-digits h2").bounding_box()
    bar = page.locator("nav").bounding_box()
    assert top is not None
    assert bar is not None
    assert bar["y"] == pytest.approx(0, abs=1)
    assert bar["height"] <= top["y"] < PHONE["height"] / 2  # below the bar, which stays


def test_maps_begin_within_their_box_on_a_phone(opened: Open, tmp_path: Path) -> None:
    runs = optbench.sweep("valley", "adam", lr=[0.1], seeds=1, steps=20)
    page = opened(reports.build_page(runs, tmp_path / "page.html"), viewport=PHONE)
    box, drawing = (page.locator(name).first.bounding_box() for name in (".maps", ".maps svg"))
    assert box is not None
    assert drawing is not None
    assert drawing["x"] >= box["x"]
