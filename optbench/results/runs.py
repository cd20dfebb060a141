"""Results as rows and tidy tables.

A row has the scalars of one run, and its curves as lists; `COLUMNS` declares its columns. `Runs` offers two tables:
`table`, with one row for each run, and `curves`, with one row for each run and checkpoint.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.errors import InputError, StoreError
from optbench.core.trace import TARGETS
from optbench.core.types import Status
from optbench.results import files, schema
from optbench.results.methods import add_labels

if TYPE_CHECKING:
    import pandas as pd

_ENDINGS = {Status.TARGET: "reached the last target", Status.GRADIENT: "reached the gradient tolerance"}


def newest(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest row of each run that did not fail, whichever version of the code computed it; else the newest failed one.

    Rows of the same run have the same ``identity``, or the same method, settings and seed where there is none.
    """
    identity = rows["identity"].astype(object)
    if (unknown := identity.isna()).any():
        names = ["problem_spec", "data_hash", "optimizer", "fixed", "schedule", "batch_size", "settings", "seed"]
        names += ["steps", "precision", "backend", "problem_origin", "optimizer_origin"]
        facts = rows.loc[unknown, names].itertuples(index=False, name=None)
        identity[unknown] = [repr(values) for values in facts]
    return by_precedence(rows).assign(run=identity).drop_duplicates("run", keep="last").drop(columns="run")


def by_precedence(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, sorted: a later row of a run replaces earlier ones. Failed rows come first, then old ones."""
    succeeded = rows["status"] != Status.FAILED
    return rows.assign(succeeded=succeeded).sort_values(["succeeded", "created", "key"]).drop(columns="succeeded")


def finite_or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


class Runs:
    """Results of runs, as tables.

    Parameters
    ----------
    rows : pandas.DataFrame, or callable
        Rows with the columns `COLUMNS` and the labels ``problem`` and ``method``, or a function that returns them.
    environments : sequence of dict
        Environments in which the rows were computed, see `environment`.
    x : array of shape (R, d), callable or None
        Last iterates in the order of the rows; None for stored runs.
    missing : int
        Number of requested runs without a row, because they could not be computed or stored; the same request computes
        them.

    Examples
    --------
    >>> runs = optbench.compare("quadratic:dim=5", ["adam", "sgd"], lr=[0.01, 0.1], seeds=3, steps=50)
    >>> runs
    <Runs: 12 runs of 2 methods on 1 problem: 12 used their budget>
    >>> runs.table.groupby("method")["gap_best"].min().idxmin()
    'adam'
    >>> runs.save("runs.parquet")
    >>> len(optbench.Runs.load("runs.parquet"))
    12
    """

    def __init__(
        self,
        rows: pd.DataFrame | Callable[[], pd.DataFrame],
        environments: Iterable[Mapping[str, str]] = (),
        x: np.ndarray | Callable[[], np.ndarray | None] | None = None,
        *,
        missing: int = 0,
    ) -> None:
        self._rows, self._x, self.missing = rows, x, missing
        self.environments = [dict(e) for e in environments]

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]], environments: Iterable[Mapping[str, str]] = ()) -> Runs:
        """`Runs` from rows.

        Parameters
        ----------
        rows : list of dict
            Rows with the columns `COLUMNS`, and ``x`` if every row has a last iterate of the same size.
        environments : iterable of dict
            Environments in which the rows were computed, see `environment`.

        Returns
        -------
        Runs
            The runs, with labels of problems and methods.
        """
        iterates = [row["x"] for row in rows if "x" in row]
        complete = iterates and len(iterates) == len(rows) and len({len(x) for x in iterates}) == 1
        return cls(
            add_labels(schema.to_frame(schema.to_arrow(rows))), environments, np.stack(iterates) if complete else None
        )

    @classmethod
    def from_curves(cls, curves: pd.DataFrame) -> Runs:
        """`Runs` from a table of curves, see `Runs.curves`; for figures of selected curves.

        Missing information is inferred: a target counts as reached at the first checkpoint at or below it, and a run whose
        last value is not finite counts as diverged.

        Parameters
        ----------
        curves : DataFrame
            `Runs.curves`, or a part of it with all columns and whole runs.

        Returns
        -------
        Runs
            The runs of these curves.

        Raises
        ------
        InputError
            If a column is missing.
        """
        import pandas as pd

        needed = ["key", "problem", "method", "settings", "step_size", "seed", "t", "calls", "f", "best"]
        needed += ["gap", "best_gap"]
        if missing := [name for name in needed if name not in curves.columns]:
            raise InputError(
                f"the table of curves lacks {', '.join(missing)}; give Runs, or Runs.curves with all its columns"
            )
        identity = ["key", "settings", "step_size", "seed", "optimizer", "fixed", "schedule", "batch_size"]
        further = [name for name in curves.columns if name not in {*needed, *identity, "gradient_norm"}]
        constants: dict[str, Any] = {"fixed": "{}", "schedule": "constant", "data_hash": "", "created": ""}
        constants |= {"backend": "numpy", "precision": "float64", "exact_targets": False}
        rows = []
        for _, run in curves.sort_values("t", kind="stable").groupby("key", sort=False):
            first, arrays = run.iloc[0], {name: run[name].to_numpy(dtype=float) for name in ("f", "best", *further)}
            t, calls, gap = run["t"].to_numpy(), *(run[name].to_numpy(dtype=float) for name in ("calls", "best_gap"))
            f, finite = arrays["f"], np.isfinite(arrays["f"])
            row = {**constants, "problem_spec": first["problem"], "optimizer": first["method"]}
            row |= {name: first[name] for name in identity if name in run and pd.notna(first[name])}
            if np.isfinite(gap[0]):
                below = gap <= TARGETS[:, None] * gap[0]  # (50, C)
                row["calls_to_target"] = np.where(below.any(axis=1), calls[np.argmax(below, axis=1)], np.inf)
                row["f_star"] = f[0] - first["gap"]
            row |= {"status": Status.BUDGET if finite[-1] else Status.DIVERGED, "steps": t[-1]}
            row |= {"end": t[-1] if finite[-1] else t[np.argmin(finite)], "calls": calls[-1], "budget_calls": calls[-1]}
            row |= {"calls_per_step": calls[0] / (t[0] + 1), "f_start": finite_or_none(f[0])}
            row["f_end"] = f[finite][-1] if finite.any() else None
            row["f_best"] = finite_or_none(np.fmin.reduce(arrays["best"]))
            row |= {"t": t, "checkpoint_calls": calls, "f": f, "best": arrays["best"]}
            row["gradient_norm"] = run.get("gradient_norm", pd.Series(np.nan, run.index)).to_numpy(dtype=float)
            row["metrics"] = [(name, arrays[name]) for name in further]
            rows.append(row)
        frame = schema.to_frame(schema.to_arrow(rows))
        labels = curves.drop_duplicates("key").set_index("key").loc[frame["key"], ["problem", "method"]].astype(str)
        return cls(labels.reset_index(drop=True).join(frame))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Runs, missing=self.missing), (self.rows, self.environments, self.x)

    @functools.cached_property
    def rows(self) -> pd.DataFrame:
        """One row for each run, with the columns `COLUMNS` and the labels ``problem`` and ``method``."""
        return self._rows() if callable(self._rows) else self._rows

    @functools.cached_property
    def x(self) -> np.ndarray | None:
        """Last iterates, (R, d), in the order of the rows; None for stored runs."""
        return self._x() if callable(self._x) else self._x

    def __add__(self, other: Runs) -> Runs:
        """The runs of both, with new labels that distinguish methods by budget and precision.

        A run that both have is included once: a failed row only if there is no other, then the newest. `x` is available if
        both have it with the same dimension.
        """
        if not isinstance(other, Runs):
            return NotImplemented
        import pyarrow as pa

        rows = schema.to_frame(pa.concat_tables([schema.to_arrow(self.rows), schema.to_arrow(other.rows)]))
        index = newest(rows).index.sort_values()
        environments = {json.dumps(each, sort_keys=True): each for each in [*self.environments, *other.environments]}
        x = None
        if self.x is not None and other.x is not None and self.x.shape[1] == other.x.shape[1]:
            x = np.concatenate([self.x, other.x])[index]
        labelled = add_labels(rows.loc[index].reset_index(drop=True))
        return Runs(labelled, environments.values(), x, missing=self.missing + other.missing)

    def save(self, path: str | Path) -> None:
        """Write the runs to one Parquet file, with their curves and environments, but without `x`.

        Parameters
        ----------
        path : str or Path
            The file; an existing one is replaced.

        Raises
        ------
        StoreError
            If the file cannot be written; an existing file then stays as it was.
        """
        table = schema.to_arrow(self.rows)
        if reason := schema.inconsistency(table):
            raise StoreError(f"these runs cannot be saved: {reason.replace('it has', 'there is')}")
        data, _ = schema.to_parquet(table, {"environments": self.environments}, **schema.RUN_ENCODING)
        files.write_file(Path(path).absolute(), data)

    @classmethod
    def load(cls, path: str | Path) -> Runs:
        """The runs of a file that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Runs
            The runs; `x` is None.

        Raises
        ------
        StoreError
            If there is no such file, it cannot be read, or it contains no runs.
        """
        path = Path(path)
        if not files.exists(path, folder=False):
            raise StoreError(
                f"there is no file {str(path)!r}; to read a results folder use Store({str(path)!r}).load()"
            )
        data = files.read_file(path)
        try:
            schema.verify(data)
            table = schema.from_parquet(data, schema.COLUMNS)
            if reason := schema.inconsistency(table):
                raise files.DamagedFileError(reason)
        except files.DamagedFileError as error:
            raise StoreError(f"{path} contains no runs that can be used: {error}") from None
        metadata = schema.metadata_of(table.schema)  # a file of a results folder has one environment
        environments = metadata.get("environments", [metadata.get("environment", {})])
        return cls(add_labels(schema.to_frame(table)), environments)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        missing = f"; {self.missing} missing" if self.missing else ""
        if self.rows.empty:
            return f"<Runs: none{missing}>"
        counts = {"run": len(self.rows)} | {name: self.rows[name].nunique() for name in ("method", "problem")}
        runs, methods, problems = (f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())
        budget = "used its budget" if (self.rows["status"] == Status.BUDGET).sum() == 1 else "used their budget"
        endings = self.rows["status"].replace(_ENDINGS | {Status.BUDGET: budget}).value_counts()
        ended = ", ".join(f"{n} {text}" for text, n in endings.items())
        return f"<Runs: {runs} of {methods} on {problems}: {ended}{missing}>"

    def _repr_html_(self) -> str:
        """Summary for notebooks: one line for each problem and method, at its best settings."""
        return str(sys.modules["optbench"].html_summary(self))  # this package must not import `reports`

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row for each run: the scalar columns of `COLUMNS`, the gaps, and one column for each hyperparameter."""
        import pandas as pd

        table = self.rows[["problem", "method", *schema.SCALARS]]
        gaps = {f"gap_{name}": table[f"f_{name}"] - table["f_star"] for name in ("start", "end", "best")}
        settings = pd.DataFrame([json.loads(text) for text in table["settings"]], index=table.index)
        further = settings[[name for name in settings.columns if name not in {*table.columns, *gaps}]]
        return pd.concat([table, pd.DataFrame(gaps, index=table.index), further], axis=1)

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """One row for each run and checkpoint.

        The columns are those that identify the run (`key`, `problem`, `method`, `optimizer`, `fixed`, `settings`,
        `schedule`, `batch_size`, `step_size`, `seed`), `t` (steps taken), `calls` (oracle calls), `f`, `best`, `gap` and
        `best_gap` (f - f* and best - f*; null if no optimum is known), `gradient_norm`, and the metrics of the problem.
        """
        import pandas as pd

        names = ["key", "problem", "method", "optimizer", "fixed", "settings", "schedule", "batch_size", "step_size"]
        names.append("seed")
        rows = self.rows.reset_index(drop=True)
        lengths = rows["t"].map(len).to_numpy(dtype=int)
        row_of_point = np.repeat(np.arange(len(rows)), lengths)
        metrics = [dict(pairs) for pairs in rows["metrics"]]
        missing = [np.full(n, np.nan) for n in lengths]
        columns = {name: rows[name] for name in ("t", "checkpoint_calls", "f", "best", "gradient_norm")}
        for name in sorted({name for values in metrics for name in values}):
            columns[name] = [values.get(name, gap) for values, gap in zip(metrics, missing, strict=True)]
        arrays = {name: np.concatenate([np.empty(0), *parts]) for name, parts in columns.items()}
        f_star = rows["f_star"].to_numpy(dtype=float)[row_of_point]
        head = {"t": arrays.pop("t").astype(int), "calls": arrays.pop("checkpoint_calls"), "f": arrays.pop("f")}
        head |= {"best": arrays.pop("best"), "gap": head["f"] - f_star}
        head["best_gap"] = head["best"] - f_star
        curves = rows[names].take(row_of_point).reset_index(drop=True)
        return pd.concat([curves, pd.DataFrame(head | arrays, index=curves.index)], axis=1)
