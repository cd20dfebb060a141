"""Results on disk: Parquet files named by their content and written durably.

A store is a folder. Its folder ``v3``, where 3 is the version of the schema, has one file for each chunk of runs. The name
of a file ends with the digest of its content, so that any change of a file is noticed. Files are written under a temporary
name, synced and renamed, so that a killed process leaves no partial file and several processes can write at once. Files
are never changed; only `maintenance` deletes some.

A file that cannot be used is moved to the folder ``quarantine``, with a warning, and its runs are computed again.

Timings do not follow from their inputs, so they have no keys: every race adds a file to ``races/v3``. Other tables, such as
those of `benchmarks.gpu`, are stored in the same way.
"""

from __future__ import annotations

import concurrent.futures as cf
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.errors import StoreError
from optbench.core.types import Status
from optbench.results import files, schema
from optbench.results.environment import environment
from optbench.results.methods import add_labels
from optbench.results.runs import Runs, by_precedence, newest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Columns = Mapping[str, tuple[str, str]]


class Store:
    """A results folder.

    Parameters
    ----------
    path : str or Path
        The folder; the first write creates it.

    Examples
    --------
    >>> runs = optbench.sweep("quadratic:dim=5", "adam", lr=[0.01, 0.1], seeds=3, steps=50, store="results")
    >>> len(optbench.Store("results").load())
    6
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._name = _absolute(path), os.fspath(path)  # messages have the name as it was given
        self._folder = self.path / f"v{schema.VERSION}"
        self._ignored: set[Path] = set()  # unusable files that could not be moved

    @property
    def files(self) -> list[Path]:
        """All files of runs, in a fixed order."""
        return files.list_files(self._folder, ".parquet", depth=2)

    def table_files(self, kind: str) -> list[Path]:
        """All files of other tables of a kind, oldest first.

        Parameters
        ----------
        kind : str
            ``"races"`` or ``"gpu"``, for example.

        Returns
        -------
        list of Path
            The files.
        """
        return files.list_files(self._folder_of(kind), ".parquet")

    @property
    def kinds(self) -> list[str]:
        """The kinds of other tables that are stored: names of folders, sorted."""
        return sorted(path.parent.name for path in self.path.glob(f"*/v{schema.VERSION}") if path.is_dir())

    def stale_files(self) -> list[Path]:
        """Temporary files of processes that were killed while they wrote.

        Returns
        -------
        list of Path
            The files.
        """
        others = [path for kind in self.kinds for path in files.stale_files(self._folder_of(kind))]
        return [*files.stale_files(self.path), *files.stale_files(self._folder, depth=2), *others]

    def check_writable(self) -> None:
        """Create the folder, check that it can be written, and remove temporary files of processes that were killed.

        Raises
        ------
        StoreError
            If it cannot be written, or contains results of another version.
        """
        try:
            self._check_version(self._folder)
            files.make_folder(self._folder)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"the results folder {self._name!r} cannot be written ({files.reason_of(error)}); choose another folder"
            ) from None
        for path in self.stale_files():
            path.unlink(missing_ok=True)

    def keys(self, *, failed: bool = True) -> set[str]:
        """Keys of the stored runs.

        Parameters
        ----------
        failed : bool
            Whether to include runs that only failed.

        Returns
        -------
        set of str
            The keys.

        Raises
        ------
        StoreError
            If a file cannot be read at the moment.
        """
        tables = self.read_runs(["key", "status"]).values()
        pairs = (zip(*(table.column(name).to_pylist() for name in ("key", "status")), strict=True) for table in tables)
        return {key for key, status in itertools.chain(*pairs) if failed or status != Status.FAILED}

    def write(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of a chunk in one file.

        Parameters
        ----------
        rows : list of dict
            Rows with the columns `COLUMNS`.

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        StoreError
            If the rows are inconsistent, the disk is full or the folder cannot be written; no partial file remains.
        """
        return self.write_runs(schema.to_arrow(rows), environment())

    def write_runs(self, table: pa.Table, environment: Mapping[str, str]) -> Path:
        """Store a table of runs that were computed in one environment in one file; see `write`.

        Parameters
        ----------
        table : pyarrow.Table
            Rows with the columns `COLUMNS`.
        environment : mapping
            See `environment`.

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        StoreError
            If the rows are inconsistent, the disk is full or the folder cannot be written; no partial file remains.
        """
        if reason := schema.inconsistency(table):
            raise StoreError(f"these rows cannot be stored: {reason.replace('it has', 'there is')}")
        data, digest = schema.to_parquet(table, {"environment": dict(environment)}, **schema.RUN_ENCODING)
        path = self._folder / digest[:2] / f"{digest}.parquet"
        files.write_file(path, data)
        return path

    def write_race(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of one race.

        Parameters
        ----------
        rows : list of dict
            Rows with the columns `RACE_COLUMNS`.

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; no partial file remains.
        """
        return self.write_table("races", rows[0]["race"], rows, schema.RACE_COLUMNS)

    def write_table(self, kind: str, name: str, rows: list[dict[str, Any]], columns: Columns) -> Path:
        """Store rows as a new table of a kind.

        Parameters
        ----------
        kind : str
            Name of the folder, such as ``"gpu"``.
        name : str
            Beginning of the name of the file; tables are read in the order of their names.
        rows : list of dict
            Rows with these columns.
        columns : mapping
            Arrow type and meaning by name, as in `COLUMNS`.

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; no partial file remains.
        """
        data, digest = schema.to_parquet(schema.to_arrow(rows, columns), {"environment": environment()})
        path = self._folder_of(kind) / f"{name}.{digest}.parquet"
        files.write_file(path, data)
        return path

    def load(self, keys: Iterable[str] | None = None) -> Runs:
        """The stored runs: all, or those with the given keys.

        Runs may be stored several times, by several versions of the code or after a failure. Each run is returned once: as
        a failed one only if it never succeeded, then as its newest.

        Parameters
        ----------
        keys : iterable of str, optional
            Keys of the runs to load, each a run of its own; by default all.

        Returns
        -------
        Runs
            The runs, sorted by problem, method, step size, settings and seed.

        Raises
        ------
        StoreError
            If there is no results folder, or a file in it cannot be read at the moment.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self.check_exists()
        self._check_version(self._folder)
        tables = list(self.read_runs().values())
        if keys is not None:
            wanted = pa.array(set(keys), pa.string())
            tables = [table.filter(pc.is_in(table.column("key"), wanted)) for table in tables]
        frame = schema.to_frame(pa.concat_tables([schema.to_arrow([]), *tables]))
        rows = newest(frame) if keys is None else by_precedence(frame).drop_duplicates("key", keep="last")
        table_of_row = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])  # (rows of all tables,)
        environments = {
            json.dumps(schema.metadata_of(tables[number].schema).get("environment", {}), sort_keys=True)
            for number in np.unique(table_of_row[rows.index])
        }
        order = ["problem", "method", "step_size", "settings", "seed", "steps", "key"]
        rows = add_labels(rows).sort_values(order, kind="stable", ignore_index=True)
        return Runs(rows, [json.loads(text) for text in sorted(environments)])

    def load_races(self) -> pd.DataFrame:
        """All stored races.

        Returns
        -------
        DataFrame
            One row for each round and configuration, oldest race first, with the columns `RACE_COLUMNS`.

        Raises
        ------
        StoreError
            If a file cannot be read at the moment.
        """
        return self.load_table("races", schema.RACE_COLUMNS)

    def load_table(self, kind: str, columns: Columns | None = None) -> pd.DataFrame:
        """All tables of a kind as one.

        Parameters
        ----------
        kind : str
            Name of the folder, see `write_table`.
        columns : mapping, optional
            Columns of these tables, as in `write_table`; by default any.

        Returns
        -------
        DataFrame
            The rows of all tables, oldest table first.

        Raises
        ------
        StoreError
            If a file cannot be read at the moment.
        """
        import pyarrow as pa

        folder = self._folder_of(kind)
        self._check_version(folder)
        tables = self._read(folder, 1, columns).values()
        return schema.to_frame(
            pa.concat_tables([schema.to_arrow([], columns or {}), *tables], promote_options="default")
        )

    def check_exists(self) -> None:
        """Raise `StoreError` if there is no such folder."""
        if not files.exists(self.path, folder=True):
            raise StoreError(f"there is no results folder {self._name!r}; optbench run creates one")

    def read_runs(self, names: Sequence[str] | None = None) -> dict[Path, pa.Table]:
        """The tables of all files of runs; those that cannot be used are moved to the quarantine.

        Parameters
        ----------
        names : sequence of str, optional
            Columns to read, with ``key`` and ``status`` among them; by default all.

        Returns
        -------
        dict of Path to pyarrow.Table
            The table of each file.

        Raises
        ------
        StoreError
            If a file cannot be read at the moment.
        """
        return self._read(self._folder, 2, schema.COLUMNS, names)

    def read_table(
        self, path: Path, columns: Columns | None = schema.COLUMNS, names: Sequence[str] | None = None
    ) -> pa.Table:
        """The verified table of a file of the store.

        Parameters
        ----------
        path : Path
            The file.
        columns : mapping, optional
            The columns that it must have, as in `write_table`; None for any.
        names : sequence of str, optional
            The columns to read; by default all.

        Returns
        -------
        pyarrow.Table
            The table.

        Raises
        ------
        StoreError
            If the file is damaged or foreign, or cannot be read at the moment.
        FileNotFoundError
            If there is no such file any more.
        """
        data = files.read_file(path)
        if schema.verify(data) != path.stem.rpartition(".")[2]:
            raise files.DamagedFileError("it has the name of another file")
        return schema.from_parquet(data, columns, names)

    def scan(self, kind: str | None = None) -> tuple[dict[Path, pa.Table], dict[Path, str]]:
        """Read all files of runs, or of other tables of a kind, and change nothing.

        Parameters
        ----------
        kind : str, optional
            See `write_table`; by default files of runs.

        Returns
        -------
        tables : dict of Path to pyarrow.Table
            The table of each usable file.
        damaged : dict of Path to str
            What is wrong with each other file.

        Raises
        ------
        StoreError
            If a file cannot be read at the moment.
        """
        if kind is None:
            return self._scan(self._folder, 2, schema.COLUMNS)
        return self._scan(self._folder_of(kind), 1, schema.RACE_COLUMNS if kind == "races" else None)

    def quarantine(self, damaged: Iterable[Path]) -> int:
        """Move files that cannot be used to the folder ``quarantine``.

        Parameters
        ----------
        damaged : iterable of Path
            The files.

        Returns
        -------
        int
            How many were moved; the others stay, because the folder cannot be written.
        """
        return sum([self._move_to_quarantine(path) for path in damaged])

    def _move_to_quarantine(self, path: Path) -> bool:
        target = self.path / "quarantine" / path.relative_to(self.path)
        numbers = itertools.count(1)
        while os.path.lexists(target):
            target = target.with_name(f"{path.name}.{next(numbers)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        except FileNotFoundError:  # another process has moved it
            return True
        except OSError:
            self._ignored.add(path)
            return False
        return True

    def _read(
        self, folder: Path, depth: int, columns: Columns | None, names: Sequence[str] | None = None
    ) -> dict[Path, pa.Table]:
        tables, damaged = self._scan(folder, depth, columns, names)
        new = {path: reason for path, reason in damaged.items() if path not in self._ignored}
        if not new:
            return tables
        moved = self.quarantine(new)
        path, reason = next(iter(new.items()))
        count = "1 file" if len(new) == 1 else f"{len(new)} files"
        place = f"; moved to {str(self.path / 'quarantine')!r}" if moved else ""
        if moved < len(new):
            place += f"; {len(new) - moved} of them cannot be moved and are left out"
        warnings.warn(
            f"{count} of the results folder {self._name!r} cannot be used ({path.relative_to(self.path)}: {reason})"
            f"{place}. optbench run computes their runs again",
            stacklevel=4,
        )
        return tables

    def _scan(
        self, folder: Path, depth: int, columns: Columns | None, names: Sequence[str] | None = None
    ) -> tuple[dict[Path, pa.Table], dict[Path, str]]:
        """The tables of all files of a folder, and what is wrong with those that cannot be used."""
        results: dict[Path, pa.Table | str | None] = {}

        def read(path: Path) -> pa.Table | str | None:
            try:
                return self.read_table(path, columns, names)
            except files.DamagedFileError as error:
                return str(error)
            except FileNotFoundError:
                return None

        # files are small, and reading them in parallel is faster because Arrow releases the interpreter lock
        with cf.ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            # listed again, because another process may have replaced files by new ones while they were listed or read
            while unread := [path for path in files.list_files(folder, ".parquet", depth) if path not in results]:
                results |= zip(unread, pool.map(read, unread), strict=True)
        damaged = {path: reason for path, reason in results.items() if isinstance(reason, str)}
        tables = {path: table for path, table in results.items() if table is not None and path not in damaged}
        if columns is schema.COLUMNS:
            damaged |= _inconsistent(tables)
        return {path: table for path, table in tables.items() if path not in damaged}, damaged

    def _folder_of(self, kind: str) -> Path:
        return self.path / kind / f"v{schema.VERSION}"

    def _check_version(self, folder: Path) -> None:
        """Raise `StoreError` if `folder` does not exist and there are results of other versions."""
        # another process may create `folder` just now
        if not folder.is_dir() and (others := sorted({*folder.parent.glob("v[0-9]*")} - {folder})):
            raise StoreError(
                f"{str(others[-1])!r} was written by another version of optbench and cannot be read; choose another "
                "folder, or move it elsewhere, and optbench run will compute its runs again"
            )


def _inconsistent(tables: Mapping[Path, pa.Table]) -> dict[Path, str]:
    """What is wrong with each inconsistent table of runs."""
    import pyarrow as pa

    # one check of all rows is faster than many checks of few
    if not tables or not schema.inconsistency(pa.concat_tables(tables.values()), [*tables.values()]):
        return {}
    reasons = {path: schema.inconsistency(table) for path, table in tables.items()}
    return {path: reason for path, reason in reasons.items() if reason}


def _absolute(path: str | Path) -> Path:
    """The path, independent of later changes of the working directory."""
    text = os.fspath(path)
    reason = "it is empty" if not text else "it has a null character" if "\0" in text else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = "it is not UTF-8"
    if reason:
        raise StoreError(f"{text!r} cannot be the name of a results folder: {reason}; give another, such as 'results'")
    try:
        return Path(text).absolute()
    except OSError:
        raise StoreError(
            f"the results folder {text!r} cannot be found, because the working directory is gone"
        ) from None
