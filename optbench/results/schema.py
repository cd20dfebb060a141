"""The columns of stored tables, and their way to Arrow, pandas and Parquet files.

`COLUMNS` declares what is stored of a run, and `RACE_COLUMNS` what is stored of a round of a race. When runs are read, two
display labels are added, ``problem`` and ``method``; see `optbench.results.methods`.
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


VERSION = 2  # of this schema: part of every key and of the folders of a store

# name -> (Arrow type, meaning); the order is the order of the columns
COLUMNS: dict[str, tuple[str, str]] = {
    "key": ("string", "hash of everything that determines the result"),
    "identity": ("string", "hash of what determines the result, but for the version of the code"),
    "code": ("string", "hash of the source text of problem, optimizer and loop"),
    "created": ("string", "when the run ended, UTC"),
    "problem_spec": ("string", "spec of the problem"),
    "problem_name": ("string", "registered name of the problem"),
    "problem_params": ("string", "all parameters of the problem, JSON"),
    "data_hash": ("string", "hash of the problem's data, empty where the parameters tell everything"),
    "dim": ("int64", "number of parameters d"),
    "optimizer": ("string", "registered name of the optimizer"),
    "fixed": ("string", "settings that are not swept and differ from their defaults, JSON"),
    "settings": ("string", "all hyperparameters, JSON"),
    "step_size": ("double", "value of the hyperparameter that is tuned: lr, or scale; null where there is none"),
    "schedule": ("string", "learning-rate schedule"),
    "batch_size": ("int64", "samples a mini-batch; null for the full objective"),
    "seed": ("int64", "seed of start, batches, noise and search directions"),
    "steps": ("int64", "budget: steps that a run may take"),
    "backend": ("string", "array module"),
    "precision": ("string", "float64 or float32"),
    "chunk_runs": ("int64", "runs that shared the array"),
    "fused": ("bool", "whether rules and oracles ran compiled, where they can be"),
    "status": ("string", "how the run ended, see `Status`"),
    "error": ("string", "why a run failed"),
    "end": ("int64", "iterate at which the run ended"),
    "oracle": ("string", "what every oracle call returned, see `Oracle`"),
    "calls": ("double", "oracle calls made up to the end; a mini-batch of b of n samples counts b / n"),
    "values": ("double", "objective values computed"),
    "gradients": ("double", "gradients computed"),
    "hessians": ("double", "Hessians computed"),
    "calls_per_step": ("double", "oracle calls that one step costs: 1, or b / n with mini-batches"),
    "budget_calls": ("double", "oracle calls that the budget allows: those of all its steps and of the start"),
    "f_start": ("double", "objective at the start"),
    "f_end": ("double", "objective at the last finite iterate"),
    "f_best": ("double", "smallest objective of the run"),
    "f_star": ("double", "optimal value; null where unknown"),
    "f_star_lower": ("double", "certified lower bound of the optimal value"),
    "f_star_method": ("string", "how the optimum is known"),
    "calls_to_target": (
        "list<double>",
        "oracle calls to each of 50 targets; inf if never reached, null without optimum",
    ),
    "exact_targets": ("bool", "whether calls_to_target is exact, or at the resolution of the checkpoints"),
    "t": ("list<int64>", "checkpoints: steps taken"),
    "checkpoint_calls": ("list<double>", "oracle calls made up to each checkpoint"),
    "f": ("list<double>", "objective at the checkpoints"),
    "best": ("list<double>", "smallest objective so far"),
    "gradient_norm": ("list<double>", "norm of the full gradient"),
    "metrics": ("map<string, list<double>>", "further figures at the checkpoints"),
    "device_bytes": ("int64", "most bytes in the device's memory pool while its array was computed; null on the CPU"),
    "description": ("dictionary<string>", "facts about the problem, JSON, see `optbench.runner.describe`"),
}

# likewise, one row a round and configuration of a race
RACE_COLUMNS: dict[str, tuple[str, str]] = {
    "race": ("string", "name of the race: when it began, UTC, and a random part"),
    "created": ("string", "when the race ended, UTC"),
    "machine": ("string", "processor, or GPU, that it ran on"),
    "cores": ("int64", "cores of the machine"),
    "core": ("int64", "core that the race was pinned to; null where the system does not pin"),
    "load_before": ("double", "load average of the minute before the race; null where the system does not tell"),
    "load_after": ("double", "load average at its end"),
    "round": ("int64", "number of the round, from 0"),
    "place": ("int64", "place in the order of every round, from 0: tells the configurations of a race apart"),
    "seed": ("int64", "seed of start, batches, noise and search directions; the same for all of a round"),
    "problem": COLUMNS["problem_spec"],
    **{name: COLUMNS[name] for name in ("problem_name", "problem_params", "data_hash", "dim")},
    "configuration": ("string", "optimizer with all settings that are not its defaults, schedule and batch size"),
    **{name: COLUMNS[name] for name in ("optimizer", "fixed", "settings")},
    "structure": ("string", "settings that may change what a step costs, JSON: not those that may differ in an array"),
    **{name: COLUMNS[name] for name in ("step_size", "schedule", "batch_size", "calls_per_step", "oracle", "steps")},
    **{name: COLUMNS[name] for name in ("backend", "precision", "code")},
    "fused": ("bool", "whether the update rule ran as one compiled pass over memory"),
    "seconds": ("double", "seconds of all steps, oracle calls included"),
    "oracle_seconds": ("double", "seconds of the oracle calls alone"),
    "warmup_seconds": ("double", "seconds of the configuration's warm-up, which is not in the others"),
    "finite": ("bool", "whether the last iterate was finite"),
}

SCALARS = [name for name, (kind, _) in COLUMNS.items() if "<" not in kind]

# Numbers of a curve hardly repeat: they get no dictionary, and their bytes are compressed by place. That halves the time of
# writing and takes a quarter off the files.
_LEAVES = {"list<double>": ".list.element", "list<int64>": ".list.element"}
_LEAVES["map<string, list<double>>"] = ".key_value.value.list.element"
_PATHS = {name: name + _LEAVES.get(kind, "") for name, (kind, _) in COLUMNS.items()}
_CURVES = {name: _PATHS.pop(name) for name in ("f", "best", "gradient_norm", "metrics")}
RUN_ENCODING: dict[str, Any] = {
    "use_dictionary": [*_PATHS.values(), "metrics.key_value.key"],
    "column_encoding": dict.fromkeys(_CURVES.values(), "BYTE_STREAM_SPLIT"),
}  # of files of runs


def to_arrow(rows: list[dict[str, Any]] | pd.DataFrame, columns: Mapping[str, tuple[str, str]] = COLUMNS) -> pa.Table:
    """Rows as an Arrow table with the given columns and types: `COLUMNS` for runs, `RACE_COLUMNS` for races."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    types = {"dictionary<string>": pa.dictionary(pa.int32(), pa.string()), "list<double>": numbers}
    types |= {"list<int64>": pa.list_(pa.int64()), "map<string, list<double>>": pa.map_(pa.string(), numbers)}
    schema = pa.schema([pa.field(name, types.get(kind, kind)) for name, (kind, _) in columns.items()])
    if isinstance(rows, list):
        return pa.Table.from_pylist(rows, schema=schema)
    return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table of rows for pandas; whole numbers stay whole where some are missing, and long texts are shared."""
    import pandas as pd
    import pyarrow as pa

    frame = table.to_pandas(types_mapper=lambda kind: pd.Int64Dtype() if kind == pa.int64() else None)
    # objects: all rows refer to one string, where a column of strings would hold it anew for each
    for name in [field.name for field in table.schema if pa.types.is_dictionary(field.type)]:
        frame[name] = frame[name].astype(object)
    return frame


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
