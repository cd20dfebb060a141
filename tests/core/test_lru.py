"""The bounded cache."""

from __future__ import annotations

from optbench.core.lru import LruCache


def test_the_object_used_first_is_dropped_when_there_are_too_many() -> None:
    cache: LruCache[str] = LruCache(max_count=2, max_bytes=100, size=len)
    cache.put("a", "one")
    cache.put("b", "two")
    cache.put("a", "one")
    cache.put("c", "three")
    assert [cache.get(key) for key in "abc"] == ["one", None, "three"]


def test_objects_that_are_too_large_together_are_dropped_but_the_last_stays() -> None:
    cache: LruCache[str] = LruCache(max_count=9, max_bytes=5, size=len)
    cache.put("a", "123")
    cache.put("b", "45")
    assert cache.get("a") == "123"
    cache.put("c", "6")
    assert [cache.get(key) for key in "abc"] == [None, "45", "6"]
    cache.put("d", "1234567")
    assert [cache.get(key) for key in "bcd"] == [None, None, "1234567"]
