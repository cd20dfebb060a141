"""The columns of stored tables, and their conversion to Arrow, pandas and the bytes of Parquet files.

`COLUMNS` declares the columns of runs, `RACE_COLUMNS` those of races. Reading runs adds two display labels, ``problem`` and
``method``; see `optbench.results.methods`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.trace import TARGETS
from optbench.core.types import Status
from optbench.results.files import DamagedFileError, reason_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


VERSION = 3  # of this schema: part of every key and of the folders of a store

# name -> (Arrow type, meaning), in the order of the columns
COLUMNS: dict[str, tuple[str, str]] = {
    "key": ("string", "hash of everything that determines the result"),
    "identity": ("string", "hash of what determines the result, except the code"),
    "code": ("string", "hash of the code of problem, optimizer, schedule and engine, and of all that it uses"),
    "created": ("string", "when the run ended, UTC"),
    "problem_spec": ("string", "spec of the problem"),
    "problem_name": ("string", "registered name of the problem, or name of its class"),
    "problem_origin": ("string", "module and name of the problem's class"),
    "problem_params": ("string", "all parameters of the problem, JSON"),
    "data_hash": ("string", "hash of the problem's data; empty if its spec determines the problem"),
    "dim": ("int64", "number of parameters d"),
    "optimizer": ("string", "registered name of the optimizer, or name of the rule or class"),
    "optimizer_origin": ("string", "module and name of the rule or of the optimizer's class"),
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
    "f_star_lower": ("double", "lower bound of the optimal value, as the problem states it"),
    "f_star_method": ("string", "how the optimum was determined"),
    "calls_to_target": (
        "list<double>",
        "oracle calls to each of 50 targets; inf if missed; null for targets that the precision or the interval of the "
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
    **{name: COLUMNS[name] for name in ("problem_name", "problem_origin", "problem_params", "data_hash", "dim")},
    "configuration": ("string", "optimizer with all settings that differ from their defaults, schedule and batch size"),
    **{name: COLUMNS[name] for name in ("optimizer", "optimizer_origin", "fixed", "settings")},
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

# of every run, because labels, identity and order of the rows depend on them
_REQUIRED = [
    "key",
    "created",
    "problem_spec",
    "data_hash",
    "optimizer",
    "fixed",
    "settings",
    "schedule",
    "seed",
    "steps",
]
_REQUIRED += ["backend", "precision", "status", "t", "checkpoint_calls", "f", "best", "gradient_norm", "metrics"]

_MARK, _BLANK = b"optbench sha256:", b"0" * 64  # what a digest follows, and what stands for it while it is computed


def to_arrow(rows: list[dict[str, Any]] | pd.DataFrame, columns: Mapping[str, tuple[str, str]] = COLUMNS) -> pa.Table:
    """Rows as an Arrow table with the given columns: `COLUMNS` for runs, `RACE_COLUMNS` for races."""
    import pyarrow as pa

    if isinstance(rows, list):
        return pa.Table.from_pylist(rows, schema=arrow_schema(columns))
    return pa.Table.from_pandas(rows, schema=arrow_schema(columns), preserve_index=False)


def arrow_schema(columns: Mapping[str, tuple[str, str]]) -> pa.Schema:
    """The Arrow types of the given columns."""
    return _arrow_schema(tuple((name, kind) for name, (kind, _) in columns.items()))


@functools.cache
def _arrow_schema(kinds: tuple[tuple[str, str], ...]) -> pa.Schema:
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    types = {"dictionary<string>": pa.dictionary(pa.int32(), pa.string()), "list<double>": numbers}
    types |= {"list<int64>": pa.list_(pa.int64()), "map<string, list<double>>": pa.map_(pa.string(), numbers)}
    return pa.schema([pa.field(name, types.get(kind, kind)) for name, kind in kinds])


def to_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table as a DataFrame; integer columns with missing values stay integer."""
    import pandas as pd
    import pyarrow as pa

    frame = table.to_pandas(types_mapper=lambda kind: pd.Int64Dtype() if kind == pa.int64() else None)
    # in a column of objects all rows share one string
    for name in [field.name for field in table.schema if pa.types.is_dictionary(field.type)]:
        frame[name] = frame[name].astype(object)
    return frame


def to_parquet(table: pa.Table, metadata: Mapping[str, Any], **encoding: Any) -> tuple[bytes, str]:
    """A table as the bytes of a Parquet file, and their digest.

    The file carries the metadata, the version of the schema and the digest: a SHA-256 of all its bytes, computed while the
    place of the digest holds zeros.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = json.dumps({"schema": VERSION, **metadata}, sort_keys=True)
    table = table.replace_schema_metadata({"optbench": text, "optbench digest": _MARK.decode() + _BLANK.decode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, **encoding)
    data = bytearray(sink.getvalue())
    place = _place_of_digest(data)
    digest = _digest(data, place)
    data[place] = digest.encode()
    return bytes(data), digest


def verify(data: bytes) -> str:
    """The digest of the bytes of a file.

    Raises
    ------
    DamagedFileError
        If they have none, or are not what was written.
    """
    place = _place_of_digest(data)
    digest = _digest(data, place)
    if data[place] != digest.encode():
        raise DamagedFileError("it is damaged: its content does not match its digest")
    return digest


def _place_of_digest(data: bytes | bytearray) -> slice:
    # the last mark, because text in the columns may contain one; the metadata are at the end of a file
    start = data.rfind(_MARK) + len(_MARK)
    if start < len(_MARK) or start + len(_BLANK) > len(data):
        raise DamagedFileError("optbench did not write it, or it is damaged: it has no digest")
    return slice(start, start + len(_BLANK))


def _digest(data: bytes | bytearray, place: slice) -> str:
    view, digest = memoryview(data), hashlib.sha256()
    for part in (view[: place.start], _BLANK, view[place.stop :]):
        digest.update(part)
    return digest.hexdigest()


def from_parquet(
    data: bytes, columns: Mapping[str, tuple[str, str]] | None = None, names: Sequence[str] | None = None
) -> pa.Table:
    """The table in the verified bytes of a file.

    Parameters
    ----------
    columns : mapping, optional
        The columns that it must have, exactly, as in `COLUMNS`; by default any.
    names : sequence of str, optional
        The columns to read; by default all.

    Raises
    ------
    DamagedFileError
        If it cannot be decoded, has other columns or types, or is of another version of the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            schema = file.schema_arrow
            if (version := metadata_of(schema).get("schema")) != VERSION:
                raise DamagedFileError(f"it has version {version} of the schema, and this optbench reads {VERSION}")
            if columns is not None and not schema.equals(needed := arrow_schema(columns)):
                raise DamagedFileError(_difference(schema, needed))
            # without threads, because files are small and several are read at once
            return file.read(columns=None if names is None else list(names), use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(f"it is no table of optbench ({reason_of(error)})") from None


def _difference(actual: pa.Schema, needed: pa.Schema) -> str:
    """What distinguishes the columns of a file from those it must have."""
    if actual.names != needed.names:
        other = min({*actual.names} ^ {*needed.names}, default="")
        return f"it has other columns than it must have, such as {other!r}" if other else "its columns are out of order"
    name, kind = next(
        (name, kind) for name, kind in zip(needed.names, needed.types, strict=True) if actual.field(name).type != kind
    )
    return f"its column {name!r} has the type {actual.field(name).type}, not {kind}"


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """The metadata that `to_parquet` stored, and the version of the schema."""
    metadata = json.loads((schema.metadata or {}).get(b"optbench", b"{}"))
    return metadata if isinstance(metadata, dict) else {}


def inconsistency(table: pa.Table, parts: Sequence[pa.Table] = ()) -> str:
    """What is wrong with rows of runs, all columns or only ``key`` and ``status``; empty if nothing is.

    Keys are unique in the table, or in each of its `parts`; the status is known, required columns are not null, JSON can be
    read, and the curves of a run have equal lengths.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in (name for name in _REQUIRED if name in table.column_names):
        if table.column(name).null_count:
            return f"it has a run without {name!r}"
    if any(pc.count_distinct(part.column("key")).as_py() != part.num_rows for part in parts or [table]):
        return "it has a key twice"
    known = pa.array([str(status) for status in Status])
    if not pc.all(pc.is_in(table.column("status"), known)).as_py() and table.num_rows:
        return "it has a run of unknown status"
    if not set(_CURVES) <= set(table.column_names):
        return ""
    for name in ("fixed", "settings"):
        if not all(_is_object(text) for text in table.column(name).unique().to_pylist()):
            return f"{name!r} of a run is no JSON object"
    lengths = pc.list_value_length(table.column("t"))
    for name in ("checkpoint_calls", "f", "best", "gradient_norm"):
        if not pc.list_value_length(table.column(name)).equals(lengths):
            return f"its lists 't' and {name!r} have different lengths"
    if not set(pc.list_value_length(table.column("calls_to_target")).unique().to_pylist()) <= {None, len(TARGETS)}:
        return f"'calls_to_target' of a run has not {len(TARGETS)} numbers"
    start = 0
    for metrics in filter(len, table.column("metrics").chunks):
        offsets = metrics.offsets.to_numpy()  # of the first metric of each run, (rows of the chunk + 1,)
        of_run = np.repeat(lengths[start : start + len(metrics)].to_numpy(), np.diff(offsets))
        of_metric = pc.list_value_length(metrics.items.slice(offsets[0], offsets[-1] - offsets[0]))
        if not np.array_equal(of_metric.to_numpy(zero_copy_only=False), of_run):
            return "a metric of a run has not the length of 't'"
        start += len(metrics)
    return ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
