"""Results on disk: content-addressed Parquet files that are written whole or not at all.

A store is a folder; below ``v1/`` lies one file for each batch of runs that was computed together, named by the hash of
the keys in it. A file is written under a temporary name, synced and renamed, so that a killed process leaves no half
file, and several processes may write at once. Nothing is ever changed or deleted.

Races lie below ``races/v1/``, a file each. Timings are not determined by what was asked for, so they are not looked up but
gathered: every race adds a file. So do the sections of a comparison of a GPU with the CPU, below ``gpu/v1/``.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.core.errors import StoreError
from optbench.results.environment import environment
from optbench.results.runs import Runs, runs_of, tell_apart
from optbench.results.schema import ADDED, COLUMNS, GPU_COLUMNS, RACE_COLUMNS, arrow_of, frame_of

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
        self._folder = self.path / "v1"
        self._races = self.path / "races" / "v1"
        self._gpu = self.path / "gpu" / "v1"

    @property
    def files(self) -> list[Path]:
        """All result files, in a fixed order."""
        return sorted(self._folder.glob("??/*.parquet"))

    @property
    def race_files(self) -> list[Path]:
        """All files of races, oldest first."""
        return sorted(self._races.glob("*.parquet"))

    @property
    def gpu_files(self) -> list[Path]:
        """All files of comparisons of a GPU with the CPU, oldest first."""
        return sorted(self._gpu.glob("*.parquet"))

    def check_writable(self) -> None:
        """Make the folder and try it out, before any work is done.

        Raises
        ------
        StoreError
            If nothing can be written there.
        """
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

        found: set[str] = set()
        for path in self.files:
            table = self._read(pq.read_table, path, columns=["key", "status"])
            keys, statuses = (table.column(name).to_pylist() for name in ("key", "status"))
            found.update(k for k, s in zip(keys, statuses, strict=True) if failed or s != "failed")
        return found

    def write(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of runs that were computed together.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        name = hashlib.sha256("\n".join(sorted(row["key"] + row["status"] for row in rows)).encode()).hexdigest()
        return self._write(arrow_of(rows), self._folder / name[:2] / f"{name}.parquet", **_ENCODING)

    def write_race(self, rows: list[dict[str, Any]]) -> Path:
        """Store the rows of one race, with the columns `RACE_COLUMNS`, beside those of all races before it.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        return self._write(arrow_of(rows, RACE_COLUMNS), self._races / f"{rows[0]['race']}.parquet")

    def write_gpu(self, rows: list[dict[str, Any]]) -> Path:
        """Store one section of a comparison of a GPU with the CPU, rows with the columns `GPU_COLUMNS`.

        Raises
        ------
        StoreError
            If the disk is full or the folder cannot be written; nothing is left behind then.
        """
        first = rows[0]
        return self._write(
            arrow_of(rows, GPU_COLUMNS), self._gpu / f"{first['measurement']}-{first['section']}.parquet"
        )

    def _write(self, table: Any, path: Path, **encoding: Any) -> Path:
        import pyarrow.parquet as pq

        metadata = {"optbench": json.dumps({"schema": 1, "environment": environment()}, sort_keys=True)}
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
        # files are read side by side, because each is small and the reader lets go of the interpreter
        with cf.ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            tables = list(pool.map(self._read_runs, self.files))
        if keys is not None:
            wanted = pa.array(sorted(set(keys)), pa.string())
            tables = [table.filter(pc.is_in(table.column("key"), wanted)) for table in tables]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return runs_of([])
        known = [json.loads((table.schema.metadata or {}).get(b"optbench", b"{}")) for table in tables]
        environments = {json.dumps(held.get("environment", {}), sort_keys=True) for held in known}
        rows = frame_of(pa.concat_tables(tables, promote_options="default")).reindex(columns=list(COLUMNS))
        # of their types even where not every file has them
        nullable = {"bool": "boolean", "int64": "Int64", "dictionary<string>": object}
        kinds = {name: nullable[COLUMNS[name][0]] for name in sorted(ADDED)}
        rows = rows.astype({n: bool if k == "boolean" and rows[n].notna().all() else k for n, k in kinds.items()})
        asked = ["problem", "data_hash", "method", "settings", "seed", "steps", "precision", "backend"]
        newest = rows.sort_values(["created", "key"]).drop_duplicates(asked, keep="last")
        order = ["problem", "method", "step_size", "settings", "seed", "steps", "key"]
        newest = tell_apart(newest).sort_values(order, kind="stable").reset_index(drop=True)
        return Runs(newest, [json.loads(text) for text in sorted(environments)])

    def load_races(self) -> pd.DataFrame:
        """All stored races: one row a round and contestant, with the columns `RACE_COLUMNS`, oldest race first.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = [self._read(pq.read_table, path, columns=list(RACE_COLUMNS)) for path in self.race_files]
        empty = arrow_of([], RACE_COLUMNS)
        return frame_of(pa.concat_tables([empty, *tables]))

    def load_gpu(self) -> pd.DataFrame:
        """All stored comparisons of a GPU with the CPU: one row a figure, with the columns `GPU_COLUMNS`, oldest first.

        Raises
        ------
        StoreError
            If a file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = [self._read(pq.read_table, path, columns=list(GPU_COLUMNS)) for path in self.gpu_files]
        return frame_of(pa.concat_tables([arrow_of([], GPU_COLUMNS), *tables]))

    def _read_runs(self, path: Path) -> Any:
        """The table of one file of runs, with those of the columns that it has."""
        import pyarrow.parquet as pq

        def read(path: Path) -> Any:
            with pq.ParquetFile(path) as file:
                there = set(file.schema_arrow.names)
                for name in COLUMNS:
                    if name not in there and name not in ADDED:
                        raise OSError(f"it has no column {name}")
                return file.read(columns=[name for name in COLUMNS if name in there], use_threads=False)

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
