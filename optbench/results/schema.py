"""The columns of stored tables, and their way to Arrow and pandas.

`COLUMNS` declares what is stored of a run, and `RACE_COLUMNS` what is stored of a round of a race. When runs are read, two
display labels are added, ``problem`` and ``method``; see `labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
        "oracle calls to each of the 50 targets; inf where never reached, null without an optimum",
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
    "structure": (
        "string",
        "the settings that may change what a step costs, JSON: not those that may differ in an array",
    ),
    **{name: COLUMNS[name] for name in ("step_size", "schedule", "batch_size", "calls_per_step", "oracle", "steps")},
    **{name: COLUMNS[name] for name in ("backend", "precision", "code")},
    "fused": ("bool", "whether the update rule ran as one compiled pass over memory"),
    "seconds": ("double", "seconds of all steps, oracle calls included"),
    "oracle_seconds": ("double", "seconds of the oracle calls alone"),
    "warmup_seconds": ("double", "seconds of the configuration's warm-up, which is not in the others"),
    "finite": ("bool", "whether the last iterate was finite"),
}

SCALARS = [name for name, (kind, _) in COLUMNS.items() if "<" not in kind]


def to_arrow(rows: list[dict[str, Any]] | pd.DataFrame, columns: Mapping[str, tuple[str, str]] = COLUMNS) -> pa.Table:
    """Rows as an Arrow table with the given columns and types: `COLUMNS` for runs, `RACE_COLUMNS` for races."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "dictionary<string>": pa.dictionary(pa.int32(), pa.string()),
        "list<double>": pa.list_(pa.float64()),
        "list<int64>": pa.list_(pa.int64()),
        "map<string, list<double>>": pa.map_(pa.string(), pa.list_(pa.float64())),
    }
    schema = pa.schema([(name, types[kind]) for name, (kind, _) in columns.items()])
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
