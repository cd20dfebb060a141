"""The page: one HTML file that contains everything it shows and loads nothing else."""

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
    """Write the results as one HTML page that needs no network. The same results give the same bytes.

    Title, command and progress are those of `report`.

    Parameters
    ----------
    path : str or Path
        The file to write, or a folder (any path that does not end in .html or .htm), which gets an index.html.
    gpu : pandas.DataFrame, optional
        Figures of a comparison with a GPU, shown in a section of their own.
    races : DataFrame, optional
        The races to be shown, as `optbench.results.store.Store.load_races` returns them: all seconds on the page come from
        them.
    history : DataFrame, optional
        What asv measured, as `reports.load_history` returns it, for the section Speed.
    jobs : int or None
        Processes that draw; None for as many as pay, up to 4. More than one needs a script with
        ``if __name__ == "__main__":``, because processes are spawned. The page is the same.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    StoreError
        If it cannot be written; a page that was there before stays as it was.
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
    """How many processes draw: by default one for every four problems, since a start costs as much as drawing two."""
    if jobs is not None:
        if jobs < 1:
            raise InputError(f"jobs is {jobs}; give a whole number from 1 on, or none for as many as pay")
        return jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 4, len(set(runs.rows["problem"])) // 4))


def _page(context: PageContext, title: str, command: str | None, jobs: int, bar: ProgressBar) -> dict[str, Any]:
    """What the template shows; everything in a fixed order, whatever the order of the rows."""
    # first, because the figures of problems refer to its tables
    bar.start(len(SECTIONS) + len(context.parts))
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
    """Make the folder, before figures are drawn for nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        reason = "is a folder" if path.is_dir() else "permission denied"
        raise StoreError(f"the page {str(path)!r} cannot be written ({reason}); choose another place for it")


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        # opened plainly, not as a temporary file, so that others may read the page where the umask lets them
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
