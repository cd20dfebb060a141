"""Which problems and targets can be judged.

No method is judged on a problem that contradicts itself, or whose rows state different optimal values: there the optimum
counts as unknown. A target that the precision or the stated interval of the optimum cannot resolve counts as neither
reached nor missed, for any method.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from optbench.core.trace import TARGETS
from optbench.core.types import Status
from optbench.results.runs import Runs

EPS = {name: float(np.finfo(name).eps) for name in ("float64", "float32")}


@dataclass(frozen=True)
class Unjudged:
    """A problem whose stated optimum cannot be used.

    Attributes
    ----------
    problem : str
    runs : int
        Number of runs that contradict it; 0 if rows state different optima, or no target can be resolved.
    why : str
        A sentence that continues the name of the problem, without a full stop.
    reason : str
        The first message of a run that contradicts it, else empty.
    """

    problem: str
    runs: int
    why: str
    reason: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether something must be corrected or computed again."""
        return self.runs > 0 or "different" in self.why


class JudgedRuns(Runs):
    """Runs without optima and targets that cannot be used, see `judged`.

    Attributes
    ----------
    unjudged : dict of str to Unjudged
        Problems whose optimum counts as unknown.
    resolved : dict of str to array of bool, shape (50,)
        Which targets count, for problems on which some do not.
    """

    unjudged: dict[str, Unjudged]
    resolved: dict[str, np.ndarray]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.rows, self.environments, self.missing, self.unjudged, self.resolved)


def _rebuild(
    rows: pd.DataFrame,
    environments: list[dict[str, str]],
    missing: int,
    unjudged: dict[str, Unjudged],
    resolved: dict[str, np.ndarray],
) -> JudgedRuns:
    runs = JudgedRuns(rows, environments, missing=missing)
    runs.unjudged, runs.resolved = unjudged, resolved
    return runs


_judged: weakref.WeakKeyDictionary[Runs, JudgedRuns] = weakref.WeakKeyDictionary()


def judged(runs: Runs) -> JudgedRuns:
    """The runs, with null instead of optima and targets that cannot be used; the same object for `JudgedRuns`."""
    if isinstance(runs, JudgedRuns):
        return runs
    if runs not in _judged:
        _judged[runs] = _judge(runs)
    return _judged[runs]


def _judge(runs: Runs) -> JudgedRuns:
    rows = runs.rows
    unjudged = {entry.problem: entry for entry in [*_contradictions(rows), *_mixed(rows)][::-1]}
    calls = calls_to_target(rows)  # (R, 50)
    problem, names = pd.factorize(rows["problem"])
    known = rows["f_star"].notna().to_numpy()
    unresolved = np.zeros((len(names), len(TARGETS)), dtype=bool)
    places = np.nonzero(np.isnan(calls) & known[:, None])
    unresolved[problem[places[0]], places[1]] = True
    for p in np.flatnonzero(unresolved.all(axis=1)):
        why = "has no target that its precision and its stated optimum can resolve"
        unjudged.setdefault(str(names[p]), Unjudged(str(names[p]), 0, why))
    resolved = {str(names[p]): ~unresolved[p] for p in np.flatnonzero(unresolved.any(axis=1))}
    if unjudged or resolved:
        without = rows["problem"].isin(set(unjudged)).to_numpy()
        calls[unresolved[problem] | without[:, None]] = np.nan
        rows = rows.assign(calls_to_target=list(calls), f_star=rows["f_star"].mask(without))
    resolved = {name: counts for name, counts in resolved.items() if name not in unjudged}
    return _rebuild(rows, runs.environments, runs.missing, dict(sorted(unjudged.items())), resolved)


def calls_to_target(rows: pd.DataFrame) -> np.ndarray:
    """Oracle calls to each target, shape (R, 50); inf for missed targets, NaN for targets that do not count.

    None counts if no optimum is known. A run without values has missed all.
    """
    calls = np.full((len(rows), len(TARGETS)), np.inf)
    ran = rows["f_start"].notna().to_numpy() & (rows["status"] != Status.FAILED).to_numpy()
    calls[rows["f_star"].isna().to_numpy()] = np.nan
    for row, known, has_values in zip(calls, rows["calls_to_target"], ran, strict=True):
        if known is not None:
            row[:] = known
        elif has_values:
            row[:] = np.nan
    return calls


def rounding(rows: pd.DataFrame) -> pd.Series[float]:
    """How far below the stated optimal value the rounding errors of each run can take its objective."""
    f_star = rows["f_star"].astype(float)
    floor = rows["f_star_lower"].astype(float).fillna(f_star)
    # values are sums of numbers as large as those at the start
    scale = np.maximum(1.0, np.fmax(floor.abs(), rows["f_start"].astype(float).abs()))
    return f_star - floor + 64 * rows["precision"].map(EPS).fillna(0.0).astype(float) * scale


def _contradictions(rows: pd.DataFrame) -> list[Unjudged]:
    """Problems with invalid runs, or runs that fell below the lower bound of the optimum by more than rounding."""
    gap = rows["f_best"].astype(float) - rows["f_star"].astype(float)
    below = gap < -rounding(rows)
    wrong = rows[(rows["status"] == Status.INVALID) | below]
    found = []
    for problem, part in wrong.groupby("problem", sort=True):
        errors = part["error"].dropna()
        reason = str(errors.iloc[0]) if len(errors) else (
            f"the value {part['f_best'].min():.12g} is below the stated optimal value {part['f_star'].min():.12g}"
        )  # fmt: skip
        count = f"{len(part)} run{'' if len(part) == 1 else 's'}"
        found.append(Unjudged(str(problem), len(part), f"contradicts itself in {count}", reason))
    return found


def _mixed(rows: pd.DataFrame) -> list[Unjudged]:
    """Problems whose rows state optima that exclude each other, or of which only some state one."""
    found = []
    ran = rows[rows["status"] != Status.FAILED]
    ran = ran[ran["f_star"].notna().groupby(ran["problem"]).transform("any").astype(bool)]
    for problem, part in ran.groupby("problem", sort=True):
        f = part["f_star"].astype(float)
        lower = part["f_star_lower"].astype(float).fillna(f)
        scale = max(float(f.abs().max()), float(part["f_start"].astype(float).abs().max()))
        if f.isna().any() or lower.max() - f.min() > 64 * EPS["float64"] * scale:
            stated = sorted(f"{value:.12g}" for value in set(f.dropna())) + ["none"] * bool(f.isna().any())
            why = f"has rows with different optimal values, {' and '.join(stated[:3])}, of different code"
            found.append(Unjudged(str(problem), 0, why))
    return found
