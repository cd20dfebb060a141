"""The interface of test problems, and their optimum.

A problem is a dataclass whose fields are its parameters. Its constructor creates host data (NumPy, float64), `place` the
arrays that the evaluation needs on a backend, and `on` a copy for another backend. The problems themselves are in the
package `problems`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import io
import math
import multiprocessing
import pickle
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from optbench.core.backend import NUMPY, Backend, get_backend
from optbench.core.code_hash import Hasher
from optbench.core.errors import InputError, OptbenchError, blaming, error_text, place_of
from optbench.core.random import Batches, Sampler, stream
from optbench.core.registry import PROBLEMS
from optbench.core.specs import Parametrized, coerce_all, format_spec, parameters, parse_spec
from optbench.core.types import Array, Metric

__all__ = ["Optimum", "Problem", "make_problem", "problem", "stream"]

T = TypeVar("T", bound=type)
View = tuple[tuple[float, float], tuple[float, float]]  # ranges of x and of y


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The optimal value of a problem as an interval, and how it is known.

    `Problem.optimum` checks what `Problem.solve` returns: all numbers must be finite and real, and lower <= f.

    Parameters
    ----------
    f : float
        Upper bound of the infimum, usually the value at `x`; gaps are measured from it. Round it up.
    lower : float
        Lower bound of the infimum, which lies in [lower, f]. Round it down. A run with a value below it is invalid.
    x : array of shape (d,), or None
        A global minimizer (NumPy, float64); None if only the infimum is known.
    method : str
        How the interval is known.
    gradient_norm : float or None
        Euclidean norm of the gradient at `x`.

    Examples
    --------
    >>> optbench.make_problem("beale").optimum
    Optimum(f=0.0, lower=0.0, x=array([3. , 0.5]), method='closed form', gradient_norm=None)
    """

    f: float
    lower: float
    x: np.ndarray | None
    method: str
    gradient_norm: float | None = None

    @classmethod
    def of_exact(
        cls, value: Fraction, x: np.ndarray | None, method: str, gradient_norm: float | None = None
    ) -> Optimum:
        """The optimum of an exactly known value: the smallest interval of two floats that contains it.

        Parameters
        ----------
        value : Fraction
            The infimum.
        x, method, gradient_norm
            As of the class.

        Returns
        -------
        Optimum
            Its `f` and `lower` are equal if the value is a float, else neighbours.

        Examples
        --------
        >>> from fractions import Fraction
        >>> optimum = optbench.Optimum.of_exact(Fraction(1, 3), None, "closed form")
        >>> optimum.lower < Fraction(1, 3) < optimum.f
        True
        """
        nearest = float(value)
        f, lower = nearest, nearest
        if nearest < value:
            f = math.nextafter(nearest, math.inf)
        elif nearest > value:
            lower = math.nextafter(nearest, -math.inf)
        return cls(f, lower, x, method, gradient_norm)


class Problem(Parametrized):
    """Base of all problems. A subclass is a dataclass decorated with ``problem("name")``.

    A subclass sets `dim` in ``__post_init__`` and implements `place` and `value_and_grad`; everything else has a default.
    Points have shape (..., d), so that single vectors and stacks of runs use the same calls.

    Attributes
    ----------
    name : str
        The registered name.
    citation, formula : str
        Source, and formula of the objective as plain text, for the report.
    dim : int
        Number of parameters d.
    n_samples : int or None
        Number of terms n of a finite sum f = (1/n) sum f_i, from which mini-batches are drawn; None for other problems.
    smoothness : float or None
        A Lipschitz constant L of the gradient: exact for quadratics, an upper bound for others, None if unknown.
    strong_convexity : float or None
        A constant mu for which f - mu/2 |x|^2 is convex; 0 if f is only convex, None if it is not convex.
    minimizers : array of shape (k, d), or None
        All k global minimizers (NumPy, float64), if they are known.
    view : ((float, float), (float, float)), or None
        For two-dimensional problems, ranges of x and of y with the minimizers and the start points. If it is set, the
        surface and the path of every run are stored with the results.
    max_hessian_dim : int
        Largest d at which `hessian` is offered.
    shares_matrix : bool
        Whether the oracle is a product with one d x d matrix for all runs, which threads can share.
    fingerprint : str
        Hash of data from files that the problem does not hold; empty if the parameters determine the problem.
    display_only : tuple of str
        Class attributes that are only displayed, so that runs are not computed again when they change.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class Bowl(optbench.Problem):
    ...     dim: int = 3
    ...
    ...     def place(self):
    ...         self.xp = self.backend.xp
    ...
    ...     def value_and_grad(self, x, samples=None):
    ...         return self.xp.sum(x**4, axis=-1), 4 * x**3
    >>> len(optbench.compare(Bowl, ["adam", "sgd"], lr=0.1, seeds=2, steps=20))
    4
    """

    kind = "problem"
    citation: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    max_hessian_dim: ClassVar[int] = 1000
    display_only: ClassVar[tuple[str, ...]] = ("citation", "formula", "always_shown", "display_only")

    fingerprint: str = ""
    dim: int
    n_samples: int | None = None
    smoothness: float | None = None
    strong_convexity: float | None = None
    minimizers: np.ndarray | None = None
    view: View | None = None
    shares_matrix: bool = False
    backend: Backend = NUMPY
    _host: Self | None = None
    _cached_starts: tuple[tuple[int, ...], np.ndarray] | None = None
    _sealed: Mapping[str, Any] = {}

    # ---- what a subclass implements ----------------------------------------------------------------------------------

    def place(self) -> None:
        """Create the arrays that the evaluation needs on `self.backend`. Called once per backend."""
        raise NotImplementedError(f"{type(self).__name__} does not implement place()")

    def choose_kernels(self) -> None:
        """Choose compiled or plain elementwise formulas (see `compile.elementwise`) for `self.backend`.

        A problem with such formulas calls it in `place`. It is called alone, and must be fast, for copies that differ only
        in `Backend.fused`.
        """

    def value_and_grad(self, x: Array, samples: Array | None = None) -> tuple[Array, Array]:
        """Objective and gradient.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.
        samples : array, optional
            Draws of the stochastic oracle; None for the full, noiseless objective. For finite sums, sample numbers of
            shape (b,), one batch for all points, or (S, b) with `x` of shape (S, ..., d), row s for the points x[s]. For
            noisy oracles, the noise itself, of shape (d,) or (S, d).

        Returns
        -------
        f : array of shape (...)
            Values.
        g : array of shape (..., d)
            Gradients.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement value_and_grad()")

    def draw_start(self, rng: np.random.Generator) -> np.ndarray:
        """A start point on the host from the random stream of a seed, standard normal by default.

        Parameters
        ----------
        rng : numpy.random.Generator
            The random stream.

        Returns
        -------
        numpy.ndarray of shape (d,)
            The start point, float64.
        """
        return rng.standard_normal(self.dim)

    def solve(self) -> Optimum | None:
        """Compute the optimum, if it is known or can be bounded closely.

        Returns
        -------
        Optimum or None
            The optimum, whose interval is rounded outward; None if it is not known.
        """
        return None

    # ---- what a subclass may offer -----------------------------------------------------------------------------------

    def value(self, x: Array) -> Array:
        """Full objective.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.

        Returns
        -------
        array of shape (...)
            Values.
        """
        pair = self.value_and_grad(x)
        if not isinstance(pair, tuple | list):
            raise TypeError(
                f"value_and_grad() of the problem {self.spec} must return the pair (f, g), not {pair!r:.60}"
            )
        return pair[0]

    def hvp(self, x: Array, v: Array) -> Array:
        """Products of Hessians and vectors, by default from `hessian`.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.
        v : array of shape (..., d)
            Vectors.

        Returns
        -------
        array of shape (..., d)
            Products H(x) v.
        """
        return (self.hessian(x) @ v[..., None])[..., 0]

    def hessian(self, x: Array) -> Array:
        """Hessian.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.

        Returns
        -------
        array of shape (..., d, d)
            Symmetric matrices.

        Raises
        ------
        InputError
            If the problem has none, or d is above `max_hessian_dim`.
        """
        raise InputError(f"{self.spec} has no Hessian")

    def check_hessian_dim(self) -> None:
        """Raise `InputError` if d is above `max_hessian_dim`."""
        if not self.has_hessian:
            raise InputError(
                f"{self.spec} offers its Hessian up to d = {self.max_hessian_dim}, not {self.dim}; use hvp"
            )

    @property
    def has_hessian(self) -> bool:
        """Whether `hessian` can be called at this dimension."""
        return type(self).hessian is not Problem.hessian and self.dim <= self.max_hessian_dim

    @property
    def has_hvp(self) -> bool:
        """Whether `hvp` can be called at this dimension."""
        return self.has_hessian or type(self).hvp is not Problem.hvp

    @property
    def metric_types(self) -> tuple[Metric, ...]:
        """Name, direction and unit of every metric that `metrics` returns, in its order.

        By default the coordinates ``x_1`` and ``x_2`` of two-dimensional problems with a `view`, else none.
        """
        if self.dim != 2 or self.view is None:
            return ()
        return Metric("x_1", None), Metric("x_2", None)

    def metrics(self, x: Array) -> dict[str, Array]:
        """The metrics of `metric_types` by name, such as ``test_accuracy``.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.

        Returns
        -------
        dict of arrays of shape (...)
            Values of each metric.
        """
        if self.dim != 2 or self.view is None:
            return {}
        return {"x_1": x[..., 0], "x_2": x[..., 1]}

    def evaluate(self, x: Array) -> tuple[Array, dict[str, Array]]:
        """`value` and `metrics` together, for problems whose metrics share work with the value.

        Parameters
        ----------
        x : array of shape (..., d)
            Points.

        Returns
        -------
        f : array of shape (...)
            Values.
        metrics : dict of arrays of shape (...)
            Values of each metric.
        """
        return self.value(x), self.metrics(x)

    def check_metrics(self, names: Iterable[str]) -> None:
        """Check that `metric_types` declares the metrics that were returned.

        Parameters
        ----------
        names : iterable of str
            Names of the returned metrics.

        Raises
        ------
        InputError
            If a name is not declared, or a declared one is missing.
        """
        declared, names = [metric.name for metric in self.metric_types], list(names)
        for name in names:
            if name not in declared:
                raise InputError(
                    f"{self.spec}: metrics() returns {name!r}, which is not declared; declare it in metric_types, "
                    f'for example metric_types = (optbench.Metric({name!r}, better="lower"),)'
                )
        for name in declared:
            if name not in names:
                raise InputError(f"{self.spec}: metrics() does not return {name!r}, which metric_types declares")

    def bytes_per_run(self, batch_size: int | None) -> int:
        """Size of the intermediate results of one evaluation.

        Parameters
        ----------
        batch_size : int or None
            Samples in a mini-batch; None for all samples.

        Returns
        -------
        int
            Bytes per run.
        """
        return 8 * 4 * self.dim

    def nanoseconds_per_run(self, batch_size: int | None) -> float:
        """Time of one value and gradient per run of a large stack, on one core; an error by a factor of three is harmless.

        Plans are cut into chunks by this estimate instead of measured times, so that the same call gives the same chunks.

        Parameters
        ----------
        batch_size : int or None
            Samples in a mini-batch; None for all samples.

        Returns
        -------
        float
            Nanoseconds.
        """
        return 0.25 * self.bytes_per_run(batch_size)

    def sampler(self, seeds: tuple[int, ...], batch_size: int | None) -> Sampler | None:
        """The random draws of the stochastic oracle.

        Parameters
        ----------
        seeds : tuple of int, length S
            One random stream for each seed.
        batch_size : int or None
            Samples in a mini-batch; None for all samples.

        Returns
        -------
        Sampler or None
            The draws of all steps; None for an exact oracle.

        Raises
        ------
        InputError
            If the batch size is not possible for the problem.
        """
        if batch_size is None:
            return None
        if self.n_samples is None:
            raise InputError(f"{self.spec} is not a sum over samples, so it has no mini-batches; leave batch_size out")
        if not 1 <= batch_size <= self.n_samples:
            raise InputError(
                f"batch_size must be between 1 and the {self.n_samples} samples of {self.spec}, not {batch_size}"
            )
        return Batches(seeds, self.n_samples, batch_size)

    def calls_per_step(self, batch_size: int | None) -> float:
        """Cost of one step in full oracle calls.

        Parameters
        ----------
        batch_size : int or None
            Samples in a mini-batch; None for all samples.

        Returns
        -------
        float
            b/n for a mini-batch of b out of n samples, else 1.
        """
        return batch_size / self.n_samples if batch_size and self.n_samples else 1.0

    # ---- what every problem offers --------------------------------------------------------------------------------------

    def on(self, backend: Backend) -> Self:
        """A copy of this problem with its arrays on another backend.

        Parameters
        ----------
        backend : Backend
            Array module, device and precision.

        Returns
        -------
        Problem
            The copy; the problem itself if its arrays are there already.
        """
        if backend == self.backend:
            return self
        other = copy.copy(self)
        other.backend, other._host = backend, self.host
        with blaming(self.name or type(self).__name__):
            if dataclasses.replace(backend, fused=self.backend.fused) == self.backend:
                other.choose_kernels()  # the arrays are shared
            else:
                other.place()
        return other

    @property
    def host(self) -> Self:
        """The NumPy float64 problem of which this one is a copy, or the problem itself."""
        return self._host if self._host is not None else self

    def start(self, seed: int) -> Array:
        """Start point of a seed; the numbers are the same on every backend.

        Parameters
        ----------
        seed : int
            At least 0.

        Returns
        -------
        array of shape (d,)
            The start point.
        """
        return self.backend.asarray(self._checked_start(seed))

    def starts(self, seeds: Iterable[int]) -> Array:
        """Start points of several seeds.

        Parameters
        ----------
        seeds : iterable of int, length S
            Each at least 0.

        Returns
        -------
        array of shape (S, d)
            The start points, row by row.
        """
        return self.backend.asarray(self.host._starts(tuple(seeds)))

    def _starts(self, seeds: tuple[int, ...]) -> np.ndarray:
        """Start points on the host, (S, d); the last ones are cached for the next optimizer."""
        if self._cached_starts is None or self._cached_starts[0] != seeds:
            self._cached_starts = seeds, np.stack([self._checked_start(seed) for seed in seeds])
        return self._cached_starts[1].copy()

    def _checked_start(self, seed: int) -> np.ndarray:
        """Start point of a seed on the host, (d,)."""
        x: Any = self.draw_start(stream("start", seed))
        if type(x) is not np.ndarray or x.shape != (self.dim,) or x.dtype.kind != "f":
            kind = f"shape {x.shape} and type {x.dtype}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
            raise InputError(
                f"{self.spec}: draw_start() must return a NumPy array of shape ({self.dim},) and type float64, not {kind}"
            )
        if not np.isfinite(x).all():
            raise InputError(f"{self.spec}: draw_start() returns numbers that are not finite for seed {seed}")
        return x

    @property
    def optimum(self) -> Optimum | None:
        """The optimum, computed and checked on the host on first access; None if it is not known.

        Raises
        ------
        InputError
            If `solve` returns something else than an `Optimum` or None, numbers that are not finite and real, a lower
            bound above f, or an x of another shape. Errors of `solve` itself pass through.
        """
        return self.host._optimum

    @functools.cached_property
    def _optimum(self) -> Optimum | None:
        optimum = self.solve()
        try:
            return None if optimum is None else _checked(optimum, self.dim)
        except ValueError as error:
            raise InputError(
                f"{self.spec}: solve() must return a valid optbench.Optimum, or None if no optimum is known, but {error}"
            ) from None

    @property
    def is_solved(self) -> bool:
        """Whether `optimum` is known already, so that asking for it calls no `solve`."""
        return "_optimum" in vars(self.host)

    def set_optimum(self, optimum: Optimum | None) -> None:
        """Set the optimum that another process has solved and checked."""
        vars(self.host)["_optimum"] = optimum

    @property
    def f_star(self) -> float | None:
        """Optimal value, or None where it is not known."""
        return None if self.optimum is None else self.optimum.f

    @property
    def x_star(self) -> np.ndarray | None:
        """A global minimizer, shape (d,), or None where none is known."""
        return None if self.optimum is None else self.optimum.x

    @property
    def condition_number(self) -> float | None:
        """L / mu, where both are known and mu is positive."""
        if not self.smoothness or not self.strong_convexity:
            return None
        return self.smoothness / self.strong_convexity

    @property
    def is_builtin(self) -> bool:
        """Whether the problem belongs to optbench and is as its constructor made it."""
        host = self.host
        now = {name: value for name, value in vars(host).items() if name not in host._not_data}
        return now.keys() == host._sealed.keys() and all(value is host._sealed[name] for name, value in now.items())

    @property
    def _not_data(self) -> set[str]:
        """Names of attributes that follow from others, caches of other modules among them."""
        members = (item for base in type(self).__mro__ for item in vars(base).items())
        derived = {name for name, member in members if isinstance(member, functools.cached_property)}
        return {"backend", "_host", "_cached_starts", "_description", "_sealed"} | derived

    def seal(self) -> None:
        """End the construction of a problem of optbench.

        From now on its arrays are read-only, and if an attribute is changed, all that the problem holds counts as data.
        """
        if type(self).__module__.startswith("optbench.problems."):
            _make_read_only(list(vars(self).values()))
            self._sealed = {name: value for name, value in vars(self).items() if name not in self._not_data}

    @property
    def held_data(self) -> dict[str, Any]:
        """What the problem holds on the host besides its parameters, by name; empty if `is_builtin`.

        Built-in problems are determined by their parameters and `fingerprint`, also where machines round differently.
        """
        if self.is_builtin:
            return {}
        skipped = self._not_data | set(parameters(type(self)))
        return {name: value for name, value in vars(self.host).items() if name not in skipped}

    def content_to_hash(self) -> tuple[Any, ...]:
        """What distinguishes problems of this class in the keys of their runs.

        Returns
        -------
        tuple
            Parameters, `fingerprint` and `held_data`.
        """
        return self.params, self.fingerprint, dict(sorted(self.held_data.items()))

    def __copy__(self) -> Self:
        other = object.__new__(type(self))  # `__reduce__` would create all data again
        vars(other).update(vars(self))
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        # another process creates the arrays from the parameters; a known optimum is sent, as it may be expensive
        solved = {"_optimum": self.host._optimum} if "_optimum" in vars(self.host) else {}
        return _rebuild, (type(self), self.params, self.backend, self.fingerprint, solved, _Data.of(self))

    def points(self, x: Any) -> Array:
        """Convert values to points on the backend of this problem.

        Parameters
        ----------
        x : array_like of shape (..., d)
            Real numbers.

        Returns
        -------
        array of shape (..., d)
            The points; `x` itself if it is such an array.

        Raises
        ------
        InputError
            If the last axis does not have length d, or the values are not real numbers.
        """
        if not hasattr(x, "shape") or (
            isinstance(x, np.ndarray) and (self.backend.name != "numpy" or x.dtype.kind != "f")
        ):
            try:
                if np.iscomplexobj(x):
                    raise TypeError("complex numbers")
                x = self.backend.asarray(x)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{self.spec} takes points of shape (..., {self.dim}) that are real numbers ({error})"
                ) from None
        if x.shape[-1:] != (self.dim,):
            raise InputError(f"{self.spec} takes points of shape (..., {self.dim}), not {tuple(x.shape)}")
        points: Array = x
        return points

    def per_seed(self, samples: Array, x: Array) -> Array:
        """Samples in a shape that broadcasts against points.

        Parameters
        ----------
        samples : array of shape (k,) or (S, k)
            Samples for all points, or a row for each seed.
        x : array of shape (..., d) or (S, ..., d)
            Points.

        Returns
        -------
        array of shape (k,) or (S, 1, ..., k)
            The samples.

        Raises
        ------
        InputError
            If the points do not have a row for each seed.
        """
        if samples.ndim == 1:
            return samples
        seeds, k = samples.shape
        if x.ndim < 2 or x.shape[0] != seeds:
            raise InputError(
                f"samples of shape {(seeds, k)} need points of shape ({seeds}, ..., {self.dim}), not {tuple(x.shape)}"
            )
        return self.backend.xp.reshape(samples, (seeds, *(1,) * (x.ndim - 2), k))


def _checked(optimum: Any, dim: int) -> Optimum:
    """An optimum with plain floats and a read-only x of shape (d,); ValueError says what is wrong with it."""
    if not isinstance(optimum, Optimum):
        raise ValueError(f"it returned {_shortened(optimum)}")
    f, lower = (_real(getattr(optimum, name), name) for name in ("f", "lower"))
    if lower > f:
        raise ValueError(f"the lower bound {lower!r} is above f = {f!r}; lower must be at most f")
    norm = optimum.gradient_norm
    if norm is not None and not (norm := _real(norm, "gradient_norm")) >= 0:
        raise ValueError(f"gradient_norm is {norm!r}; a norm is at least 0")
    if not isinstance(optimum.method, str):
        raise ValueError(f"method is {_shortened(optimum.method)}; give a text that says how the optimum is known")
    return Optimum(f, lower, None if optimum.x is None else _minimizer(optimum.x, dim), optimum.method, norm)


def _real(value: Any, name: str) -> float:
    """A finite real number as a float."""
    try:
        number = np.asarray(value)
    except Exception:
        number = np.asarray(None)
    if number.shape or number.dtype.kind not in "fiu" or not np.isfinite(number):
        raise ValueError(f"{name} is {_shortened(value)}; give a finite float")
    return float(number)


def _minimizer(x: Any, dim: int) -> np.ndarray:
    """A point of shape (d,) with finite real coordinates as a read-only copy."""
    try:
        point = np.array(x)
    except Exception:
        point = np.array(None)
    if point.shape != (dim,) or point.dtype.kind not in "fiu" or not np.isfinite(point).all():
        what = f"an array of shape {point.shape} and type {point.dtype}" if point.shape else _shortened(x)
        what = f"{what} with a value that is not finite" if point.shape == (dim,) and point.dtype.kind == "f" else what
        raise ValueError(f"x is {what}; give finite floats of shape ({dim},), or None if only the value is known")
    point = point.astype(float)
    point.flags.writeable = False
    return point


def _shortened(value: Any) -> str:
    """The repr of any value on one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


# Problems that this worker process has received, in order of last use. Most chunks need the same few, and creating one (a
# QR factorization, a data file) may take longer than a chunk.
_received: dict[Any, Problem] = {}
MAX_RECEIVED, MAX_RECEIVED_BYTES = 8, 1 << 28  # in total; the last one stays, whatever its size


def _receive(key: Any, problem: Problem) -> None:
    """Cache a problem, and drop the least recently used ones above the limits."""
    _received.pop(key, None)
    _received[key] = problem
    sizes = [sum(int(getattr(v, "nbytes", 0)) for v in vars(problem).values()) for problem in _received.values()]
    while len(sizes) > 1 and (len(sizes) > MAX_RECEIVED or sum(sizes) > MAX_RECEIVED_BYTES):
        del _received[next(iter(_received))], sizes[0]


def _make_read_only(values: Iterable[Any]) -> None:
    """Make NumPy arrays read-only, also those in lists, tuples and dicts."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        elif isinstance(value, list | tuple | dict):
            _make_read_only(value.values() if isinstance(value, dict) else value)


class _Pickler(pickle.Pickler):
    """Pickles modules by name."""

    def reducer_override(self, value: Any) -> Any:
        return (importlib.import_module, (value.__name__,)) if isinstance(value, types.ModuleType) else NotImplemented


def _pickled(value: Any) -> bytes:
    """A value as bytes; raises an exception of any kind if it cannot be pickled."""
    buffer: io.BytesIO = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def _can_be_sent(value: Any) -> bool:
    try:
        return getattr(value, "nbytes", 0) <= MAX_SENT_BYTES and len(_pickled(value)) <= MAX_SENT_BYTES
    except Exception:
        return False


@dataclasses.dataclass
class _Data:
    """The data of a problem on their way to another process, where its constructor may give others.

    `values` are pickled. `hashes` are of values that cannot be pickled, or are too large to be sent with every chunk.
    """

    values: bytes
    hashes: dict[str, str]

    @classmethod
    def of(cls, problem: Problem) -> _Data:
        mark = threading.get_ident(), id(problem.host)
        if mark in _on_their_way:
            raise pickle.PicklingError(f"the data of {problem.spec} refer to it")
        _on_their_way.add(mark)
        try:
            data = problem.held_data
            sent = {name: value for name, value in data.items() if _can_be_sent(value)}
            values = _pickled(sent)  # together, because they may refer to each other
        finally:
            _on_their_way.remove(mark)
        hasher = Hasher(names_suffice=True)
        hashes = {name: hasher.hash(value, owner=problem.spec) for name, value in data.items() if name not in sent}
        return cls(values, {name: text for name, text in hashes.items() if text not in hasher.random})

    def restore(self, problem: Problem) -> None:
        """Give a problem these data.

        Raises
        ------
        InputError
            If the problem has others, and they were not sent.
        """
        vars(problem).update(pickle.loads(self.values))
        hasher = Hasher(names_suffice=True)
        for name, expected in self.hashes.items():
            if hasher.hash(vars(problem).get(name)) != expected:
                raise InputError(
                    f"{problem.spec}: a worker process makes another {name!r} from the parameters of the problem, and it "
                    "cannot be sent; create it from the parameters in __post_init__, or compute with jobs=1"
                )


_on_their_way: set[tuple[int, int]] = set()  # problems that a thread is pickling
MAX_SENT_BYTES = 1 << 25  # of an attribute


def _rebuild(
    cls: type[Problem],
    params: dict[str, Any],
    backend: Backend,
    fingerprint: str,
    solved: dict[str, Any],
    data: _Data,
) -> Problem:
    """The problem of these parameters and data; in a worker process the cached one, if there is one."""
    # the fingerprint, because a file may have changed; as bytes, because a parameter may be a list
    key = (cls, backend, pickle.dumps((params, fingerprint, data)))
    problem = _received.get(key)
    if problem is None:
        host = cls(**params)
        data.restore(host)
        problem = host.on(backend)
    vars(problem.host).update(solved)
    if multiprocessing.parent_process() is not None:
        _receive(key, problem)
    return problem


def problem(name: str) -> Callable[[T], T]:
    """Register a problem class (a dataclass) under a name. The class is returned with its `name` set."""

    def register(cls: T) -> T:
        PROBLEMS.register(name, cls)
        cls.name = name  # type: ignore[attr-defined]
        return cls

    return register


def make_problem(name: str, settings: dict[str, Any] | None = None) -> Problem:
    """The registered problem of a name or spec.

    Parameters
    ----------
    name : str
        Name of the problem, or a spec such as ``"quadratic:dim=10"``.
    settings : dict, optional
        Further parameters by name, as text or values; the others have their defaults.

    Returns
    -------
    Problem
        The problem, on NumPy in float64.

    Raises
    ------
    InputError
        If there is no such problem or parameter, or a value is impossible.

    Examples
    --------
    >>> problem = optbench.make_problem("quadratic:dim=10")
    >>> problem.spec, problem.condition_number
    ('quadratic:dim=10', 100.0)
    """
    name, given = parse_spec(name)
    cls = PROBLEMS[name]
    checked = coerce_all(f"problem {name!r}", parameters(cls), given | (settings or {}))
    try:
        problem: Problem = cls(**checked)
    except (OptbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # NumPy: ValueError if no memory holds a shape; plug-ins: anything, also SystemExit
        reason = error_text(error) if place_of(error) else error
        raise InputError(f"{format_spec(name, checked)} cannot be created: {reason}") from error
    return problem


ProblemLike = Problem | type[Problem] | str  # what `as_problem` takes


def as_problem(problem: Any, settings: dict[str, Any] | None = None) -> Problem:
    """The problem of a spec such as ``"quadratic:dim=100"`` or a class, with settings; a `Problem` as it is.

    Raises
    ------
    InputError
        If there is no such problem or parameter, or a value is impossible.
    """
    if isinstance(problem, str):
        return make_problem(problem, settings)
    if isinstance(problem, type) and issubclass(problem, Problem):
        with blaming(problem.name or problem.__name__):
            return problem(**(settings or {}))
    if not isinstance(problem, Problem) or settings:
        raise InputError(
            f"a problem must be a spec such as 'quadratic:dim=100', a Problem or its class, not {problem!r}"
        )
    return problem


def on_device(problem: Problem, device: str | Backend | None, precision: str | None) -> Problem:
    """The problem on a device and in a precision; None keeps its own.

    Raises
    ------
    BackendError
        If the device cannot be used.
    """
    backend = problem.backend
    if device is None and precision in (None, backend.precision):
        return problem
    return problem.on(get_backend(device or backend.name, precision=precision or backend.precision))
