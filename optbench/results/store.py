"""Results on disk: content-addressed Parquet files that are written whole or not at all.

A store is a folder. Below ``v2/``, where 2 is the version of the schema, lies one file for each chunk of runs, named by the
hash of their keys. A file is written under a temporary name, synced and renamed, so that a killed process leaves no half
file, and several processes may write at once. Nothing is ever changed or deleted.

Timings are not determined by their inputs, so they are not looked up but collected: every race adds a file below
``races/v2/``. Other tables, such as those of `benchmarks.gpu`, are kept the same way, with columns of their own.
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


_ADVICE = "; move it away, and optbench run will compute its runs again"


class Store:
    """A folder of results.

    Parameters
    ----------
    path : str or Path
        The folder; it is made when the first results are written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._folder = self.path / f"v{schema.VERSION}"

    @property
    def files(self) -> list[Path]:
        """All files of runs, in a fixed order."""
        return sorted(self._folder.glob("??/*.parquet"))

    def table_files(self, kind: str) -> list[Path]:
        """All files of further tables of a kind, such as ``"races"`` or ``"gpu"``; oldest first."""
        return sorted((self.path / kind / f"v{schema.VERSION}").glob("*.parquet"))

    def check_writable(self) -> None:
        """Make the folder and try it out, before any work is done.

        Raises
        ------
        StoreError
            If nothing can be written there, or it holds results of another version.
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
        """Keys of the runs that are there; without those that failed if `failed` is false."""
        tables = (schema.read_parquet(path, ["key", "status"], advice=_ADVICE) for path in self.files)
        rows = (row for table in tables for row in table.to_pylist())
        return {row["key"] for row in rows if failed or row["status"] != Status.FAILED}

    def write(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of runs that were computed together.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        name = hashlib.sha256("\n".join(sorted(row["key"] + row["status"] for row in rows)).encode()).hexdigest()
        path = self._folder / name[:2] / f"{name}.parquet"
        schema.write_parquet(schema.to_arrow(rows), path, {"environment": environment()}, **schema.RUN_ENCODING)
        return path

    def write_race(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of one race, with the columns `RACE_COLUMNS`, by `write_table`."""
        return self.write_table("races", rows[0]["race"], rows, schema.RACE_COLUMNS)

    def write_table(
        self, kind: str, name: str, rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, str]]
    ) -> Path:
        """Store rows of a kind of their own, beside all tables of this kind.

        Parameters
        ----------
        kind : str
            Name of their folder, such as ``"gpu"``.
        name : str
            Name of the file; tables are read in the order of their names.
        rows : list of dict
        columns : mapping
            Arrow type and meaning by name, as in `COLUMNS`; whoever writes the table declares them.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        path = self.path / kind / f"v{schema.VERSION}" / f"{name}.parquet"
        schema.write_parquet(schema.to_arrow(rows, columns), path, {"environment": environment()})
        return path

    def load(self, keys: Iterable[str] | None = None) -> Runs:
        """The stored runs: all, or those with the given keys.

        Of runs of the same question that were computed by different versions of the code, or that failed and were computed
        again later, the newest is returned.

        Raises
        ------
        StoreError
            If there is no store in the folder, or a file in it cannot be read.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.path.is_dir():
            raise StoreError(f"there is no results folder {str(self.path)!r}; optbench run makes one")
        self._check_version(self._folder)
        # files are read in parallel, because each is small and the reader releases the interpreter lock
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
        """All stored races by `load_table`: one row a round and configuration, oldest race first."""
        return self.load_table("races", schema.RACE_COLUMNS)

    def load_table(self, kind: str, columns: Mapping[str, tuple[str, str]] | None = None) -> pd.DataFrame:
        """All tables of a kind as one, see `write_table`: the given columns, which each needs, or all columns.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        import pyarrow as pa

        self._check_version(self.path / kind / f"v{schema.VERSION}")
        names = list(columns) if columns else None
        tables = [schema.read_parquet(path, names, advice=_ADVICE) for path in self.table_files(kind)]
        return schema.to_frame(
            pa.concat_tables([schema.to_arrow([], columns or {}), *tables], promote_options="default")
        )

    def _check_version(self, folder: Path) -> None:
        """Raise `StoreError` if there are results of other versions instead of those in `folder`."""
        if not folder.is_dir() and (others := sorted(folder.parent.glob("v[0-9]*"))):
            raise StoreError(
                f"{str(others[-1])!r} was written by another version of optbench, which this one does not read; choose "
                "another folder, or move that one away, and optbench run will compute its runs again"
            )
