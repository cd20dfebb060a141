"""Results as rows and tidy tables. Everything after the loop is a function from table to table.

A row is what is stored of one run: scalars, and its curve as lists. `Runs` holds rows and gives two tables: `table`, one
row a run, and `curves`, one row a run and checkpoint. `COLUMNS` is the one place that fixes the columns of a row.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.about import about
from optbench.errors import InputError
from optbench.plan import Chunk, Plan
from optbench.record import TARGETS, Trace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# name -> (Arrow type, meaning); the order is the order of the columns
COLUMNS: dict[str, tuple[str, str]] = {
    "key": ("string", "hash of everything that determines the result"),
    "identity": ("string", "hash of everything that was asked for, whatever the version of the code"),
    "code": ("string", "hash of the source text of problem, optimizer and loop"),
    "created": ("string", "when the run ended, UTC"),
    "problem": ("string", "spec of the problem"),
    "problem_name": ("string", "registered name of the problem"),
    "problem_params": ("string", "all parameters of the problem, JSON"),
    "data_hash": ("string", "hash of the problem's data, empty where the parameters tell everything"),
    "dim": ("int64", "number of parameters d"),
    "method": ("string", "what is compared: optimizer with fixed settings, schedule and batch size"),
    "optimizer": ("string", "registered name of the optimizer"),
    "settings": ("string", "all hyperparameters, JSON"),
    "step_size": ("double", "value of the hyperparameter that is tuned: lr, or scale; null where there is none"),
    "schedule": ("string", "learning-rate schedule"),
    "batch_size": ("int64", "samples a mini-batch; null for the full objective"),
    "seed": ("int64", "seed of start, batches, noise and search directions"),
    "steps": ("int64", "steps asked for"),
    "backend": ("string", "array module"),
    "precision": ("string", "float64 or float32"),
    "chunk_runs": ("int64", "runs that shared the array"),
    "fused": ("bool", "whether rules and oracles ran compiled, where they can be"),
    "status": ("string", "budget, target, gradient, diverged or failed"),
    "error": ("string", "why a run failed"),
    "end": ("int64", "iterate at which the run ended"),
    "oracle": ("string", "what every call was asked for: value, gradient or hessian"),
    "calls": ("double", "oracle calls made up to the end; a mini-batch counts its fraction"),
    "values": ("double", "objective values computed"),
    "gradients": ("double", "gradients computed"),
    "hessians": ("double", "Hessians computed"),
    "fraction": ("double", "part of a full call that one step costs"),
    "f_start": ("double", "objective at the start"),
    "f_end": ("double", "objective at the last finite iterate"),
    "f_best": ("double", "smallest objective of the run"),
    "f_star": ("double", "optimal value; null where unknown"),
    "f_star_lower": ("double", "certified lower bound of the optimal value"),
    "f_star_method": ("string", "how the optimum is known"),
    "hits": (
        "list<double>",
        "oracle calls to each of the 50 targets; inf where never reached, null without an optimum",
    ),
    "exact_hits": ("bool", "whether hits are exact, or at the resolution of the checkpoints"),
    "t": ("list<int64>", "checkpoints: steps taken"),
    "f": ("list<double>", "objective at the checkpoints"),
    "best": ("list<double>", "smallest objective so far"),
    "gradient_norm": ("list<double>", "norm of the full gradient"),
    "metrics": ("map<string, list<double>>", "further figures at the checkpoints"),
    "device_bytes": ("int64", "most bytes in the device's memory pool while its array was computed; null on the CPU"),
    "about": ("dictionary<string>", "what the problem is, JSON: see `about.about`"),
}
ADDED = {"device_bytes", "fused", "about"}  # columns that files of earlier versions do not have: null there

# likewise, one row a round and contestant of a race
RACE_COLUMNS: dict[str, tuple[str, str]] = {
    "race": ("string", "name of the race: when it began, UTC, and a random part"),
    "created": ("string", "when the race ended, UTC"),
    "machine": ("string", "processor, or GPU, that it was held on"),
    "cores": ("int64", "cores of the machine"),
    "core": ("int64", "core that the race was pinned to; null where the system does not pin"),
    "load_before": ("double", "load average of the minute before the race; null where the system does not tell"),
    "load_after": ("double", "load average at its end"),
    "round": ("int64", "number of the round, from 0"),
    "place": ("int64", "place in the order of every round, from 0: tells the contestants of a race apart"),
    "seed": ("int64", "seed of start, batches, noise and search directions; the same for all of a round"),
    **{name: COLUMNS[name] for name in ("problem", "problem_name", "problem_params", "data_hash", "dim")},
    "contestant": ("string", "optimizer with all settings that are not its defaults, schedule and batch size"),
    **{name: COLUMNS[name] for name in ("method", "optimizer", "settings")},
    "structure": (
        "string",
        "the settings that may change what a step costs, JSON: not those that may differ in an array",
    ),
    **{name: COLUMNS[name] for name in ("step_size", "schedule", "batch_size", "fraction", "oracle", "steps")},
    **{name: COLUMNS[name] for name in ("backend", "precision", "code")},
    "fused": ("bool", "whether the update rule ran as one compiled pass over memory"),
    "seconds": ("double", "seconds of all steps, oracle calls included"),
    "oracle_seconds": ("double", "seconds of the oracle calls alone"),
    "warmup_seconds": ("double", "seconds of the contestant's warm-up, which is not in the others"),
    "finite": ("bool", "whether the last iterate was finite"),
}

# likewise, one row a figure of `benchmarks.gpu`, in long form: what was measured, of whom, and how much it was
GPU_COLUMNS: dict[str, tuple[str, str]] = {
    "measurement": ("string", "name of the run of the script: when it began, UTC, and a random part"),
    "created": ("string", "when the section ended, UTC"),
    "machine": ("string", "GPU"),
    "processor": ("string", "processor of the CPU that it is compared with"),
    "section": ("string", "curves, steps, sweeps or sizes"),
    "case": ("string", "what was computed: problem and method, rule, sweep or problem"),
    "precision": ("string", "float64 or float32"),
    "size": ("int64", "numbers in an array, or what the case grows in; null where there is one size"),
    "contender": ("string", "who computed it: gpu, gpu fused, cpu, copy, jax on gpu"),
    "quantity": ("string", "what was measured, with its unit"),
    "repeat": ("int64", "number of the repeat, from 0"),
    "value": ("double", "how much; null where it could not be measured, or never happened"),
    "note": ("string", "why there is no value, or what the size is; empty otherwise"),
}

SCALARS = [name for name, (kind, _) in COLUMNS.items() if "<" not in kind]


@dataclass(frozen=True, eq=False)
class Done:
    """What a chunk left, or why it left nothing, the device memory it took, and when it ended."""

    trace: Trace | None
    error: str | None = None
    device_bytes: int | None = None
    created: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    )

    @classmethod
    def failed(cls, error: BaseException) -> Done:
        return cls(None, f"{type(error).__name__}: {error}")


def rows_of(chunk: Chunk, done: Done) -> list[dict[str, Any]]:
    """The rows of a chunk; where it ran, each holds beside the columns its last iterate `x`, which is not stored."""
    trace = done.trace
    if trace is None:
        empty: dict[str, Any] = {"t": [], "f": [], "best": [], "gradient_norm": [], "metrics": []}
        return [row | empty | {"status": "failed", "error": done.error} for row in _asked(chunk, done)]
    rows = []
    exact = chunk.plan.problem.sampler((0,), chunk.plan.batch_size) is None
    for r, row in enumerate(_asked(chunk, done)):
        end = int(trace.end[r])
        t = trace.t[trace.t <= end]
        keep = slice(0, len(t))
        f, best = trace.f[r, keep], trace.best[r, keep]
        norms = trace.gradient_norm[r, keep]
        metrics = {name: values[r, keep] for name, values in trace.metrics.items()}
        # the end itself, where it lies between two checkpoints
        if t[-1] < end and trace.status[r] in ("target", "gradient"):
            t = np.append(t, end)
            f, best = np.append(f, trace.f_end[r]), np.append(best, trace.best_end[r])
            norms = np.append(norms, np.nan)
            metrics = {name: np.append(values, np.nan) for name, values in metrics.items()}
        calls = (end + 1) * trace.fraction
        known = not np.isnan(trace.hits[r, 0])
        row.update(
            status=trace.status[r],
            error=None,
            end=end,
            oracle=trace.oracle,
            calls=calls,
            values=calls,
            gradients=0.0 if trace.oracle == "value" else calls,
            hessians=calls if trace.oracle == "hessian" else 0.0,
            fraction=trace.fraction,
            f_start=_finite(trace.f[r, 0]),
            f_end=_finite(trace.f_end[r]),
            f_best=_finite(trace.best_end[r]),
            hits=((trace.hits[r] + 1) * trace.fraction).tolist() if known else None,
            exact_hits=exact,
            t=t.tolist(),
            f=f.tolist(),
            best=best.tolist(),
            gradient_norm=norms.tolist(),
            metrics=[(name, values.tolist()) for name, values in metrics.items()],
            x=trace.x[r],
        )
        rows.append(row)
    return rows


def _asked(chunk: Chunk, done: Done) -> Iterator[dict[str, Any]]:
    """What was asked of each run of a chunk, in the order of its rows; the other columns are None."""
    plan, problem = chunk.plan, chunk.plan.problem
    common = dict.fromkeys(COLUMNS) | {
        "code": plan.code,
        "created": done.created,
        "problem": problem.spec,
        "problem_name": problem.name,
        "problem_params": json.dumps(problem.params, sort_keys=True),
        "data_hash": problem.fingerprint,
        "dim": problem.dim,
        "method": plan.method,
        "optimizer": plan.recipe.name,
        "schedule": plan.schedule,
        "batch_size": plan.batch_size,
        "steps": plan.steps,
        "backend": problem.backend.name,
        "precision": problem.backend.precision,
        "chunk_runs": chunk.size,
        "fused": plan.placed.backend.fused is True,
        "device_bytes": done.device_bytes,
        # where its runs failed, the problem is not touched again: it may have taken a process down
        "about": about(problem, evaluate=done.trace is not None),
    }
    if problem.optimum is not None:
        optimum = problem.optimum
        common |= {"f_star": optimum.f, "f_star_lower": optimum.lower, "f_star_method": optimum.method}
    step_size = plan.recipe.kind.step_size
    for seed, point in chunk.runs:
        settings = plan.settings(point)
        yield common | {
            "key": plan.key(point, seed),
            "identity": plan.identity(point, seed),
            "settings": json.dumps(settings, sort_keys=True),
            "step_size": float(settings[step_size]) if step_size else None,
            "seed": seed,
        }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


class Runs:
    """Results of some runs, as tables.

    Parameters
    ----------
    rows : pandas.DataFrame, or callable
        Rows with the columns `COLUMNS`, or what makes them when they are first asked for.
    environments : sequence of dict
        Where the rows were computed, see `environment`.
    x : array of shape (R, d), callable or None
        Last iterates, row by row, where they were computed just now.
    """

    def __init__(
        self,
        rows: pd.DataFrame | Callable[[], pd.DataFrame],
        environments: Iterable[Mapping[str, str]] = (),
        x: np.ndarray | Callable[[], np.ndarray | None] | None = None,
    ) -> None:
        self._rows, self._x = rows, x
        self.environments = [dict(e) for e in environments]

    def __reduce__(self) -> tuple[Any, ...]:
        return Runs, (self.rows, self.environments, self.x)

    @functools.cached_property
    def rows(self) -> pd.DataFrame:
        """One row a run, with the columns `COLUMNS`."""
        return self._rows() if callable(self._rows) else self._rows

    @functools.cached_property
    def x(self) -> np.ndarray | None:
        """Last iterates, (R, d), where they were computed just now; otherwise None."""
        return self._x() if callable(self._x) else self._x

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        if self.rows.empty:
            return "<Runs: none>"
        counts = self.rows["status"].value_counts()
        return (
            f"<Runs: {len(self.rows)} runs of {self.rows['method'].nunique()} methods on "
            f"{self.rows['problem'].nunique()} problems; {', '.join(f'{n} {s}' for s, n in counts.items())}>"
        )

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row a run: the scalar columns of `COLUMNS`, the gaps, and each hyperparameter as a column of its own."""
        import pandas as pd

        table = self.rows[SCALARS].copy()
        for name in ("f_start", "f_end", "f_best"):
            table[name.replace("f_", "gap_")] = table[name] - table["f_star"]
        settings = pd.DataFrame([json.loads(text) for text in table["settings"]], index=table.index)
        return table.join(settings[[name for name in settings.columns if name not in table.columns]])

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row a run and checkpoint.

        Columns: what tells the run (`key`, `problem`, `method`, `optimizer`, `settings`, `schedule`, `batch_size`,
        `step_size`, `seed`), `t` (steps taken), `calls` (oracle calls), `f`, `best`, `gap` and `best_gap` (f and best
        less f*; null where no optimum is known), `gradient_norm`, and one column a metric of the problem.
        """
        import pandas as pd

        names = ["key", "problem", "method", "optimizer", "settings", "schedule", "batch_size", "step_size", "seed"]
        rows = self.rows.reset_index(drop=True)
        lengths = rows["t"].map(len).to_numpy(dtype=int)
        which = np.repeat(np.arange(len(rows)), lengths)
        curves = rows[names].take(which).reset_index(drop=True)
        for name in ("t", "f", "best", "gradient_norm"):
            parts = [np.asarray(values, dtype=float) for values in rows[name]]
            curves[name] = np.concatenate(parts) if parts else np.empty(0)
        curves["t"] = curves["t"].astype(int)
        curves["calls"] = (curves["t"] + 1) * rows["fraction"].astype(float).to_numpy()[which]
        f_star = rows["f_star"].astype(float).to_numpy()[which]
        curves["gap"] = curves["f"] - f_star
        curves["best_gap"] = curves["best"] - f_star
        metrics = [dict(pairs) for pairs in rows["metrics"]]
        for name in sorted({name for held in metrics for name in held}):
            missing = [np.full(n, np.nan) for n in lengths]
            curves[name] = np.concatenate([held.get(name, gap) for held, gap in zip(metrics, missing, strict=True)])
        order = [*names, "t", "calls", "f", "best", "gap", "best_gap"]
        return pd.DataFrame(curves[order + [name for name in curves.columns if name not in order]])


def arrow_of(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, str]] = COLUMNS) -> pa.Table:
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
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, types[kind]) for name, (kind, _) in columns.items()]))


def frame_of(table: pa.Table) -> pd.DataFrame:
    """An Arrow table of rows for pandas; whole numbers stay whole where some are missing, and long texts are shared."""
    import pandas as pd
    import pyarrow as pa

    frame = table.to_pandas(types_mapper=lambda kind: pd.Int64Dtype() if kind == pa.int64() else None)
    # objects: all rows refer to one string, where a column of strings would hold it anew for each
    for name in [field.name for field in table.schema if pa.types.is_dictionary(field.type)]:
        frame[name] = frame[name].astype(object)
    return frame


def runs_of(rows: list[dict[str, Any]], environments: Iterable[Mapping[str, str]] = ()) -> Runs:
    """`Runs` of rows."""
    held = [row["x"] for row in rows if "x" in row]
    x = np.stack(held) if held and len(held) == len(rows) and len({len(v) for v in held}) == 1 else None
    return Runs(frame_of(arrow_of(rows)), environments, x)


def runs_of_curves(curves: pd.DataFrame) -> Runs:
    """`Runs` of what a table of curves tells, see `Runs.curves`; for figures of a part of them.

    What the curves do not hold is inferred: calls to targets are those of the first checkpoint at or below them, and a run
    whose last value is not finite counts as diverged.

    Raises
    ------
    InputError
        If a column is missing.
    """
    import pandas as pd

    needed = ["key", "problem", "method", "settings", "step_size", "seed", "t", "calls", "f", "best", "gap", "best_gap"]
    missing = [name for name in needed if name not in curves.columns]
    if missing:
        raise InputError(
            f"the table of curves lacks {', '.join(missing)}; give Runs, or Runs.curves with all its columns"
        )
    told = [name for name in ("optimizer", "schedule", "batch_size") if name in curves.columns]
    further = [n for n in curves.columns if n not in {*needed, *told, "gradient_norm"}]
    rows = []
    for key, run in curves.sort_values("t", kind="stable").groupby("key", sort=False):
        first, f, best = run.iloc[0], run["f"].to_numpy(dtype=float), run["best"].to_numpy(dtype=float)
        gap, calls, t = run["best_gap"].to_numpy(dtype=float), run["calls"].to_numpy(dtype=float), run["t"].to_numpy()
        known, finite = bool(np.isfinite(gap[0])), np.isfinite(f)
        row = dict.fromkeys(COLUMNS) | {name: first[name] for name in [*needed[1:6], *told] if pd.notna(first[name])}
        if known:
            below = gap[None, :] <= TARGETS[:, None] * gap[0]  # (50, C)
            row["hits"] = np.where(below.any(axis=1), calls[np.argmax(below, axis=1)], np.inf).tolist()
            row["f_star"] = float(f[0] - run["gap"].iloc[0])
        norms = run["gradient_norm"] if "gradient_norm" in run else np.full(len(t), np.nan)
        row |= {
            "key": key,
            "status": "budget" if finite[-1] else "diverged",
            "end": int(t[-1] if finite[-1] else t[np.argmin(finite)]),
            "calls": float(calls[-1]),
            "fraction": float(calls[0] / (t[0] + 1)),
            "f_start": _finite(f[0]),
            "f_end": _finite(f[finite][-1]) if finite.any() else None,
            "f_best": _finite(np.nanmin(best)) if np.isfinite(best).any() else None,
            "exact_hits": False,
            "precision": "float64",
            "steps": int(t[-1]),
            "t": t.tolist(),
            "f": f.tolist(),
            "best": best.tolist(),
            "gradient_norm": list(norms),
            "metrics": [(name, run[name].astype(float).tolist()) for name in further],
        }
        rows.append(row)
    return runs_of(rows)


def gathered(
    parts: Sequence[tuple[Chunk, Done]], plans: Sequence[Plan], environments: Iterable[Mapping[str, str]] = ()
) -> Runs:
    """`Runs` of chunks just computed, in the order of the plans, their seeds and their settings.

    The tables are made when they are first asked for: they may take longer than the runs.
    """

    @functools.cache
    def runs() -> Runs:
        found = [row for chunk, done in parts for row in rows_of(chunk, done)]
        order = {
            key: i for i, key in enumerate(plan.key(p, s) for plan in plans for s in plan.seeds for p in plan.grid)
        }
        return runs_of(sorted(found, key=lambda row: order[row["key"]]))

    def x() -> np.ndarray | None:
        alone = parts[0][1].trace if len(parts) == 1 else None  # one chunk is in order
        return runs().x if alone is None else alone.x

    return Runs(lambda: runs().rows, environments, x)


def tell_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Give different names to methods and problems that differ only in what their names leave out.

    Within one store the same method may have been run with several budgets, precisions or array modules, and a file of data
    may have changed under its name. Runs of one name are tuned and averaged together, so those must not share one.
    """
    rows = rows.copy()
    for column, text in (("steps", "{} steps"), ("precision", "{}"), ("backend", "{}")):
        several = rows.groupby(["problem", "data_hash", "method"])[column].transform("nunique") > 1
        if several.any():
            names = zip(rows.loc[several, "method"], rows.loc[several, column], strict=True)
            rows.loc[several, "method"] = [f"{name}, {text.format(value)}" for name, value in names]
    return tell_data_apart(rows)


def tell_data_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Give different names to problems that differ only in their data."""
    several = rows.groupby("problem")["data_hash"].transform("nunique") > 1
    if several.any():
        rows = rows.copy()
        rows.loc[several, "problem"] += " [data " + rows.loc[several, "data_hash"].str[:8] + "]"
    return rows


def environment() -> dict[str, str]:
    """Where results come from: versions, processor, threads, commit, and the GPU once this process has asked for one.

    The command line is there too where there was one; it is in the variable OPTBENCH_COMMAND, which workers inherit.
    """
    command = os.environ.get("OPTBENCH_COMMAND")
    return _host_environment() | _gpu() | ({"command": command} if command else {})


@functools.cache
def _host_environment() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    def version_of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {
        "optbench": version_of("optbench"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow")},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "blas threads": "1",
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str:
    """Commit of the checkout that optbench runs from; empty for an installed copy."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _gpu() -> dict[str, str]:
    cupy = sys.modules.get("cupy")
    if cupy is None or not cupy.cuda.is_available():
        return {}
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    # the switch, and what CuPy makes of it: a program may have set the compute type itself
    asked = os.environ.get("CUPY_TF32", "0")
    try:
        from cupy._core import _routines_linalg as products

        kind = products.compute_type_to_str(products.get_compute_type(np.dtype("float32")))
        tf32 = "on" if "TF32" in str(kind) else "off"
    except (ImportError, AttributeError, TypeError):  # these names are CuPy's own and may move
        tf32 = "off" if asked in ("", "0") else "on"
    return {
        "gpu": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "cupy": cupy.__version__,
        "cuda": str(cupy.cuda.runtime.runtimeGetVersion()),
        "driver": str(cupy.cuda.runtime.driverGetVersion()),
        "tf32": tf32,
        "accelerators": os.environ.get("CUPY_ACCELERATORS", "cub"),
    }
