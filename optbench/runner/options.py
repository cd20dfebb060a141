"""Options of sweeps, studies and races, each declared once: its name, type, default, check and help.

Arguments of commands are made from these declarations; TOML files and keywords of Python calls are checked against them.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from optbench.core.backend import PRECISIONS
from optbench.core.errors import InputError
from optbench.core.specs import check_names

MAX_INTEGER = 2**63 - 1  # the largest that a column of a table holds
MAX_RATES = 10_000  # of a range; more than that is a slip
LEAST_ROUNDS = 3  # fewer say nothing about the scatter of the timings

F = TypeVar("F", bound=Callable[..., Any])


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) <= MAX_INTEGER


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _one_or_more(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: is_valid(value) or (isinstance(value, tuple) and bool(value) and all(map(is_valid, value)))


def learning_rates(value: Any) -> tuple[float, ...]:
    """Learning rates from a number, a list, or a range ``{low, high, per_decade}`` or ``{low, high, count}``.

    As text: ``"0.01"``, ``"1e-3,1e-2"`` or ``"1e-4:1:13"`` (low, high and how many, log-spaced).

    Raises
    ------
    InputError
        If a rate is not a positive number.
    """
    try:
        if isinstance(value, str) and ":" in value:
            value = dict(zip(("low", "high", "count"), map(float, value.split(":", 2)), strict=True))
        elif isinstance(value, str):
            value = value.split(",")
        items = _rates_of_range(value) if isinstance(value, Mapping) else as_tuple(value)
        if any(isinstance(item, bool) for item in items):
            raise TypeError
        rates = tuple(map(float, items))
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError):
        raise InputError(
            f"lr must be a number, a list, low:high:count or {{low, high, per_decade}}, not {value!r}"
        ) from None
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise InputError(f"learning rates must be positive numbers, not {value!r}")
    return rates


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Several things, or the one that it is."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _rates_of_range(value: Mapping[str, Any]) -> list[float]:
    check_names("lr", ["low", "high", "per_decade", "count"], value)
    low, high = float(value["low"]), float(value["high"])
    if not 0 < low <= high < math.inf:
        raise InputError(f"learning rates go from a low positive number to a higher one, not {value!r}")
    if not value.get("per_decade", 1) > 0:
        raise InputError(f"per_decade must be above 0, not {value['per_decade']!r}")
    by_decade = round(math.log10(high / low) * value.get("per_decade", 3)) + 1
    count = int(value.get("count", by_decade))
    if not 1 <= count <= MAX_RATES or count != value.get("count", count):
        raise InputError(f"a range has a whole number of learning rates, 1 to {MAX_RATES}, not {value!r}")
    # rounded to 12 digits, so that a grid is the same numbers on every machine
    return [float(f"{rate:.12g}") for rate in np.geomspace(low, high, count)]


# what a value must be, and whether it is
_WHOLE = "a whole number", _is_integer
_SEEDS = "a number of seeds or a list of them", _one_or_more(_is_integer)
_SIZES = "a whole number or a list of them", _one_or_more(lambda value: value is None or _is_integer(value))
_POSITIVE = "above 0", lambda value: _is_number(value) and value > 0
_NONNEGATIVE = "a number of at least 0", lambda value: _is_number(value) and value >= 0
_SCHEDULE = "a schedule such as 'cosine:warmup=0.05'", lambda value: isinstance(value, str)
_SCHEDULES = f"{_SCHEDULE[0]} or a list of them", _one_or_more(_SCHEDULE[1])
_BOOLEAN = "true or false", lambda value: isinstance(value, bool)
_PRECISION = "float64 or float32", PRECISIONS.__contains__


def _option(default: Any, kind: tuple[str, Callable[[Any], bool]], help_text: str, metavar: str = "N") -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help_text, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a call, each a field that declares its kind and its help. None has not been given.

    Raises
    ------
    InputError
        If a value is not of its kind, or two options contradict each other.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            expected, is_valid = field.metadata["kind"]
            if not (value is None and field.default is None) and not is_valid(value):
                raise InputError(f"{field.name} must be {expected}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Options of a sweep."""

    seeds: int | Iterable[int] = _option(5, _SEEDS, "how many seeds (0, 1, ...), or which")
    steps: int | None = _option(None, _WHOLE, "steps of every run; 1000 if neither steps nor calls are given")
    calls: float | None = _option(
        None, _POSITIVE, "oracle calls of every run instead of steps; a mini-batch of b out of n samples counts b/n"
    )
    batch_size: int | Iterable[int] | None = _option(
        None, _SIZES, "samples in a mini-batch, or several sizes; all samples by default", "B"
    )
    linear_scaling: bool = _option(
        False, _BOOLEAN, "multiply the learning rate by N for a batch N times as large as the first (Goyal et al. 2017)"
    )
    schedule: str | Iterable[str] = _option(
        "constant",
        _SCHEDULES,
        "learning-rate schedule such as cosine:warmup=0.05, or several; optimizers without a learning rate ignore it",
        "SPEC",
    )
    stop_at_target: bool = _option(
        False, _BOOLEAN, "end a run once it reaches the last target, 1e-10 of its initial gap"
    )
    stop_at_gradient: float | None = _option(
        None, _NONNEGATIVE, "end a run once the norm of its gradient is at most this", "NORM"
    )
    checkpoint_count: int = _option(
        100,
        ("a whole number of at least 2", lambda value: _is_integer(value) and value >= 2),
        "about how many iterates of a run are recorded, log-spaced; every iterate if this exceeds the steps",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.calls is not None:
            raise InputError("a budget is either steps or calls; give one of them")
        if _is_integer(self.seeds) and not self.seed_numbers:
            raise InputError(f"seeds must be at least 1, not {self.seeds!r}")
        if min(self.seed_numbers) < 0 or len(set(self.seed_numbers)) < len(self.seed_numbers):
            raise InputError(f"seeds must be different whole numbers of at least 0, not {self.seeds!r}")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """Which seeds."""
        return tuple(map(int, self.seeds if isinstance(self.seeds, Iterable) else range(self.seeds)))

    @property
    def batch_sizes(self) -> tuple[int | None, ...]:
        """Batch sizes; None is the full objective."""
        return tuple(None if size is None else int(size) for size in as_tuple(self.batch_size))


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SweepOptions):
    """Options of a comparison: those of its sweeps, the learning rates and the precision."""

    lr: Any = _option(  # noqa: RUF009
        "1e-4:10:16",
        ("", lambda value: len(learning_rates(value)) > 0),
        "step sizes for optimizers that do not fix theirs: 0.1, or 1e-3,1e-2, or low:high:count, log-spaced; "
        "for random search its scale",
        "RATES",
    )
    precision: str | None = _option(
        None, _PRECISION, "float64 or float32; by default that of the problem, float64 for a spec", "TYPE"
    )

    @property
    def sweep_options(self) -> dict[str, Any]:
        """The options of its sweeps, by name."""
        return {name: getattr(self, name) for name in names_of(SweepOptions)}


@dataclass(frozen=True, kw_only=True)
class RaceOptions(Options):
    """Options of a race."""

    rounds: int = _option(10, _WHOLE, "runs of every configuration, at least 3")
    steps: int = _option(500, _WHOLE, "steps of every run")
    batch_size: int | None = _option(None, _WHOLE, "samples in a mini-batch (default: all samples)", "B")
    schedule: str = _option(
        "constant", _SCHEDULE, "learning-rate schedule of the optimizers that have a learning rate", "SPEC"
    )
    precision: str | None = _option(None, _PRECISION, "float64 or float32 (default float64)", "TYPE")
    fused: bool = _option(True, _BOOLEAN, "run update rules compiled")
    seed: int = _option(0, _WHOLE, "seed of the first round; the next has the next")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < LEAST_ROUNDS:
            raise InputError(f"a race has at least {LEAST_ROUNDS} rounds, not {self.rounds}: fewer give no interval")
        if not 0 <= self.seed <= 2**62:
            raise InputError(f"seed must be at least 0 and at most 2^62, not {self.seed}")


def names_of(options: type[Options]) -> list[str]:
    """Names of the options of a class."""
    return [field.name for field in dataclasses.fields(options)]


def with_options(options: type[Options]) -> Callable[[F], F]:
    """Give a function that takes ``**options`` the signature and the parameter descriptions of these options.

    Its docstring says ``{options}`` where they are to be described.
    """

    def document(function: F) -> F:
        signature = inspect.signature(function)
        fields = dataclasses.fields(options)
        keywords = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields
        ]
        own = [p for p in signature.parameters.values() if p.name != "options"]
        ordered = sorted([*own, *keywords], key=lambda p: p.kind)
        function.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
        described = [f"{f.name} : {f.type}, default {f.default!r}\n        {f.metadata['help']}" for f in fields]
        function.__doc__ = (function.__doc__ or "").replace("{options}", "\n    ".join(described))
        return function

    return document
