"""The interface between the loop and an optimizer, and `FirstOrder`, the optimizer of an update rule.

Optimizers do not call the objective (reverse communication): the loop evaluates a point and passes the answer to `step`,
which returns the next point. All R runs of a stack take a step together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np

from optbench.core.backend import Backend
from optbench.core.column import Column, rule_module
from optbench.core.errors import InputError
from optbench.core.registry import OPTIMIZERS, Traits
from optbench.core.specs import (
    NONNEGATIVE,
    POSITIVE,
    Interval,
    Parameter,
    check_names,
    coerce,
    format_spec,
    parameters,
    parse_spec,
    state_names,
)
from optbench.core.types import Array, Oracle


class At(NamedTuple):
    """The answer of the oracle at the evaluated points. Row r belongs to run r.

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
    g: Any = None  # not Array | None, because an optimizer gets what its `oracle` declares
    hessian: Any = None
    z: Array | None = None


class Optimizer:
    """Base of all optimizers.

    Attributes
    ----------
    oracle : Oracle
        What each oracle call returns.
    traits : Traits
        Declared properties.
    keeps_best : bool
        Whether points may be rejected, so that the iterate is the best point so far.
    draws : bool
        Whether it needs random numbers.
    step_size : str or None
        Hyperparameter that is tuned first (``"lr"``, ``"scale"``), if any.
    sweepable : tuple of str
        Hyperparameters that may differ between the runs of a stack, as sequences of length R.
    matrices : int
        Number of d x d matrices per run that a step needs at once.
    max_dim : int or None
        Largest d for which these matrices are reasonable.

    Examples
    --------
    >>> class Descent(optbench.Optimizer):
    ...     def init(self, x, backend):
    ...         return ()
    ...
    ...     def step(self, t, at, state):
    ...         return at.x - 0.1 * at.g, state
    >>> len(optbench.sweep("quadratic:dim=3", Descent, seeds=2, steps=20))
    2
    """

    name: str = ""
    oracle: ClassVar[Oracle] = Oracle.GRADIENT
    traits: Traits = Traits()
    keeps_best: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    step_size: str | None = None
    sweepable: ClassVar[tuple[str, ...]] = ()
    matrices: ClassVar[int] = 0
    max_dim: ClassVar[int | None] = None

    def init(self, x: Array, backend: Backend) -> Any:
        """State before the first step.

        Parameters
        ----------
        x : array of shape (R, d)
            Start points, a copy that the optimizer may keep and overwrite.
        backend : Backend
            Backend of the arrays of the state.

        Returns
        -------
        object
            The state, which the first call of `step` receives.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement init()")

    def step(self, t: int, at: At, state: Any) -> tuple[Array, Any]:
        """Next points and state after the answer of the oracle.

        The arrays of `at` and `state` belong to the optimizer, which may keep and overwrite them: the loop keeps copies of
        what it records, and the problem does not hold them.

        Parameters
        ----------
        t : int
            Number of the step, from 1 on.
        at : At
            The points ``at.x`` (R, d), and the answer ``at.f`` (R, 1), ``at.g`` (R, d) and ``at.hessian`` (R, d, d); None
            for what `oracle` does not include.
        state : object
            The state that `init` or the previous step returned.

        Returns
        -------
        x : array of shape (R, d)
            Next points, in the precision of ``at.x``. Another shape or type is an error, and the runs fail.
        state : object
            Next state.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement step()")


class FirstOrder(Optimizer):
    """The optimizer of an update rule. Its state starts at zero.

    Parameters
    ----------
    rule : callable
        An update rule, see `optimizers.gradient`.
    hyperparameters : mapping
        Values by name; a sequence of length R holds one value per run.
    factor : callable, optional
        Function of the number of steps taken that returns the factor of the learning rate.
    name : str, optional
        Name for messages; by default that of the rule.
    traits : Traits, optional
        Declared properties; by default those of `Traits`.
    fused : bool
        Whether to run compiled if `Backend.fused` is None.

    Examples
    --------
    >>> def sgd(xp, x, g, t, lr=0.1):
    ...     return (x - lr * g,)
    >>> problem = optbench.make_problem("quadratic", {"dim": 3})
    >>> optbench.minimize(problem, optbench.FirstOrder(sgd, {"lr": 0.5}), steps=20).x.shape
    (1, 3)
    """

    def __init__(
        self,
        rule: Callable[..., Any],
        hyperparameters: Mapping[str, Any] | None = None,
        factor: Callable[[int], float] | None = None,
        *,
        name: str = "",
        traits: Traits | None = None,
        fused: bool = False,
    ) -> None:
        self.rule = rule
        self.fused = fused
        self.name = name or rule.__name__
        self.traits = traits or Traits()
        self.factor = factor
        declared = parameters(rule)
        self.hyperparameters = {key: p.default for key, p in declared.items()} | dict(hyperparameters or {})
        self.swept = frozenset(key for key, value in self.hyperparameters.items() if np.ndim(value))
        self.step_size = "lr" if "lr" in declared else None

    def init(self, x: Array, backend: Backend, kernel: Callable[..., Any] | None = None) -> tuple[Array, ...]:
        """State before the first step; `kernel` is the compiled rule, if it is to be used."""
        self.xp, self.kernel = rule_module(backend), kernel

        def column(values: Any) -> Any:
            if kernel or backend.name == "numpy":
                return Column.of(values, str(x.dtype))
            return backend.asarray(np.reshape(values, (-1, 1)))

        # Python floats never widen a float32 array
        self.arguments: dict[str, Any] = {
            key: column(value) if key in self.swept else float(value) for key, value in self.hyperparameters.items()
        }
        shapes = dict.fromkeys(self.traits.per_run, (x.shape[0], 1))
        return tuple(backend.zeros(shapes.get(name, x.shape)) for name in state_names(self.rule))  # (R, d) or (R, 1)

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
        The rule, or the class of an `Optimizer`.
    declared : dict
        Its hyperparameters, with their ranges.
    settings : dict
        Given values; a tuple of values is swept.
    """

    name: str
    target: Any
    declared: dict[str, Parameter]
    settings: dict[str, Any]

    @property
    def kind(self) -> Any:
        """An object with the class attributes of the optimizer."""
        is_class = isinstance(self.target, type)
        return self.target if is_class else FirstOrder(self.target, name=self.name, traits=self.traits)

    @property
    def traits(self) -> Traits:
        """The traits declared at registration."""
        return traits_of(self.name, self.target)

    @property
    def takes_schedule(self) -> bool:
        """Whether it accepts a learning-rate schedule: a rule with a hyperparameter ``lr``."""
        return not isinstance(self.target, type) and "lr" in parameters(self.target)

    @property
    def sweepable(self) -> frozenset[str]:
        """Hyperparameters that may differ between the runs of a stack."""
        return frozenset(self.kind.sweepable if isinstance(self.target, type) else self.declared)

    @property
    def spec(self) -> str:
        """The spec of this recipe, see `make_recipe`."""
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
        """The optimizer for a stack of runs; swept `settings` are sequences with one number per run.

        Raises
        ------
        InputError
            If there is a `factor`, and the optimizer has no learning rate.
        """
        if factor is not None and not self.takes_schedule:
            raise InputError(
                f"{self.name} is not a rule with a learning rate, so a schedule has no effect; leave it out"
            )
        if isinstance(self.target, type):
            optimizer: Optimizer = self.target(**settings)
            optimizer.name = self.name
            return optimizer
        return FirstOrder(self.target, settings, factor, name=self.name, traits=self.traits, fused=fused)


def traits_of(name: str, target: Any) -> Traits:
    """The traits of an `Optimizer` class, or of a rule as declared at its registration under `name`."""
    if isinstance(target, type) and issubclass(target, Optimizer):
        return target.traits
    return OPTIMIZERS.traits(name, target)


def make_recipe(optimizer: Any, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of an optimizer, which is a name, a spec, a rule (registered or not) or an `Optimizer` class.

    Parameters
    ----------
    optimizer : str, callable or type
        A registered name, a spec such as ``"adam:beta1=0.8"``, an update rule, or an `Optimizer` class.
    settings : mapping, optional
        Hyperparameters by name. Text such as ``"0.9/0.99"`` or a sequence of values means one run for each value.

    Returns
    -------
    Recipe
        The optimizer with its checked settings; its method ``build`` returns an `Optimizer`.

    Raises
    ------
    InputError
        If there is no such optimizer or hyperparameter, or a value is impossible.

    Examples
    --------
    >>> recipe = optbench.make_recipe("adam:beta1=0.8", {"lr": [0.01, 0.1]})
    >>> recipe.spec
    'adam:beta1=0.8,lr=0.01/0.1'
    >>> recipe.build({"lr": 0.01, "beta1": 0.8}).hyperparameters["beta2"]
    0.999
    """
    settings = dict(settings or {})
    if isinstance(optimizer, str):
        name, given = parse_spec(optimizer)
        target, settings = OPTIMIZERS[name], given | settings
    elif isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        name, target = optimizer.name or optimizer.__name__, optimizer
    elif callable(optimizer) and hasattr(optimizer, "__name__"):
        name, target = optimizer.__name__, optimizer
    else:
        raise InputError(f"an optimizer must be a name, a rule or an Optimizer class, not {optimizer!r}")
    owner, ranges = f"optimizer {name!r}", {**RANGES, **traits_of(name, target).ranges}
    declared = {key: dataclasses.replace(p, range=ranges.get(key)) for key, p in parameters(target).items()}
    check_names(owner, declared, settings)
    checked = {}
    for key, value in settings.items():
        many = value.split("/") if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
        values = tuple(coerce(owner, declared[key], v.item() if isinstance(v, np.generic) else v) for v in many)
        if not values:
            raise InputError(f"{owner}: {key} is an empty list; give at least one value")
        values = tuple(dict.fromkeys(values))  # duplicates are one run
        checked[key] = values if len(values) > 1 else values[0]
    return Recipe(name, target, declared, checked)


# default ranges of hyperparameters with standard names
RANGES: dict[str, Interval | None] = {
    **dict.fromkeys(("lr", "scale"), POSITIVE),
    **dict.fromkeys(("eps", "l2", "weight_decay"), NONNEGATIVE),
    **dict.fromkeys(("beta", "beta1", "beta2", "rho"), Interval(0, 1, closed="left")),
}

F = TypeVar("F", bound=Callable[..., Any])


@overload
def rule(function: F) -> F: ...
@overload
def rule(*, name: str | None = ..., **traits: Any) -> Callable[[F], F]: ...
def rule(function: Any = None, *, name: str | None = None, **traits: Any) -> Any:
    """Register an update rule under its own name, or `name`, and return it unchanged.

    Parameters
    ----------
    function : callable
        The rule ``function(xp, x, g, t, *state, **hyperparameters)``, which returns the tuple ``(x, *state)``. `xp` is the
        array module, `x` and `g` are points and gradients (R, d), and t is the number of the step, from 1 on. State has
        the shape (R, d) and starts at zero. Hyperparameters have defaults.
    name : str, optional
        Another name than that of the function.
    **traits
        Properties of the rule, such as ``elementwise=False``; see `Traits`.

    Returns
    -------
    callable
        The function; without `function`, a decorator.

    Raises
    ------
    InputError
        If the traits name state or hyperparameters that the rule does not have.

    Examples
    --------
    >>> @optbench.rule(name="heavy_ball_example")
    ... def heavy_ball(xp, x, g, t, v, lr=0.1, beta=0.9):
    ...     v = beta * v - lr * g
    ...     return x + v, v
    >>> len(optbench.sweep("quadratic:dim=3", "heavy_ball_example", beta=[0.5, 0.9], seeds=2, steps=20))
    4
    """

    def register(function: F) -> F:
        own_name, declared = name or function.__name__, Traits(**traits)
        owner = f"the rule {own_name!r}"
        check_names(owner, state_names(function), declared.per_run)
        check_names(owner, parameters(function), [*declared.ranges, *filter(None, [declared.decay])])
        if declared.per_run and declared.elementwise:
            raise InputError(f"{owner} has state per run, so it is not elementwise; declare elementwise=False")
        OPTIMIZERS.register(own_name, function, declared)
        return function

    return register if function is None else register(function)
