"""Options of sweeps and studies, each declared once: its name, type, default, check and help.

The command line makes its arguments from these declarations; TOML files and the keywords of Python calls are checked
against them. So all three have the same names and the same defaults.
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

from optbench.core.errors import InputError
from optbench.core.specs import check_names

MAX_INTEGER = 2**63 - 1  # the largest that a column of a table holds
MAX_RATES = 10_000  # of a range; more than that is a slip

F = TypeVar("F", bound=Callable[..., Any])


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) <= MAX_INTEGER


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _one_or_more(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        return is_valid(value) or (isinstance(value, tuple) and len(value) > 0 and all(map(is_valid, value)))

    return check


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
        if isinstance(value, Mapping):
            rates = _rates_of_range(value)
        else:
            items = list(value) if isinstance(value, Iterable) else [value]
            if any(isinstance(item, bool) for item in items):
                raise TypeError
            rates = [float(item) for item in items]
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError):
        raise InputError(
            f"lr must be a number, a list, low:high:count or {{low, high, per_decade}}, not {value!r}"
        ) from None
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise InputError(f"learning rates must be positive numbers, not {value!r}")
    return tuple(rates)


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


def _option(default: Any, is_valid: Callable[[Any], bool], expected: str, help_text: str, metavar: str = "N") -> Any:
    metadata = {"is_valid": is_valid, "expected": expected, "help": help_text, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of a sweep. An option that is None has not been given.

    Raises
    ------
    InputError
        If a value is not of its kind, or two options contradict each other.
    """

    seeds: int | Iterable[int] = _option(
        5, _one_or_more(_is_integer), "a number of seeds or a list of them", "how many seeds (0, 1, ...), or which"
    )
    steps: int | None = _option(
        None, _is_integer, "a whole number", "steps of every run; 1000 if neither steps nor calls are given"
    )
    calls: float | None = _option(
        None,
        lambda value: _is_number(value) and value > 0,
        "above 0",
        "oracle calls of every run instead of steps; a mini-batch of b out of n samples counts b/n",
    )
    batch_size: int | Iterable[int] | None = _option(
        None,
        _one_or_more(lambda value: value is None or _is_integer(value)),
        "a whole number or a list of them",
        "samples in a mini-batch, or several sizes; all samples by default",
        "B",
    )
    linear_scaling: bool = _option(
        False,
        _is_boolean,
        "true or false",
        "multiply the learning rate by N for a batch N times as large as the first (Goyal et al. 2017)",
    )
    schedule: str | Iterable[str] = _option(
        "constant",
        _one_or_more(lambda value: isinstance(value, str)),
        "a schedule such as 'cosine:warmup=0.05' or a list of them",
        "learning-rate schedule such as cosine:warmup=0.05, or several; optimizers without a learning rate ignore it",
        "SPEC",
    )
    stop_at_target: bool = _option(
        False,
        _is_boolean,
        "true or false",
        "end a run once it reaches the last target, 1e-10 of its initial gap",
    )
    stop_at_gradient: float | None = _option(
        None,
        lambda value: _is_number(value) and value >= 0,
        "a number of at least 0",
        "end a run once the norm of its gradient is at most this",
        "NORM",
    )
    checkpoint_count: int = _option(
        100,
        lambda value: _is_integer(value) and value >= 2,
        "a whole number of at least 2",
        "about how many iterates of a run are recorded, log-spaced; every iterate if this exceeds the steps",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            if not (value is None and field.default is None) and not field.metadata["is_valid"](value):
                raise InputError(f"{field.name} must be {field.metadata['expected']}, not {value!r}")
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
        sizes = self.batch_size if isinstance(self.batch_size, tuple) else (self.batch_size,)
        return tuple(None if size is None else int(size) for size in sizes)

    @property
    def schedules(self) -> tuple[str, ...]:
        """Specs of the schedules."""
        return (self.schedule,) if isinstance(self.schedule, str) else tuple(self.schedule)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SweepOptions):
    """Options of a comparison: those of its sweeps, the learning rates and the precision."""

    lr: Any = _option(  # noqa: RUF009
        "1e-4:10:16",
        lambda value: len(learning_rates(value)) > 0,
        "",
        "step sizes for optimizers that do not fix theirs: 0.1, or 1e-3,1e-2, or low:high:count, log-spaced; "
        "for random search its scale",
        "RATES",
    )
    precision: str | None = _option(
        None,
        lambda value: value in ("float64", "float32"),
        "float64 or float32",
        "float64 or float32; by default that of the problem, float64 for a spec",
        "TYPE",
    )

    @property
    def sweep_options(self) -> dict[str, Any]:
        """The options of its sweeps, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(SweepOptions)}


def names_of(options: type[SweepOptions]) -> list[str]:
    """Names of the options of a class."""
    return [field.name for field in dataclasses.fields(options)]


def with_options(options: type[SweepOptions]) -> Callable[[F], F]:
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
        own = signature.parameters.values()
        rest = [p for p in own if p.kind is inspect.Parameter.VAR_KEYWORD and p.name != "options"]
        named = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*named, *keywords, *rest])  # type: ignore[attr-defined]
        described = [f"{f.name} : {f.type}, default {f.default!r}\n        {f.metadata['help']}" for f in fields]
        function.__doc__ = (function.__doc__ or "").replace("{options}", "\n    ".join(described))
        return function

    return document
