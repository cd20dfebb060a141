"""A cache of large objects, bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """The objects used last; the last one stays, however large it is.

    Parameters
    ----------
    max_count : int
    max_bytes : int
        Of all objects together.
    size : callable
        Bytes of an object. It is asked again and again, as objects may grow.
    """

    def __init__(self, max_count: int, max_bytes: int, size: Callable[[T], int]) -> None:
        self.max_count, self.max_bytes, self.size = max_count, max_bytes, size
        self._objects: dict[Hashable, T] = {}  # the last used last

    def get(self, key: Hashable) -> T | None:
        """The object, or None."""
        return self._objects.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Enter the object as the last used, and drop the first of those that are too many."""
        self._objects.pop(key, None)
        self._objects[key] = value
        while len(self._objects) > 1 and (
            len(self._objects) > self.max_count or sum(map(self.size, self._objects.values())) > self.max_bytes
        ):
            del self._objects[next(iter(self._objects))]
