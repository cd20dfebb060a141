"""Assembly of the page, one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from optbench.core.errors import InputError, StoreError
from optbench.core.progress import ProgressBar
from optbench.results.runs import Runs

from ..figures import style
from ..sections import SECTIONS, explorer
from ..sections.problems import drawing
from ..validity import alerts
from ..wording import clean, plural
from .context import PageContext, collecting_rarely
from .embed import packed
from .table import whole


def build_page(
    runs: Runs,
    path: str | Path,
    *,
    title: str = "optbench report",
    command: str | None = None,
    gpu: pd.DataFrame | None = None,
    races: pd.DataFrame | None = None,
    jobs: int | None = 1,
    history: pd.DataFrame | None = None,
    progress: bool | ProgressBar | None = None,
) -> Path:
    """Write an HTML page that works offline; the same results give the same bytes.

    Parameters
    ----------
    runs : Runs
        What to show; may have no rows.
    path : str or Path
        The file to write, or a folder (any path that does not end in .html or .htm), which gets an index.html.
    title, command : str, optional
        As in `report`.
    gpu : DataFrame, optional
        Measurements of `benchmarks.gpu`, with the columns `optbench.results.GPU_COLUMNS`.
    races : DataFrame, optional
        Races, as `optbench.results.store.Store.load_races` returns them; the source of all times on the page.
    jobs : int or None
        Number of processes that draw, from 1 on; None chooses it by the number of problems, up to 4. More than one
        needs a script with ``if __name__ == "__main__":``, because processes are spawned. The page is the same.
    history : DataFrame, optional
        Results of asv, as `reports.load_history` returns them.
    progress : bool, optional
        As in `report`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    StoreError
        If the page cannot be written; an older page is then left unchanged.

    Examples
    --------
    >>> reports.build_page(runs, "page.html", title="Two methods").name  # doctest: +SKIP
    'page.html'
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / "index.html"
    _check_writable(path)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,  # names come from users
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["whole"] = whole
    bar = ProgressBar.of("drawing", progress)
    with style.theme(), collecting_rarely(), bar:  # the theme is set once for all figures
        page = _page(PageContext(runs, races, gpu, history), title, command, _jobs(jobs, runs), bar)
    _write(path, clean(templates.get_template("page.html.j2").render(page=page)))
    return path


def _jobs(jobs: int | None, runs: Runs) -> int:
    """Number of processes: by default one for every four problems, because a start takes as long as drawing two."""
    if jobs is not None:
        if jobs < 1:
            raise InputError(f"jobs is {jobs}; give a whole number from 1 on, or None for the default")
        return jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 4, len(set(runs.rows["problem"])) // 4))


def _page(context: PageContext, title: str, command: str | None, jobs: int, bar: ProgressBar) -> dict[str, Any]:
    """The variables of the template; their order does not depend on that of the rows."""
    bar.start(len(SECTIONS) + len(context.parts))
    # first, because the figures of problems refer to the tables of the explorer
    contents: dict[str, object | None] = {"explorer": explorer.section(context)}
    with drawing(context, jobs, bar) as finish:
        for section in SECTIONS:
            if section.name not in contents and section.build:
                contents[section.name] = section.build(context)
            bar.advance(1)
        problems = finish()
    contents["problems"] = problems or None
    return {
        "title": title,
        "lead": _lead(context),
        "alerts": alerts(context.runs),
        "empty": context.runs.rows.empty,
        "command": command,
        "styles": list(context.styles.values()),
        "palettes": {"light": style.PALETTE, "dark": style.PALETTE_ON_BLACK},
        "inks": {"ink": style.INK, "muted": style.MUTED, "grid": style.GRID, "paper": style.PAPER},
        "problems": problems,
        "sections": [(section, contents[section.name]) for section in SECTIONS if contents[section.name] is not None],
        "tables": Markup(packed(dict(sorted(context.tables.items())))),
    }


def _lead(context: PageContext) -> str:
    rows, races = context.runs.rows, context.races
    if rows.empty:
        count = 0 if races.empty else races["race"].nunique()
        return f"{plural(count, 'race')}, and no runs yet." if count else "There are no results to show yet."
    methods, problems, seeds = (plural(rows[name].nunique(), name) for name in ("method", "problem", "seed"))
    return f"{plural(len(rows), 'run')} of {methods} on {problems}, with {seeds}."


def _check_writable(path: Path) -> None:
    """Make the folder, and check it before figures are drawn in vain."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        reason = "is a folder" if path.is_dir() else "permission denied"
        raise StoreError(f"the page {str(path)!r} cannot be written ({reason}); choose another place for it")


def _write(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        # files of `tempfile` can be read by their owner only; this one follows the umask
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the page {str(path)!r} cannot be written ({error.strerror or error}); choose another place for it"
    )
