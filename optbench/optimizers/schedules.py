"""Learning-rate schedules: functions `(t, T) -> factor` of the learning rate, and warm-up.

`t` is the number of steps taken (0 for the first step) and `T` the number of all steps. The factor of the first step is 1
without warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optbench.core.errors import InputError
from optbench.core.registry import SCHEDULES, Traits
from optbench.core.specs import (
    NONNEGATIVE,
    POSITIVE,
    Interval,
    Parameter,
    coerce_all,
    format_spec,
    parameters,
    parse_spec,
)

Schedule = Callable[[int, int], float]
FACTORS = Interval(0, 1e6)
F = TypeVar("F", bound=Callable[..., float])


def schedule(**ranges: Interval) -> Callable[[F], F]:
    """Register a schedule under its own name, with the ranges of its parameters, and return it unchanged."""

    def register(function: F) -> F:
        SCHEDULES.register(function.__name__, function, Traits(ranges=ranges))
        return function

    return register


@schedule()
def constant(t: int, T: int) -> float:
    """The factor 1."""
    return 1.0


@schedule(at=Interval(0, 1, closed="neither"), factor=FACTORS)
def drops(t: int, T: int, at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Multiplied by `factor` at each of the fractions `at` of all steps."""
    return math.prod(factor for fraction in at if t >= fraction * T)


@schedule(final=FACTORS)
def cosine(t: int, T: int, final: float = 0.0) -> float:
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017, equation 5, without restarts)."""
    return final + (1 - final) * (1 + math.cos(math.pi * t / T)) / 2


@schedule(final=FACTORS)
def linear(t: int, T: int, final: float = 0.0) -> float:
    """A straight line from 1 to `final`."""
    return 1 + (final - 1) * t / T


@schedule(shift=POSITIVE)
def inverse_sqrt(t: int, T: int, shift: float = 1.0) -> float:
    """sqrt(shift / (shift + t)): the decay 1/sqrt(t) of stochastic approximation, slowed down by `shift` steps."""
    return math.sqrt(shift / (shift + t))


@schedule(final=Interval(0, FACTORS.high, closed="right"))
def exponential(t: int, T: int, final: float = 0.01) -> float:
    """final^(t/T): a constant ratio from step to step, from 1 to `final`."""
    return math.pow(final, t / T)


def warm_up(after: Schedule, length: float) -> Schedule:
    """Linear warm-up, then `after` over the remaining steps.

    Parameters
    ----------
    length : float
        Number W of steps, or, below 1, the fraction of all steps. Step t gets the factor (t + 1) / W.
    """

    def schedule_with_warm_up(t: int, T: int) -> float:
        steps = min(T - 1, round(length * T) if length < 1 else int(length))
        return (t + 1) / steps if t < steps else after(t - steps, T - steps)

    return schedule_with_warm_up if length > 0 else after


def schedule_parameters(name: str) -> dict[str, Parameter]:
    """The declared parameters of a registered schedule, and `warmup` and `warmup_steps`, which all schedules have."""
    declared, ranges = parameters(SCHEDULES[name]), SCHEDULES.traits(name).ranges
    kinds = {key: tuple[float, ...] if isinstance(p.default, tuple) else p.type for key, p in declared.items()}
    own = {key: Parameter(key, kinds[key], p.default, ranges.get(key)) for key, p in declared.items()}
    warmup = Parameter("warmup", float, 0.0, Interval(0, 1, closed="left"))
    return {**own, "warmup": warmup, "warmup_steps": Parameter("warmup_steps", int, 0, NONNEGATIVE)}


def make_schedule(spec: str) -> tuple[str, Schedule]:
    """The canonical spec and the function of a spec such as ``"cosine:final=0.1,warmup=0.05"``.

    Raises
    ------
    InputError
        If there is no such schedule or parameter, or a value is impossible.
    """
    name, texts = parse_spec(spec)
    function = SCHEDULES[name]
    settings = coerce_all(f"schedule {name!r}", schedule_parameters(name), texts)
    canonical_spec = format_spec(name, settings)
    fraction, steps = settings.pop("warmup", 0.0), settings.pop("warmup_steps", 0)
    if fraction and steps:
        raise InputError(f"{spec!r} has two lengths of the warm-up; give either warmup or warmup_steps")

    def plain(t: int, T: int, **more: Any) -> float:
        return float(function(t, T, **settings))

    return canonical_spec, warm_up(plain, fraction or steps)
