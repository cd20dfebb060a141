"""Results on disk: Parquet files named by their content and written atomically.

A store is a folder. Its folder ``v3``, where 3 is the version of the schema, has one file for each chunk of runs, named by
a hash of their keys. Files are written under a temporary name and renamed, so that a killed process leaves no partial file
and several processes can write at once. Files are never changed or deleted.

Timings do not follow from their inputs, so they have no keys: every race adds a file to ``races/v3``. Other tables, such as
those of `benchmarks.gpu`, are stored in the same way.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.core.errors import StoreError
from optbench.core.types import Status
from optbench.results import schema
from optbench.results.environment import environment
from optbench.results.methods import add_labels
from optbench.results.runs import Runs, newest

if TYPE_CHECKING:
    import pandas as pd


_ADVICE = "; move the file elsewhere, and optbench run will compute its runs again"


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
        self.path = Path(path)
        self._folder = self.path / f"v{schema.VERSION}"

    @property
    def files(self) -> list[Path]:
        """All files of runs, in a fixed order."""
        return sorted(self._folder.glob("??/*.parquet"))

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
        return sorted((self.path / kind / f"v{schema.VERSION}").glob("*.parquet"))

    def check_writable(self) -> None:
        """Create the folder and check that it can be written.

        Raises
        ------
        StoreError
            If it cannot be written, or contains results of another version.
        """
        self._check_version(self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise StoreError(
                f"the results folder {str(self.path)!r} cannot be written ({error.strerror or error}); "
                "choose another folder"
            ) from None

    def keys(self, *, failed: bool = True) -> set[str]:
        """Keys of the stored runs.

        Parameters
        ----------
        failed : bool
            Whether to include failed runs.

        Returns
        -------
        set of str
            The keys.
        """
        tables = (schema.read_parquet(path, ["key", "status"], advice=_ADVICE) for path in self.files)
        rows = (row for table in tables for row in table.to_pylist())
        return {row["key"] for row in rows if failed or row["status"] != Status.FAILED}

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
            If the disk is full or the folder cannot be written; no partial file remains.
        """
        name = hashlib.sha256("\n".join(sorted(row["key"] + row["status"] for row in rows)).encode()).hexdigest()
        path = self._folder / name[:2] / f"{name}.parquet"
        schema.write_parquet(schema.to_arrow(rows), path, {"environment": environment()}, **schema.RUN_ENCODING)
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

    def write_table(
        self, kind: str, name: str, rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, str]]
    ) -> Path:
        """Store rows as a new table of a kind.

        Parameters
        ----------
        kind : str
            Name of the folder, such as ``"gpu"``.
        name : str
            Name of the file; tables are read in the order of their names.
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
        path = self.path / kind / f"v{schema.VERSION}" / f"{name}.parquet"
        schema.write_parquet(schema.to_arrow(rows, columns), path, {"environment": environment()})
        return path

    def load(self, keys: Iterable[str] | None = None) -> Runs:
        """The stored runs: all, or those with the given keys.

        Runs may be stored several times, by several versions of the code or after a failure. Only the newest is returned.

        Parameters
        ----------
        keys : iterable of str, optional
            Keys of the runs to load; by default all.

        Returns
        -------
        Runs
            The runs, sorted by problem, method, step size, settings and seed.

        Raises
        ------
        StoreError
            If there is no results folder, or a file in it cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.path.is_dir():
            raise StoreError(f"there is no results folder {str(self.path)!r}; optbench run creates one")
        self._check_version(self._folder)
        # files are small, and reading them in parallel is faster because Arrow releases the interpreter lock
        with cf.ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            tables = list(
                pool.map(lambda path: schema.read_parquet(path, list(schema.COLUMNS), advice=_ADVICE), self.files)
            )
        if keys is not None:
            wanted = pa.array(set(keys), pa.string())
            tables = [table.filter(pc.is_in(table.column("key"), wanted)) for table in tables]
        tables = [table for table in tables if table.num_rows]
        environments = {
            json.dumps(schema.metadata_of(table).get("environment", {}), sort_keys=True) for table in tables
        }
        rows = add_labels(newest(schema.to_frame(pa.concat_tables([schema.to_arrow([]), *tables]))))
        order = ["problem", "method", "step_size", "settings", "seed", "steps", "key"]
        rows = rows.sort_values(order, kind="stable", ignore_index=True)
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
            If a file cannot be read or lacks a column.
        """
        return self.load_table("races", schema.RACE_COLUMNS)

    def load_table(self, kind: str, columns: Mapping[str, tuple[str, str]] | None = None) -> pd.DataFrame:
        """All tables of a kind as one.

        Parameters
        ----------
        kind : str
            Name of the folder, see `write_table`.
        columns : mapping, optional
            Columns to read, as in `write_table`; by default all.

        Returns
        -------
        DataFrame
            The rows of all tables, oldest table first.

        Raises
        ------
        StoreError
            If a file cannot be read or lacks a column.
        """
        import pyarrow as pa

        self._check_version(self.path / kind / f"v{schema.VERSION}")
        names = list(columns) if columns else None
        tables = [schema.read_parquet(path, names, advice=_ADVICE) for path in self.table_files(kind)]
        return schema.to_frame(
            pa.concat_tables([schema.to_arrow([], columns or {}), *tables], promote_options="default")
        )

    def _check_version(self, folder: Path) -> None:
        """Raise `StoreError` if `folder` does not exist and there are results of other versions."""
        if not folder.is_dir() and (others := sorted(folder.parent.glob("v[0-9]*"))):
            raise StoreError(
                f"{str(others[-1])!r} was written by another version of optbench and cannot be read; choose another "
                "folder, or move it elsewhere, and optbench run will compute its runs again"
            )
