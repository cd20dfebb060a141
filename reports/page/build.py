"""The page: one HTML file that holds everything it shows, and asks for nothing from anywhere."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from optbench.core.errors import InputError, StoreError
from optbench.results.runs import Runs

from .. import lessons, tables
from ..figures import style
from ..sections import comparison, explorer, landscapes, overview, problem
from ..sections import gpu as gpu_section
from ..sections import history as history_section
from ..sections import races as race_section
from ..wording import clean
from . import embed, environment, notes
from .context import Book, collecting_rarely


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
) -> Path:
    """Write the results as one HTML page that needs no network. The same results give the same bytes.

    Parameters
    ----------
    path : str or Path
        The file to write, or a folder (any path that does not end in .html or .htm), which gets an index.html.
    title : str
        Heading of the page.
    command : str, optional
        The command that computed the results, to be shown.
    gpu : pandas.DataFrame, optional
        Figures of `Store.load_table`, shown in a section of their own.
    races : DataFrame, optional
        The races to be shown, as `optbench.store.Store.load_races` returns them: what the page says of seconds.
    history : DataFrame, optional
        What asv measured, as `reports.load_history` returns it: a part of the section Speed.
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
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,  # names come from users
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters["whole"] = _whole
    with style.theme(), collecting_rarely():  # the look is set once for all figures
        content = _content(Book(runs, pd.DataFrame() if races is None else races), gpu, history, _jobs(jobs, runs))
    text = page.get_template("page.html.j2").render(title=title, command=command, **content)
    _write(path, clean(text))
    return path


def _jobs(jobs: int | None, runs: Runs) -> int:
    """How many processes draw: by default one for every four problems, since a start costs as much as drawing two."""
    if jobs is not None:
        if jobs < 1:
            raise InputError(f"jobs is {jobs}; give a whole number from 1 on, or none for as many as pay")
        return jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 4, len(set(runs.rows["problem"])) // 4))


def _content(book: Book, gpu: pd.DataFrame | None, history: pd.DataFrame | None, jobs: int) -> dict[str, Any]:
    """What the template shows; everything in a fixed order, whatever the order of the rows."""
    rows, lines = book.runs.rows, tables.lines(book.runs)
    of_problem = dict(iter(lines.groupby("problem", sort=False)))
    exploring = explorer.section(book)  # first, because its tables are those of other sections too
    with problem.sections(book, of_problem, jobs) as problems:
        taught = lessons.section(book)
        content: dict[str, Any] = {
            "counts": {
                "run": len(rows),
                "problem": rows["problem"].nunique(),
                "method": rows["method"].nunique(),
                "seed": rows["seed"].nunique(),
            },
            "book": book,
            "palettes": {"light": style.PALETTE, "dark": style.PALETTE_ON_BLACK},
            "inks": {"ink": style.INK, "muted": style.MUTED, "grid": style.GRID, "paper": style.PAPER},
            "leaders": tables.leaders(book.runs),
            "overview": overview.section(book) if book.parts else None,
            "landscapes": landscapes.section(book, taught["maps"] if taught else ()),
            "lessons": taught,
            "speed": race_section.section(book),
            "gpu": [] if gpu is None else gpu_section.section(book, gpu),
            "history": history_section.section(book, history),
            "stores": comparison.section(book),
            "notes": notes.notes(rows, lines, book.races),
            "lost": notes.lost(book),
            "environment": environment.environment(book.runs),
            "commands": environment.commands(book.runs),
            "explorer": exploring,
        }
        content["problems"] = problems()
    # at the end, when all sections have offered their tables, in the order of their names
    content["packed"] = Markup(embed.packed(dict(sorted(book.tables.items()))))
    return content


def _whole(text: str) -> Markup:
    """Text as HTML in which no line ends within a number such as 1e-10."""
    return Markup(re.sub(r"\d(?:\.\d+)?e-\d+", r'<span class="whole">\g<0></span>', str(escape(text))))


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
