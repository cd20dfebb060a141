"""`report`: the page of runs, or of one or more results folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from optbench.analysis import comparison
from optbench.core.errors import InputError
from optbench.core.progress import ProgressBar
from optbench.results.runs import Runs
from optbench.results.store import Store

from .asv import load_history
from .page.build import build_page

ASV_RESULTS = Path(".asv/results")  # as asv.conf.json has it


class StoredResults(NamedTuple):
    """The contents of results folders: runs, races, measurements of a GPU, and where their page is by default."""

    runs: Runs
    races: pd.DataFrame | None = None
    gpu: pd.DataFrame | None = None
    page: Path = Path("report.html")


def load_results(folders: str | Path | Sequence[str | Path]) -> StoredResults:
    """The contents of results folders; of several folders, methods that differ are marked with the name of their folder.

    Parameters
    ----------
    folders : str, Path or a list of them
        Results folders.

    Returns
    -------
    StoredResults
        The named tuple ``(runs, races, gpu, page)``.

    Raises
    ------
    InputError
        If a folder is given twice or has no results.
    StoreError
        If a folder does not exist or cannot be read.

    Examples
    --------
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> reports.load_results("results").runs
    <Runs: 2 runs of 1 method on 1 problem: 2 used their budget>
    """
    paths = [folders] if isinstance(folders, str | Path) else list(folders)
    names = comparison.store_labels([str(path) for path in paths])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the results folder {twice!r} is given twice; give each folder once")
    runs, races, gpu = {}, {}, {}
    for name, path in zip(names, paths, strict=True):
        store = Store(path)
        runs[name], races[name], gpu[name] = store.load(), store.load_races(), store.load_table("gpu")
        if not len(runs[name]) and races[name].empty and gpu[name].empty:
            raise InputError(f"there are no results in {str(path)!r}; optbench run -o {path} makes some")
    if len(names) == 1:
        return StoredResults(runs[names[0]], races[names[0]], gpu[names[0]], Path(paths[0]) / "report.html")
    return StoredResults(
        comparison.combine_stores(runs), comparison.combine_races(races), pd.concat(gpu.values(), ignore_index=True)
    )


def report(
    results: Runs | StoredResults | str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    title: str = "optbench report",
    timings: Store | str | Path | None = None,
    history: str | Path | None = None,
    jobs: int | None = 1,
    command: str | None = None,
    progress: bool | ProgressBar | None = None,
) -> Path:
    """Write the page of results and return its path.

    Parameters
    ----------
    results : Runs, StoredResults, str, Path, or a list of paths
        Runs, results folders, or what `reports.load_results` returns for them; several folders are shown side by side.
    output : str or Path
        File that ends in .html, or a folder, which gets an index.html. By default ``report.html``: in the results folder if
        exactly one is given, else in the current folder.
    title : str
        Heading of the page.
    timings : Store, str or Path, optional
        Results folder whose races and GPU measurements are shown with `Runs`; ignored for results folders, which contain
        their own.
    history : str or Path, optional
        Results folder of asv; by default ``.asv/results`` if it exists.
    jobs : int or None
        Number of processes that draw, from 1 on; None to choose it by the number of problems. More than one needs a script
        with ``if __name__ == "__main__":``.
    command : str, optional
        Command to show as the one that built the page.
    progress : bool, optional
        Whether to show a progress bar; by default in terminals and notebooks, if the call takes longer than a second.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError, StoreError
        If there are no results, or the page cannot be written; an older page is then left unchanged.

    Examples
    --------
    >>> page = optbench.report(["laptop", "server"], "comparison.html")  # doctest: +SKIP
    >>> page = optbench.report(runs, "page.html", title="Two methods")
    >>> page.name
    'page.html'
    """
    if isinstance(results, StoredResults):
        contents = results
    elif isinstance(results, Runs):
        store = Store(timings) if isinstance(timings, str | Path) else timings
        contents = StoredResults(results, *((store.load_races(), store.load_table("gpu")) if store else ()))
    else:
        contents = load_results(results)
    folder = history or (ASV_RESULTS if ASV_RESULTS.is_dir() else None)
    return build_page(
        contents.runs,
        output or contents.page,
        title=title,
        command=command,
        races=contents.races,
        gpu=contents.gpu,
        history=load_history(folder) if folder else None,
        jobs=jobs,
        progress=progress,
    )
