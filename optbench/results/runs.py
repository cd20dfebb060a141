"""Results as rows and tidy tables. Everything after the loop is a function from table to table.

A row is what is stored of one run: scalars, and its curve as lists. `Runs` holds rows and gives two tables: `table`, one
row a run, and `curves`, one row a run and checkpoint. `COLUMNS` is the one place that fixes the columns of a row.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from optbench.core.errors import InputError
from optbench.core.trace import TARGETS
from optbench.results.schema import COLUMNS, SCALARS, arrow_of, frame_of

if TYPE_CHECKING:
    import pandas as pd


def finite_or_none(value: Any) -> float | None:
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
            "f_start": finite_or_none(f[0]),
            "f_end": finite_or_none(f[finite][-1]) if finite.any() else None,
            "f_best": finite_or_none(np.nanmin(best)) if np.isfinite(best).any() else None,
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
