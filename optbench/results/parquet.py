"""One Parquet file: written whole or not at all, and read with errors that name it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.core.errors import StoreError
from optbench.results.schema import COLUMNS, VERSION

if TYPE_CHECKING:
    import pyarrow as pa


# Numbers of a curve hardly repeat: they get no dictionary, and their bytes are compressed by place. That halves the time of
# writing and takes a quarter off the files.
_LEAVES = {"list<double>": "{}.list.element", "list<int64>": "{}.list.element"}
_LEAVES["map<string, list<double>>"] = "{}.key_value.value.list.element"
_CURVES = [_LEAVES[COLUMNS[name][0]].format(name) for name in ("f", "best", "gradient_norm", "metrics")]
_OTHERS = [_LEAVES.get(kind, "{}").format(name) for name, (kind, _) in COLUMNS.items()]
RUN_ENCODING: dict[str, Any] = {
    "use_dictionary": [*(leaf for leaf in _OTHERS if leaf not in _CURVES), "metrics.key_value.key"],
    "column_encoding": dict.fromkeys(_CURVES, "BYTE_STREAM_SPLIT"),
}  # of files of runs


def write_parquet(table: pa.Table, path: Path, metadata: Mapping[str, Any], **encoding: Any) -> None:
    """Write a table with metadata (and the version of the schema) under a temporary name, sync and rename the file.

    Raises
    ------
    StoreError
        If the disk is full or the folder cannot be written; nothing is left behind then.
    """
    import pyarrow.parquet as pq

    text = json.dumps({"schema": VERSION, **metadata}, sort_keys=True)
    # opened plainly, not by tempfile, whose files nobody else on a shared disk could read
    temporary = path.with_name(f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            pq.write_table(table.replace_schema_metadata({"optbench": text}), file, compression="zstd", **encoding)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"cannot write results to {str(path.parent)!r} ({error.strerror or error}); free some space or choose another "
            "folder. What was stored before is safe"
        ) from None


def read_parquet(path: Path, columns: Sequence[str] | None = None, *, advice: str = "") -> pa.Table:
    """The table of a file: the given columns, or all.

    Raises
    ------
    StoreError
        If the file cannot be read, or has not these columns; the message ends with the advice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns or () if name not in file.schema_arrow.names]:
                raise OSError(f"it has no column {missing[0]}")
            # files are small, and several are read at once: threads of their own would only cost time
            return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(f"{path} cannot be read ({reason}){advice}") from None


def metadata_of(table: pa.Table) -> dict[str, Any]:
    """What `write_parquet` was given besides the table, and the version of the schema."""
    metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"optbench", b"{}"))
    return metadata
