"""Results of functions of `Runs`, cached as long as the runs live."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from optbench.results.runs import Runs

P = ParamSpec("P")
T = TypeVar("T")


def cached(function: Callable[Concatenate[Runs, P], T]) -> Callable[Concatenate[Runs, P], T]:
    """The function with a cache of its results for each `Runs`: a page needs the same tables many times.

    Arguments besides the runs must be hashable; an argument that is left to its default and one that is given equal to it
    are the same.
    """
    results: weakref.WeakKeyDictionary[Runs, dict[Any, T]] = weakref.WeakKeyDictionary()
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(runs: Runs, *args: P.args, **options: P.kwargs) -> T:
        arguments = signature.bind(runs, *args, **options)
        arguments.apply_defaults()
        own, key = results.setdefault(runs, {}), (arguments.args[1:], *arguments.kwargs.items())
        if key not in own:
            own[key] = function(runs, *args, **options)
        value: Any = own[key]
        copy: T = value.copy() if hasattr(value, "columns") else value  # a caller may change its frame
        return copy

    return cast("Callable[Concatenate[Runs, P], T]", wrapper)
