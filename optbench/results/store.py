"""Results on disk: content-addressed Parquet files that are written whole or not at all.

A store is a folder. Below ``v2/``, where 2 is the version of the schema, lies one file for each chunk of runs, named by the
hash of their keys. A file is written under a temporary name, synced and renamed, so that a killed process leaves no half
file, and several processes may write at once. Nothing is ever changed or deleted.

Timings are not determined by their inputs, so they are not looked up but collected: every race adds a file below
``races/v2/``. Other tables, such as those of `benchmarks.gpu`, are kept the same way, with columns of their own.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.core.errors import StoreError
from optbench.core.types import Status
from optbench.results.environment import environment
from optbench.results.methods import add_labels
from optbench.results.runs import Runs
from optbench.results.schema import COLUMNS, RACE_COLUMNS, VERSION, to_arrow, to_frame

if TYPE_CHECKING:
    import pandas as pd


# Curves are numbers of which hardly two are alike: no dictionary of them is built, and their bytes are compressed by place.
# That halves the time of writing and takes a quarter off the files.
_LEAVES = {"list<double>": "{}.list.element", "list<int64>": "{}.list.element"}
_LEAVES["map<string, list<double>>"] = "{}.key_value.value.list.element"
_CURVES = [_LEAVES[COLUMNS[name][0]].format(name) for name in ("f", "best", "gradient_norm", "metrics")]
_OTHERS = [_LEAVES.get(kind, "{}").format(name) for name, (kind, _) in COLUMNS.items()]
_ENCODING: dict[str, Any] = {
    "use_dictionary": [*(leaf for leaf in _OTHERS if leaf not in _CURVES), "metrics.key_value.key"],
    "column_encoding": dict.fromkeys(_CURVES, "BYTE_STREAM_SPLIT"),
}


class Store:
    """A folder of results.

    Parameters
    ----------
    path : str or Path
        The folder; it is made when the first results are written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._folder = self.path / f"v{VERSION}"

    @property
    def files(self) -> list[Path]:
        """All files of runs, in a fixed order."""
        return sorted(self._folder.glob("??/*.parquet"))

    def table_files(self, kind: str) -> list[Path]:
        """All files of further tables of a kind, such as ``"races"`` or ``"gpu"``; oldest first."""
        return sorted((self.path / kind / f"v{VERSION}").glob("*.parquet"))

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
        import pyarrow.parquet as pq

        keys: set[str] = set()
        for path in self.files:
            table = self._read(pq.read_table, path, columns=["key", "status"])
            pairs = zip(*(table.column(name).to_pylist() for name in ("key", "status")), strict=True)
            keys.update(key for key, status in pairs if failed or status != Status.FAILED)
        return keys

    def write(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of runs that were computed together.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        name = hashlib.sha256("\n".join(sorted(row["key"] + row["status"] for row in rows)).encode()).hexdigest()
        return self._write(to_arrow(rows), self._folder / name[:2] / f"{name}.parquet", **_ENCODING)

    def write_race(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of one race, with the columns `RACE_COLUMNS`, beside those of all races before it.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        return self.write_table("races", rows[0]["race"], rows, RACE_COLUMNS)

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
        return self._write(to_arrow(rows, columns), self.path / kind / f"v{VERSION}" / f"{name}.parquet")

    def _write(self, table: Any, path: Path, **encoding: Any) -> Path:
        import pyarrow.parquet as pq

        metadata = {"optbench": json.dumps({"schema": VERSION, "environment": environment()}, sort_keys=True)}
        table = table.replace_schema_metadata(metadata)
        # opened by ourselves and not by tempfile, whose files nobody else on a shared disk could read
        temporary = path.with_name(f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                pq.write_table(table, file, compression="zstd", **encoding)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StoreError(
                f"cannot write results to {str(self.path)!r} ({error.strerror or error}); free some space or "
                "choose another folder. What was stored before is safe"
            ) from None
        return path

    def load(self, keys: Iterable[str] | None = None) -> Runs:
        """The stored runs: all, or those with the given keys.

        Of runs that were asked for alike but computed by different versions of the code, or stored as failed and
        computed again later, the newest is returned.

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
            tables = list(pool.map(self._read_runs, self.files))
        if keys is not None:
            wanted = pa.array(sorted(set(keys)), pa.string())
            tables = [table.filter(pc.is_in(table.column("key"), wanted)) for table in tables]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return Runs.from_rows([])
        metadata = [json.loads((table.schema.metadata or {}).get(b"optbench", b"{}")) for table in tables]
        environments = {json.dumps(each.get("environment", {}), sort_keys=True) for each in metadata}
        rows = to_frame(pa.concat_tables(tables, promote_options="default"))
        question = ["problem_spec", "data_hash", "optimizer", "fixed", "schedule", "batch_size", "settings", "seed"]
        question += ["steps", "precision", "backend"]
        rows = rows.sort_values(["created", "key"]).drop_duplicates(question, keep="last")
        order = ["problem", "method", "step_size", "settings", "seed", "steps", "key"]
        rows = add_labels(rows).sort_values(order, kind="stable").reset_index(drop=True)
        return Runs(rows, [json.loads(text) for text in sorted(environments)])

    def load_races(self) -> pd.DataFrame:
        """All stored races: one row a round and configuration, with the columns `RACE_COLUMNS`, oldest race first.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        return self._load_tables("races", RACE_COLUMNS)

    def load_table(self, kind: str) -> pd.DataFrame:
        """All tables of a kind as one, see `write_table`; without rows and columns if there are none.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        return self._load_tables(kind, {})

    def _load_tables(self, kind: str, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
        """The tables of a kind as one: the given columns of them, which all of them need, or all if none are given."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._check_version(self.path / kind / f"v{VERSION}")
        names = list(columns) or None
        tables = [self._read(pq.read_table, path, columns=names) for path in self.table_files(kind)]
        return to_frame(pa.concat_tables([to_arrow([], columns), *tables], promote_options="default"))

    def _check_version(self, folder: Path) -> None:
        """Raise `StoreError` if there are results of other versions instead of those in `folder`."""
        if not folder.is_dir() and (others := sorted(folder.parent.glob("v[0-9]*"))):
            raise StoreError(
                f"{str(others[-1])!r} was written by another version of optbench, which this one does not read; choose "
                "another folder with --output, or move that one away, and optbench run will compute its runs again"
            )

    def _read_runs(self, path: Path) -> Any:
        """The table of one file of runs."""
        import pyarrow.parquet as pq

        def read(path: Path) -> Any:
            with pq.ParquetFile(path) as file:
                if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                    raise OSError(f"it has no column {missing[0]}")
                return file.read(columns=list(COLUMNS), use_threads=False)

        return self._read(read, path)

    def _read(self, reader: Any, path: Path, **options: Any) -> Any:
        import pyarrow as pa

        try:
            return reader(path, **options)
        except (OSError, pa.ArrowException, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StoreError(
                f"{path} cannot be read ({reason}); move it away, and optbench run will compute its runs again"
            ) from None
