"""Options of sweeps, studies and races, each declared once: its name, type, default, check and help text.

The command line is generated from these declarations. TOML files and keywords of Python calls are checked against them.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from optbench.core.backend import PRECISIONS
from optbench.core.errors import InputError, shown
from optbench.core.specs import MAX_INTEGER, as_list, check_names

MAX_RATES = 10_000  # more are a typing error
MAX_SEEDS = 1_000_000
MAX_ROUNDS = 100_000
MIN_ROUNDS = 3  # fewer give no interval

F = TypeVar("F", bound=Callable[..., Any])


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) <= MAX_INTEGER


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that is no float
        return False


def _one_or_more(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: is_valid(value) or (isinstance(value, tuple) and bool(value) and all(map(is_valid, value)))


def learning_rates(value: Any) -> tuple[float, ...]:
    """Learning rates from a number, a list, or a log-spaced range ``{low, high, per_decade}`` or ``{low, high, count}``.

    Text may be ``"0.01"``, ``"1e-3,1e-2"`` or ``"1e-4:1:13"`` (low:high:count).

    Raises
    ------
    InputError
        If a rate is not a positive number.
    """
    given = value
    try:
        if isinstance(value, str) and ":" in value:
            value = dict(zip(("low", "high", "count"), map(float, value.split(":", 2)), strict=True))
        elif isinstance(value, str):
            value = value.split(",")
        items = _rates_of_range(value) if isinstance(value, Mapping) else as_list(value)
        if any(isinstance(item, bool) for item in items):
            raise TypeError
        if len(items) > MAX_RATES:
            raise InputError(f"lr must be at most {MAX_RATES} learning rates, not {len(items)}")
        rates = tuple(map(float, items))
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, OverflowError):
        raise InputError(
            f"lr must be a number, a list, low:high:count or {{low, high, per_decade}}, not {shown(given)}"
        ) from None
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise InputError(f"learning rates must be positive numbers, not {shown(given)}")
    return rates


def _numbers(text: str) -> Any:
    """The number in a text; a tuple if there is a comma, as in ``0,4`` or ``3,``; the text itself if it is no number."""
    parts = tuple(map(_number, text.removesuffix(",").split(",")))
    if any(isinstance(part, str) for part in parts):
        return text
    return parts if "," in text else parts[0]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _rates_of_range(value: Mapping[str, Any]) -> list[float]:
    check_names("lr", ["low", "high", "per_decade", "count"], value)
    low, high = float(value["low"]), float(value["high"])
    if not 0 < low <= high < math.inf:
        raise InputError(f"a range of learning rates needs 0 < low <= high, not {shown(value)}")
    if not value.get("per_decade", 1) > 0:
        raise InputError(f"per_decade must be above 0, not {shown(value['per_decade'])}")
    by_decade = round(math.log10(high / low) * value.get("per_decade", 3)) + 1
    count = int(value.get("count", by_decade))
    if not 1 <= count <= MAX_RATES or count != value.get("count", count):
        raise InputError(f"the count of a range must be a whole number from 1 to {MAX_RATES}, not {shown(value)}")
    # rounded to 12 digits, so that a grid is the same on every machine
    return [float(f"{rate:.12g}") for rate in np.geomspace(low, high, count)]


# kinds of values: a description for messages, and a check
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
    """Options of a call. Each field declares a kind and a help text; None means not given. Numbers may be text.

    Raises
    ------
    InputError
        If a value is not of its kind, or two options contradict each other.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and ("int" in str(field.type) or "float" in str(field.type)):
                value = _numbers(value)
            elif isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                value = tuple(itertools.islice(value, MAX_SEEDS + 1))
            object.__setattr__(self, field.name, value)
            expected, is_valid = field.metadata["kind"]
            if not (value is None and field.default is None) and not is_valid(value):
                raise InputError(f"{field.name} must be {expected}, not {shown(value)}")


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Options of a sweep."""

    seeds: int | Iterable[int] = _option(
        5, _SEEDS, "number of seeds (0, 1, ...), or a list: '0,4' or '3,' (only seed 3)"
    )
    steps: int | None = _option(None, _WHOLE, "steps of every run (1000 unless calls is given)")
    calls: float | None = _option(
        None, _POSITIVE, "oracle calls of every run, instead of steps; a mini-batch of b out of n samples counts b/n"
    )
    batch_size: int | Iterable[int] | None = _option(
        None, _SIZES, "samples in a mini-batch, or a list (default: all)", "B"
    )
    linear_scaling: bool = _option(
        False, _BOOLEAN, "multiply the learning rate by k for batches k times the first size (Goyal et al. 2017)"
    )
    schedule: str | Iterable[str] = _option(
        "constant",
        _SCHEDULES,
        "learning-rate schedule such as cosine:warmup=0.05; ignored by optimizers without a learning rate",
        "SPEC",
    )
    stop_at_target: bool = _option(False, _BOOLEAN, "end a run at the last target, 1e-10 of its initial gap")
    stop_at_gradient: float | None = _option(
        None, _NONNEGATIVE, "end a run when its gradient norm is at most this", "NORM"
    )
    checkpoint_count: int = _option(
        100,
        ("a whole number of at least 2", lambda value: _is_integer(value) and value >= 2),
        "approximate number of recorded iterates, log-spaced; all of them if it exceeds the steps",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.calls is not None:
            raise InputError("give either steps or calls, not both")
        count = len(self.seeds) if isinstance(self.seeds, tuple) else int(str(self.seeds))
        if not 1 <= count <= MAX_SEEDS:
            raise InputError(f"seeds must be at least 1 and at most {MAX_SEEDS}, not {shown(self.seeds)}")
        if min(self.seed_numbers) < 0 or len(set(self.seed_numbers)) < len(self.seed_numbers):
            raise InputError(f"seeds must be different whole numbers of at least 0, not {shown(self.seeds)}")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds; a number n stands for 0 to n - 1."""
        return tuple(map(int, self.seeds if isinstance(self.seeds, Iterable) else range(self.seeds)))

    @property
    def batch_sizes(self) -> tuple[int | None, ...]:
        """Batch sizes; None stands for all samples."""
        return tuple(None if size is None else int(size) for size in as_list(self.batch_size))


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SweepOptions):
    """Options of a comparison: those of a sweep, learning rates and precision."""

    lr: Any = _option(  # noqa: RUF009
        "1e-4:10:16",
        ("", lambda value: len(learning_rates(value)) > 0),
        "learning rates to try: 0.1, or 1e-3,1e-2, or low:high:count (log-spaced); scales for random search; "
        "an lr in the spec of an optimizer takes precedence",
        "RATES",
    )
    precision: str | None = _option(
        None, _PRECISION, "float64 or float32 (default: that of the problem, float64 for a spec)", "TYPE"
    )

    @property
    def sweep_options(self) -> dict[str, Any]:
        """The options of each sweep, by name."""
        return {name: getattr(self, name) for name in names_of(SweepOptions)}


@dataclass(frozen=True, kw_only=True)
class RaceOptions(Options):
    """Options of a race."""

    rounds: int = _option(10, _WHOLE, "timed runs of every configuration, at least 3")
    steps: int = _option(500, _WHOLE, "steps of every run")
    batch_size: int | None = _option(None, _WHOLE, "samples in a mini-batch (default: all samples)", "B")
    schedule: str = _option(
        "constant", _SCHEDULE, "learning-rate schedule; ignored by optimizers without a learning rate", "SPEC"
    )
    precision: str | None = _option(None, _PRECISION, "float64 or float32 (default float64)", "TYPE")
    fused: bool = _option(True, _BOOLEAN, "compile update rules")
    seed: int = _option(0, _WHOLE, "seed of the first round; each later round adds 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not MIN_ROUNDS <= self.rounds <= MAX_ROUNDS:
            raise InputError(
                f"a race needs at least {MIN_ROUNDS} rounds for its intervals, not {self.rounds}, and at most {MAX_ROUNDS}"
            )
        if not 0 <= self.seed <= 2**62:
            raise InputError(f"seed must be from 0 to 2^62, not {self.seed}")


def names_of(options: type[Options]) -> list[str]:
    """Names of the options that a class declares."""
    return [field.name for field in dataclasses.fields(options)]


def with_options(options: type[Options]) -> Callable[[F], F]:
    """Decorator: add these options to the signature of a function that takes ``**options``.

    Their descriptions replace ``{options}`` in its docstring.
    """

    def document(function: F) -> F:
        signature = inspect.signature(function)
        fields = dataclasses.fields(options)
        keywords = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields
        ]
        others = [p for p in signature.parameters.values() if p.name != "options"]
        ordered = sorted([*others, *keywords], key=lambda p: p.kind)
        function.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
        described = [f"{f.name} : {f.type}, default {f.default!r}\n        {f.metadata['help']}" for f in fields]
        function.__doc__ = (function.__doc__ or "").replace("{options}", "\n    ".join(described))
        return function

    return document
