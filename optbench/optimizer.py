"""The protocol between the loop and an optimizer, and `FirstOrder`, which makes an optimizer of an update rule.

No optimizer calls the objective (reverse communication): the loop evaluates the point that the optimizer requests and
passes the answer to `step`, which returns the next point. All R runs of a stack take the step together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np

from optbench.core.backend import Array, Backend
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS
from optbench.core.specs import Parameter, check_names, coerce, format_spec, parameters, state_names
from optbench.core.types import Oracle


class At(NamedTuple):
    """The answer of the oracle at the requested point. Row r belongs to run r.

    Attributes
    ----------
    x : array of shape (R, d)
    f : array of shape (R, 1)
    g : array of shape (R, d), or None for methods that use values only
    hessian : array of shape (R, d, d), or None unless the optimizer's `oracle` is `Oracle.HESSIAN`
    z : array of shape (R, d), or None unless `draws` is set: standard normal numbers for this step
    """

    x: Array
    f: Array
    g: Any = None  # not Array | None: an optimizer gets what its `oracle` asks for, and needs no check
    hessian: Any = None
    z: Array | None = None


class Optimizer:
    """Base of all optimizers.

    Attributes
    ----------
    oracle : Oracle
        What it needs to know at a point.
    full_batch : bool
        Whether it compares values of different points, so that a mini-batch would mislead it.
    incumbent : bool
        Whether points are proposals that may be rejected, so that the iterate is the best point so far.
    draws : bool
        Whether it needs random numbers.
    step_size : str or None
        Name of the hyperparameter that a sweep tunes first (``"lr"``, ``"scale"``); None where there is none to tune.
    sweepable : tuple of str
        Names of the hyperparameters that may differ from run to run within one stack, as sequences of length R.
    matrices : int
        Number of d x d matrices that a step keeps in flight for each run.
    max_dim : int or None
        Largest d at which those are reasonable.
    """

    name: str = ""
    oracle: ClassVar[Oracle] = Oracle.GRADIENT
    full_batch: bool = False
    incumbent: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    step_size: str | None = None
    sweepable: ClassVar[tuple[str, ...]] = ()
    matrices: ClassVar[int] = 0
    max_dim: ClassVar[int | None] = None

    def init(self, x: Array, backend: Backend) -> Any:
        """State before the first step; x of shape (R, d)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement init()")

    def step(self, t: int, at: At, state: Any) -> tuple[Array, Any]:
        """Next point (R, d) and state after the answer `at` to step t, counted from 1.

        The arrays of `at` and `state` may be overwritten.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement step()")


class FirstOrder(Optimizer):
    """The optimizer that a rule makes: state starts at zero, hyperparameters are numbers or columns (R, 1).

    Parameters
    ----------
    rule : callable
        An update rule, see `optimizers.gradient`.
    hyperparameters : mapping
        Values by name; a sequence of length R holds one value per run.
    factor : callable, optional
        Factor on the learning rate by the number of steps already taken.
    fused : bool
        Whether to run as one compiled pass over memory, on a backend that leaves the choice.
    """

    def __init__(
        self,
        rule: Callable[..., Any],
        hyperparameters: Mapping[str, Any] | None = None,
        factor: Callable[[int], float] | None = None,
        *,
        name: str = "",
        full_batch: bool = False,
        fused: bool = False,
    ) -> None:
        self.rule = rule
        self.fused = fused
        self.name = name or rule.__name__
        self.full_batch = full_batch
        self.factor = factor
        declared = parameters(rule)
        self.hyperparameters = {key: p.default for key, p in declared.items()} | dict(hyperparameters or {})
        self.swept = frozenset(key for key, value in self.hyperparameters.items() if np.ndim(value))
        self.step_size = "lr" if "lr" in declared else None

    def init(self, x: Array, backend: Backend, kernel: Callable[..., Any] | None = None) -> tuple[Array, ...]:
        """State before the first step; `kernel` is the compiled form of the rule, where it is to run compiled."""
        self.xp, self.kernel = backend.xp, kernel
        to = backend.asarray if kernel is None else backend.wide
        # numbers stay Python floats, which never widen a float32 array
        self.arguments: dict[str, Any] = {
            key: to(np.asarray(value, dtype=float)[:, None]) if key in self.swept else float(value)
            for key, value in self.hyperparameters.items()
        }
        return tuple(backend.zeros(x.shape) for _ in state_names(self.rule))  # each (R, d)

    def step(self, t: int, at: At, state: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        arguments = self.arguments
        if self.factor is not None:
            arguments = arguments | {"lr": arguments["lr"] * self.factor(t - 1)}
        if self.kernel is not None:
            new_x, new_state = self.kernel(at.x, at.g, t, state, tuple(arguments.values()))
            return new_x, new_state
        result = self.rule(self.xp, at.x, at.g, t, *state, **arguments)
        if not isinstance(result, tuple | list) or len(result) != 1 + len(state):
            expected = ", ".join(["x", *state_names(self.rule)])
            raise TypeError(f"the rule {self.name!r} must return ({expected}{'' if state else ','}), a tuple")
        x, *new = result
        return x, tuple(new)


class Recipe(NamedTuple):
    """An optimizer by name and settings, before it is laid out for a stack of runs.

    Attributes
    ----------
    target : callable or type
        The registered rule, or the class of an `Optimizer`.
    declared : dict
        Its parameters.
    settings : dict
        Given values; a tuple of values is to be swept.
    """

    name: str
    target: Any
    declared: dict[str, Parameter]
    settings: dict[str, Any]

    @property
    def kind(self) -> Any:
        """An object that has the class attributes of the optimizer."""
        return self.target if isinstance(self.target, type) else _example(self.target, self.name)

    @property
    def sweepable(self) -> frozenset[str]:
        """Names of the hyperparameters that may differ from run to run within one stack."""
        if isinstance(self.target, type):
            return frozenset(self.kind.sweepable)
        return frozenset(self.declared)

    @property
    def spec(self) -> str:
        """The text that makes this recipe again."""
        settings = {
            key: "/".join(f"{v:.12g}" if isinstance(v, float) else str(v) for v in value)
            if isinstance(value, tuple)
            else value
            for key, value in self.settings.items()
        }
        return format_spec(self.name, settings)

    def build(
        self, settings: Mapping[str, Any], factor: Callable[[int], float] | None = None, *, fused: bool = False
    ) -> Optimizer:
        """The optimizer for a stack of runs: `settings` holds one number a run for each swept hyperparameter."""
        if isinstance(self.target, type):
            made: Optimizer = self.target(**settings)
            made.name = self.name
            return made
        full_batch = bool(OPTIMIZERS.options(self.name).get("full_batch"))
        return FirstOrder(self.target, settings, factor, name=self.name, full_batch=full_batch, fused=fused)


@functools.cache
def _example(rule: Callable[..., Any], name: str) -> Optimizer:
    return Recipe(name, rule, {}, {}).build({}, None)


def make_recipe(optimizer: Any, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe for a registered name, a rule (registered or not) or an `Optimizer` class, with settings.

    Text such as ``"0.9/0.99"`` and any sequence of values mean: one run for each.

    Raises
    ------
    InputError
        If there is no such optimizer or hyperparameter, or a value is impossible.
    """
    if isinstance(optimizer, str):
        name, target = optimizer, OPTIMIZERS[optimizer]
    elif isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        name, target = optimizer.name or optimizer.__name__, optimizer
    elif callable(optimizer) and hasattr(optimizer, "__name__"):
        name, target = optimizer.__name__, optimizer
    else:
        raise InputError(f"an optimizer is a name, a function that is a rule, or an Optimizer class, not {optimizer!r}")
    owner = f"optimizer {name!r}"
    declared = parameters(target)
    check_names(owner, declared, settings or {})
    checked = {}
    for key, value in (settings or {}).items():
        many = value.split("/") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
        values = tuple(coerce(owner, declared[key], v.item() if isinstance(v, np.generic) else v) for v in many)
        if not values:
            raise InputError(f"{owner}: {key} is an empty list; give at least one value")
        values = tuple(dict.fromkeys(values))  # a value that is given twice is one run all the same
        checked[key] = values if len(values) > 1 else values[0]
    if target.__module__.startswith("optbench."):
        _check_ranges(owner, checked)
    return Recipe(name, target, declared, checked)


# what the hyperparameters of optbench's own optimizers must satisfy; a plug-in may mean something else by a name
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "lr": (lambda v: v > 0, "above 0"),
    "scale": (lambda v: v > 0, "above 0"),
    "eps": (lambda v: v >= 0, "at least 0"),
    "l2": (lambda v: v >= 0, "at least 0"),
    "weight_decay": (lambda v: v >= 0, "at least 0"),
    "beta": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "beta1": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "beta2": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "rho": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "memory": (lambda v: v >= 1, "at least 1"),
}


def _check_ranges(owner: str, settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if key in _RANGES:
            holds, wanted = _RANGES[key]
            for one in value if isinstance(value, tuple) else (value,):
                if not holds(one):
                    raise InputError(f"{owner}: {key} must be {wanted}, not {one:g}")


F = TypeVar("F", bound=Callable[..., Any])


@overload
def rule(function: F) -> F: ...
@overload
def rule(*, name: str | None = ..., full_batch: bool = ...) -> Callable[[F], F]: ...
def rule(function: Any = None, *, name: str | None = None, full_batch: bool = False) -> Any:
    """Register an update rule under its own name, or `name`, and return it unchanged.

    Parameters
    ----------
    full_batch : bool
        Whether the name promises the gradient of the whole objective, so that a mini-batch is refused.
    """

    def register(function: F) -> F:
        OPTIMIZERS.register(name or function.__name__, function, full_batch=full_batch)
        return function

    return register if function is None else register(function)
