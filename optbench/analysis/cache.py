"""Results of functions of `Runs` that are kept as long as the runs."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from optbench.core.trace import TARGETS as TARGETS  # reports knows the targets from here
from optbench.results.runs import Runs

if TYPE_CHECKING:
    pass


P = ParamSpec("P")
T = TypeVar("T")


def kept(function: Callable[Concatenate[Runs, P], T]) -> Callable[Concatenate[Runs, P], T]:
    """The function, each of whose results is kept as long as the `Runs` it was made of: a page asks many times.

    Arguments beside the runs must be hashable; what is left to its default and what is given so are the same.
    """
    results: weakref.WeakKeyDictionary[Runs, dict[Any, T]] = weakref.WeakKeyDictionary()
    signature = inspect.signature(function)

    @functools.wraps(function)
    def found(runs: Runs, *args: P.args, **options: P.kwargs) -> T:
        asked = signature.bind(runs, *args, **options)
        asked.apply_defaults()
        held, key = results.setdefault(runs, {}), (asked.args[1:], *asked.kwargs.items())
        if key not in held:
            held[key] = function(runs, *args, **options)
        value: Any = held[key]
        copy: T = value.copy() if hasattr(value, "columns") else value  # a caller may change its frame
        return copy

    return cast("Callable[Concatenate[Runs, P], T]", found)
