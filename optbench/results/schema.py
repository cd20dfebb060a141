"""The columns of stored tables, and their conversion to Arrow, pandas and Parquet files.

`COLUMNS` declares the columns of runs, `RACE_COLUMNS` those of races. Reading runs adds two display labels, ``problem`` and
``method``; see `optbench.results.methods`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optbench.core.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


VERSION = 3  # of this schema: part of every key and of the folders of a store

# name -> (Arrow type, meaning), in the order of the columns
COLUMNS: dict[str, tuple[str, str]] = {
    "key": ("string", "hash of everything that determines the result"),
    "identity": ("string", "hash of what determines the result, except the code"),
    "code": ("string", "hash of the source code of problem, optimizer and engine"),
    "created": ("string", "when the run ended, UTC"),
    "problem_spec": ("string", "spec of the problem"),
    "problem_name": ("string", "registered name of the problem"),
    "problem_params": ("string", "all parameters of the problem, JSON"),
    "data_hash": ("string", "hash of the problem's data; empty if the parameters determine the problem"),
    "dim": ("int64", "number of parameters d"),
    "optimizer": ("string", "registered name of the optimizer"),
    "fixed": ("string", "settings that are not swept and differ from their defaults, JSON"),
    "settings": ("string", "all hyperparameters, JSON"),
    "step_size": ("double", "value of the tuned hyperparameter, lr or scale; null if there is none"),
    "schedule": ("string", "learning-rate schedule"),
    "batch_size": ("int64", "samples in a mini-batch; null for the full objective"),
    "seed": ("int64", "seed of start point, mini-batches, noise and search directions"),
    "steps": ("int64", "budget: largest number of steps"),
    "backend": ("string", "array module"),
    "precision": ("string", "float64 or float32"),
    "chunk_runs": ("int64", "runs computed in the same array"),
    "fused": ("bool", "whether rules and oracles were compiled where possible"),
    "status": ("string", "how the run ended, see `Status`"),
    "error": ("string", "why a run failed or is invalid"),
    "end": ("int64", "number of steps at which the run ended"),
    "oracle": ("string", "what every oracle call returned, see `Oracle`"),
    "calls": ("double", "oracle calls up to the end; a mini-batch of b out of n samples counts b / n"),
    "values": ("double", "objective values computed"),
    "gradients": ("double", "gradients computed"),
    "hessians": ("double", "Hessians computed"),
    "calls_per_step": ("double", "oracle calls of one step: 1, or b / n with mini-batches"),
    "budget_calls": ("double", "oracle calls of all steps and of the start"),
    "f_start": ("double", "objective at the start"),
    "f_end": ("double", "objective at the last finite iterate"),
    "f_best": ("double", "smallest objective of the run"),
    "f_star": ("double", "optimal value; null if unknown"),
    "f_star_lower": ("double", "certified lower bound of the optimal value"),
    "f_star_method": ("string", "how the optimum was determined"),
    "calls_to_target": (
        "list<double>",
        "oracle calls to each of 50 targets; inf if missed; null for targets that the precision or the certificate of the "
        "optimum cannot resolve, and if no optimum is known",
    ),
    "exact_targets": ("bool", "whether calls_to_target is exact; otherwise rounded up to checkpoints"),
    "t": ("list<int64>", "checkpoints: numbers of steps"),
    "checkpoint_calls": ("list<double>", "oracle calls up to each checkpoint"),
    "f": ("list<double>", "objective at the checkpoints"),
    "best": ("list<double>", "smallest objective so far"),
    "gradient_norm": ("list<double>", "norm of the full gradient"),
    "metrics": ("map<string, list<double>>", "metrics of the problem at the checkpoints"),
    "device_bytes": ("int64", "peak memory of the device while the array was computed; null on the CPU"),
    "description": ("dictionary<string>", "facts about the problem, JSON, see `optbench.runner.describe`"),
}

# the same for races, with one row for each round and configuration
RACE_COLUMNS: dict[str, tuple[str, str]] = {
    "race": ("string", "name of the race: UTC time of its start and a random part"),
    "created": ("string", "when the race ended, UTC"),
    "machine": ("string", "processor or GPU"),
    "cores": ("int64", "cores of the machine"),
    "core": ("int64", "core that the race was pinned to; null if it was not pinned"),
    "load_before": ("double", "load average of the minute before the race; null if unknown"),
    "load_after": ("double", "load average at the end of the race"),
    "round": ("int64", "number of the round, from 0"),
    "place": ("int64", "position of the configuration in every round, from 0"),
    "seed": ("int64", "seed of start point, mini-batches, noise and search directions; one for each round"),
    "problem": COLUMNS["problem_spec"],
    **{name: COLUMNS[name] for name in ("problem_name", "problem_params", "data_hash", "dim")},
    "configuration": ("string", "optimizer with all settings that differ from their defaults, schedule and batch size"),
    **{name: COLUMNS[name] for name in ("optimizer", "fixed", "settings")},
    "structure": ("string", "settings that can change the cost of a step, JSON"),
    **{name: COLUMNS[name] for name in ("step_size", "schedule", "batch_size", "calls_per_step", "oracle", "steps")},
    **{name: COLUMNS[name] for name in ("backend", "precision", "code")},
    "fused": ("bool", "whether the update rule was compiled"),
    "seconds": ("double", "seconds of all steps, including oracle calls"),
    "oracle_seconds": ("double", "seconds of the oracle calls alone"),
    "warmup_seconds": ("double", "seconds of the warm-up of the configuration, not included in the others"),
    "finite": ("bool", "whether the last iterate was finite"),
}

SCALARS = [name for name, (kind, _) in COLUMNS.items() if "<" not in kind]

# Numbers of a curve rarely repeat. Without a dictionary, and with their bytes split into streams, writing takes half the
# time and files are a quarter smaller.
_LEAVES = {"list<double>": ".list.element", "list<int64>": ".list.element"}
_LEAVES["map<string, list<double>>"] = ".key_value.value.list.element"
_PATHS = {name: name + _LEAVES.get(kind, "") for name, (kind, _) in COLUMNS.items()}
_CURVES = {name: _PATHS.pop(name) for name in ("f", "best", "gradient_norm", "metrics")}
RUN_ENCODING: dict[str, Any] = {
    "use_dictionary": [*_PATHS.values(), "metrics.key_value.key"],
    "column_encoding": dict.fromkeys(_CURVES.values(), "BYTE_STREAM_SPLIT"),
}  # of files of runs


def to_arrow(rows: list[dict[str, Any]] | pd.DataFrame, columns: Mapping[str, tuple[str, str]] = COLUMNS) -> pa.Table:
    """Rows as an Arrow table with the given columns: `COLUMNS` for runs, `RACE_COLUMNS` for races."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    types = {"dictionary<string>": pa.dictionary(pa.int32(), pa.string()), "list<double>": numbers}
    types |= {"list<int64>": pa.list_(pa.int64()), "map<string, list<double>>": pa.map_(pa.string(), numbers)}
    schema = pa.schema([pa.field(name, types.get(kind, kind)) for name, (kind, _) in columns.items()])
    if isinstance(rows, list):
        return pa.Table.from_pylist(rows, schema=schema)
    return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as a DataFrame; integer columns with missing values stay integer."""
    import pandas as pd
    import pyarrow as pa

    frame = table.to_pandas(types_mapper=lambda kind: pd.Int64Dtype() if kind == pa.int64() else None)
    # in a column of objects all rows share one string
    for name in [field.name for field in table.schema if pa.types.is_dictionary(field.type)]:
        frame[name] = frame[name].astype(object)
    return frame


def write_parquet(table: pa.Table, path: Path, metadata: Mapping[str, Any], **encoding: Any) -> None:
    """Write a table with metadata and the version of the schema, atomically.

    Raises
    ------
    StoreError
        If the disk is full or the folder cannot be written; no partial file remains.
    """
    import pyarrow.parquet as pq

    text = json.dumps({"schema": VERSION, **metadata}, sort_keys=True)
    # not by tempfile, whose files other users of a shared disk cannot read
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
            "folder. Earlier results are safe"
        ) from None


def read_parquet(path: Path, columns: Sequence[str] | None = None, *, advice: str = "") -> pa.Table:
    """The given columns of a file, or all.

    Raises
    ------
    StoreError
        If the file cannot be read or lacks a column; the message ends with the advice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns or () if name not in file.schema_arrow.names]:
                raise OSError(f"it has no column {missing[0]}")
            # without threads, because files are small and several are read at once
            return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(f"{path} cannot be read ({reason}){advice}") from None


def metadata_of(table: pa.Table) -> dict[str, Any]:
    """The metadata that `write_parquet` stored, and the version of the schema."""
    metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"optbench", b"{}"))
    return metadata
