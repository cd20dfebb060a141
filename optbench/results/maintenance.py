"""Maintenance of results folders: what they contain, checks, compaction, merging, deletion and export.

What deletes a file has written, synced and verified its replacement before, so that a process may be killed at any time.
One process at a time maintains a folder. Others may read and write it meanwhile: they list a folder again when a file has
gone, and files that are new since the maintenance began are left alone.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from optbench.core.errors import InputError, StoreError, suggestion
from optbench.core.types import Status
from optbench.results import files, schema
from optbench.results.methods import add_labels
from optbench.results.runs import Runs, by_precedence, newest
from optbench.results.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["check", "compact", "drop", "export", "find", "merge", "repair", "stored_rows"]

FILE_ROWS, FILE_BYTES = 100_000, 1 << 25  # above which a file is large enough


def stored_rows(store: Store) -> pd.DataFrame:
    """Every stored row of runs, also those that `Store.load` does not return, without curves.

    Parameters
    ----------
    store : Store
        The results folder.

    Returns
    -------
    DataFrame
        The columns of `COLUMNS` without lists and the description, the labels ``problem`` and ``method``, and ``file``,
        ``bytes`` (the row's share of its file) and ``current`` (whether `Store.load` returns it).

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> rows = maintenance.stored_rows(optbench.Store("results"))
    >>> rows[["method", "seed", "status", "current"]]
      method  seed  status  current
    0   adam     0  budget     True
    1   adam     1  budget     True
    """
    _, rows = _read_facts(store)
    return add_labels(rows.assign(current=rows.index.isin(newest(rows).index)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has replaced it
        return 0


def check(store: Store) -> list[str]:
    """Verify every file of a results folder, and change nothing.

    Parameters
    ----------
    store : Store
        The results folder.

    Returns
    -------
    list of str
        A line for each file that is damaged, foreign or temporary; empty if all is well.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> maintenance.check(optbench.Store("results"))
    []
    """
    store.check_exists()
    lines = [f"{path.relative_to(store.path)}: {reason}" for path, reason in _damaged(store).items()]
    stale = [path.relative_to(store.path) for path in store.stale_files()]
    return [*lines, *(f"{path}: a process that was killed did not finish it" for path in stale)]


def _damaged(store: Store) -> dict[Path, str]:
    return {path: reason for kind in (None, *store.kinds) for path, reason in store.scan(kind)[1].items()}


class Repaired(NamedTuple):
    """What `repair` did."""

    damaged: dict[Path, str]  # what was wrong with each file that it moved to the quarantine
    lost_runs: int  # runs in those files, as far as their number can still be read
    removed: list[Path]  # temporary files


def repair(store: Store) -> Repaired:
    """Move files that cannot be used to the folder ``quarantine``, and remove temporary files of killed processes.

    Nothing is taken from a damaged file, because a part that looks intact may not be: ``optbench run`` computes its runs
    again.

    Parameters
    ----------
    store : Store
        The results folder.

    Returns
    -------
    Repaired
        The named tuple ``(damaged, lost_runs, removed)``.

    Raises
    ------
    StoreError
        If a file cannot be moved, or another process maintains the folder.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> maintenance.repair(optbench.Store("results"))
    Repaired(damaged={}, lost_runs=0, removed=[])
    """
    with _maintained(store):
        damaged, runs = _damaged(store), store.files
        lost = sum(_row_count(path) for path in damaged if path in runs)
        if (stay := len(damaged) - store.quarantine(damaged)) > 0:
            raise StoreError(f"{stay} damaged files of {str(store.path)!r} cannot be moved; make the folder writable")
        removed = store.stale_files()
        for path in removed:
            path.unlink(missing_ok=True)
        return Repaired(damaged, lost, removed)


def _row_count(path: Path) -> int:
    """Rows of a damaged file by its footer; 0 if that cannot be read either."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(pa.BufferReader(files.read_file(path))).num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return 0


class Compacted(NamedTuple):
    """What `compact` did: numbers before and after."""

    files: tuple[int, int]
    rows: tuple[int, int]


def compact(store: Store) -> Compacted:
    """Merge small files of runs into large ones, and drop rows that `Store.load` never returns.

    These are the copies of a run by the same code, and failed rows of a run that succeeded. Rows of older code stay. A file
    has runs of one environment only, and at most about 100 000 runs or 32 MB.

    Parameters
    ----------
    store : Store
        The results folder.

    Returns
    -------
    Compacted
        The named tuple ``(files, rows)``, each a pair of numbers before and after.

    Raises
    ------
    StoreError
        If a file cannot be read or written, or another process maintains the folder.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> for seed in range(3):
    ...     _ = optbench.sweep("quadratic:dim=3", "sgd", lr=0.1, seeds=[seed], steps=9, store="many")
    >>> maintenance.compact(optbench.Store("many"))
    Compacted(files=(3, 1), rows=(3, 3))
    """
    with _maintained(store):
        tables, rows = _read_facts(store)
        succeeded = rows.loc[rows["status"] != Status.FAILED, "identity"].dropna()
        superseded = (rows["status"] == Status.FAILED) & rows["identity"].isin(succeeded)
        best = by_precedence(rows[~superseded]).drop_duplicates("key", keep="last")
        kept = rows.index.isin(best.index)
        ends = np.cumsum([table.num_rows for table in tables.values()], dtype=int)
        keep = {path: kept[end - tables[path].num_rows : end] for path, end in zip(tables, ends, strict=True)}
        for batch in _batches(tables, keep):
            _replace(store, {path: keep[path] for path in batch})
        return Compacted((len(tables), len(store.files)), (len(rows), len(best)))


def _batches(tables: dict[Path, pa.Table], keep: dict[Path, np.ndarray]) -> Iterator[list[Path]]:
    """Files to replace by one file each: of the same environment, and small or with rows to drop."""
    groups: dict[str, list[Path]] = {}
    for path, table in tables.items():
        size = _size(path)
        if keep[path].all() and (table.num_rows >= FILE_ROWS or size >= FILE_BYTES):
            continue
        groups.setdefault(json.dumps(_environment(table), sort_keys=True), []).append(path)
    for paths in groups.values():
        batch: list[Path] = []
        rows = size = 0
        for path in paths:
            if batch and (rows >= FILE_ROWS or size >= FILE_BYTES):
                yield batch
                batch, rows, size = [], 0, 0
            batch.append(path)
            rows, size = rows + tables[path].num_rows, size + _size(path)
        if len(batch) > 1 or not all(keep[path].all() for path in batch):
            yield batch


def _read_facts(store: Store) -> tuple[dict[Path, pa.Table], pd.DataFrame]:
    """The tables of all files without curves, and their rows with the columns ``file`` and ``bytes``, in the same order."""
    import pandas as pd
    import pyarrow as pa

    store.check_exists()
    tables = store.read_runs(schema.SCALARS)
    frame = schema.to_frame(pa.concat_tables([schema.to_arrow([]).select(schema.SCALARS), *tables.values()]))
    shares = [(path, _size(path) / max(table.num_rows, 1), table.num_rows) for path, table in tables.items()]
    of_rows = [(path, share) for path, share, count in shares for _ in range(count)]
    return tables, frame.join(pd.DataFrame(of_rows, frame.index, ["file", "bytes"]))


def _replace(store: Store, keep: dict[Path, np.ndarray]) -> None:
    """Replace files of one environment by one file with the rows to keep, or by none if there are no such rows."""
    import pyarrow as pa

    tables = [store.read_table(path) for path in keep]
    parts = [table.filter(pa.array(mask)) for table, mask in zip(tables, keep.values(), strict=True)]
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    new = None
    if table.num_rows:
        new = store.write_runs(table, _environment(tables[0]))
        if not store.read_table(new, names=["key"]).column("key").equals(table.column("key")):
            raise StoreError(f"{new} is not what was written; nothing was deleted")
    for path in keep:
        if path != new:
            path.unlink(missing_ok=True)


def _environment(table: pa.Table) -> dict[str, str]:
    return dict(schema.metadata_of(table.schema).get("environment", {}))


@contextlib.contextmanager
def _maintained(store: Store) -> Iterator[None]:
    store.check_exists()
    with files.locked(store.path / "maintenance.lock"):
        yield


class Merged(NamedTuple):
    """What `merge` did."""

    files: int  # that were copied
    runs: int  # that the target lacked
    damaged: dict[Path, str]  # what is wrong with files that were not copied


def merge(target: Store, sources: Sequence[Store]) -> Merged:
    """Copy the runs, races and other tables that a results folder lacks from others. Nothing is overwritten.

    A file of runs is copied if it has a run that the target lacks, or a success where the target has only failures. Files
    are verified before; those of the sources are left as they are.

    Parameters
    ----------
    target : Store
        The folder to copy to; it is created if it does not exist.
    sources : sequence of Store
        The folders to copy from.

    Returns
    -------
    Merged
        The named tuple ``(files, runs, damaged)``.

    Raises
    ------
    InputError
        If a folder would be merged into itself.
    StoreError
        If a folder does not exist or cannot be read or written, or another process maintains the target.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=3", "sgd", lr=0.1, seeds=2, steps=9, store="server")
    >>> maintenance.merge(optbench.Store("both"), [optbench.Store("server")])
    Merged(files=1, runs=2, damaged={})
    """
    for source in sources:
        source.check_exists()
        if source.path.resolve() == target.path.resolve():
            raise InputError(f"{str(source.path)!r} cannot be merged into itself")
    target.check_writable()
    copied, new_runs = 0, set[str]()
    damaged: dict[Path, str] = {}
    with _maintained(target):
        known, succeeded = target.keys(), target.keys(failed=False)
        for source in sources:
            tables, unusable = source.scan()
            damaged |= unusable
            for path, table in tables.items():
                pairs = [*zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True)]
                good = {key for key, status in pairs if status != Status.FAILED}
                lacking = (good - succeeded) | ({key for key, _ in pairs} - known)
                if lacking:
                    copied += _copy(source, target, path)
                    new_runs |= lacking
                    known |= {key for key, _ in pairs}
                    succeeded |= good
            for kind in source.kinds:
                tables, unusable = source.scan(kind)
                damaged |= unusable
                copied += sum(_copy(source, target, path) for path in tables)
    return Merged(copied, len(new_runs), damaged)


def _copy(source: Store, target: Store, path: Path) -> bool:
    """Copy a verified file to the same place of another folder, unless it is there."""
    place = target.path / path.relative_to(source.path)
    if place.exists():
        return False
    data = files.read_file(path)
    schema.verify(data)
    files.write_file(place, data)
    return True


def find(
    rows: pd.DataFrame,
    *,
    problems: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    failed: bool = False,
    invalid: bool = False,
    older_code: bool = False,
) -> pd.DataFrame:
    """The rows that meet all given conditions.

    Parameters
    ----------
    rows : DataFrame
        `stored_rows`, or `Runs.rows`.
    problems : sequence of str
        Specs or names of problems; by default all.
    optimizers : sequence of str
        Names of optimizers or labels of methods; by default all.
    failed, invalid : bool
        Whether to take only runs with this status; with both, those that have either.
    older_code : bool
        Whether to take only rows that newer code has replaced; needs `stored_rows`.

    Returns
    -------
    DataFrame
        The selected rows.

    Raises
    ------
    InputError
        If a problem or optimizer has no rows.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> rows = maintenance.stored_rows(optbench.Store("results"))
    >>> len(maintenance.find(rows, optimizers=["adam"])), len(maintenance.find(rows, failed=True))
    (2, 0)
    """
    chosen = np.ones(len(rows), dtype=bool)
    names_of = {"problem": ["problem_spec", "problem_name", "problem"], "optimizer": ["optimizer", "method"]}
    for what, wanted in (("problem", problems), ("optimizer", optimizers)):
        columns = rows[names_of[what]]
        for name in wanted:
            if not columns.isin([name]).to_numpy().any():
                hint = suggestion(name, {*columns.to_numpy().ravel()}) or "see optbench store list"
                raise InputError(f"there are no runs of the {what} {name!r}; {hint}")
        chosen &= columns.isin(wanted).any(axis=1).to_numpy() if wanted else True
    statuses = [*[Status.FAILED] * failed, *[Status.INVALID] * invalid]
    chosen &= rows["status"].isin(statuses).to_numpy() if statuses else True
    if older_code:
        current = rows[rows["current"] & rows["identity"].notna()]
        newer = current.set_index("identity")[["code", "created"]].reindex(rows["identity"])
        chosen &= ~rows["current"].to_numpy() & (newer["code"].to_numpy() != rows["code"].to_numpy())
        chosen &= newer["created"].fillna("").to_numpy() > rows["created"].to_numpy()
    return rows[chosen]


def drop(store: Store, rows: pd.DataFrame) -> int:
    """Delete rows of runs.

    Parameters
    ----------
    store : Store
        The results folder.
    rows : DataFrame
        The rows to delete: some of `stored_rows`.

    Returns
    -------
    int
        How many rows were deleted.

    Raises
    ------
    StoreError
        If a file cannot be read or written, or another process maintains the folder.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> store = optbench.Store("results")
    >>> rows = maintenance.stored_rows(store)
    >>> maintenance.drop(store, rows[rows["seed"] == 1]), len(store.load())
    (1, 1)
    """
    unwanted = {*rows[["key", "status", "created"]].itertuples(index=False, name=None)}
    deleted = 0
    with _maintained(store):
        for path, table in store.read_runs(schema.SCALARS).items():
            columns = (table[name].to_pylist() for name in ("key", "status", "created"))
            keep = np.array([row not in unwanted for row in zip(*columns, strict=True)], dtype=bool)
            if not keep.all():
                _replace(store, {path: keep})
                deleted += int((~keep).sum())
    return deleted


def export(runs: Runs, path: str | Path, *, curves: bool = False, force: bool = False) -> Path:
    """Write the table of runs, or of curves, for other programs.

    Parameters
    ----------
    runs : Runs
        The runs.
    path : str or Path
        The file; its suffix is the format: ``.csv``, ``.parquet``, ``.json`` (a list of objects) or ``.jsonl`` (an object
        on each line). In JSON, numbers that are not finite are null.
    curves : bool
        Whether to write `Runs.curves` instead of `Runs.table`.
    force : bool
        Whether to replace a file that exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file exists.
    StoreError
        If the file cannot be written.

    Examples
    --------
    >>> from optbench.results import maintenance
    >>> _ = optbench.sweep("quadratic:dim=5", "adam", lr=0.1, seeds=2, steps=20, store="results")
    >>> maintenance.export(optbench.Store("results").load(), "runs.csv").read_text().split(",")[:3]
    ['problem', 'method', 'key']
    """
    path = Path(path).absolute()
    encode = {".csv": _csv, ".parquet": _parquet, ".json": _json, ".jsonl": _json_lines}.get(path.suffix)
    if encode is None:
        raise InputError(f"{path.name!r} does not end in .csv, .parquet, .json or .jsonl")
    if files.exists(path, folder=True) or (files.exists(path, folder=False) and not force):
        raise InputError(f"{str(path)!r} exists; choose another name, or replace a file with --force (force=True)")
    files.write_file(path, encode(runs.curves if curves else runs.table))
    return path


def _csv(table: pd.DataFrame) -> bytes:
    return bytes(table.to_csv(index=False).encode())


def _parquet(table: pd.DataFrame) -> bytes:
    return bytes(table.to_parquet(index=False))


def _json(table: pd.DataFrame) -> bytes:
    return b"[\n" + b",\n".join(_objects(table)) + b"\n]\n"


def _json_lines(table: pd.DataFrame) -> bytes:
    return b"".join(line + b"\n" for line in _objects(table))


def _objects(table: pd.DataFrame) -> Iterable[bytes]:
    import pandas as pd

    for row in table.astype(object).to_dict("records"):
        clean = {name: None if _is_missing(value, pd.NA) else value for name, value in row.items()}
        yield json.dumps(clean, ensure_ascii=False, default=_plain).encode()


def _is_missing(value: Any, na: Any) -> bool:
    return value is na or (isinstance(value, float) and not math.isfinite(value))


def _plain(value: Any) -> Any:
    return value.item()  # of a NumPy scalar
