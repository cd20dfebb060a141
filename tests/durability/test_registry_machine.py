"""A registry behaves as a dictionary that refuses a second owner of a name, whatever the order of calls and threads."""

from __future__ import annotations

import concurrent.futures as cf
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from optbench.core.errors import InputError
from optbench.core.registry import Registry, Traits

NAMES = st.sampled_from(["sgd", "adam", "Adam", "adamw", "a b", "é", "x" * 300, "0", "../sgd"])


def made(owner: int) -> Any:
    """A function that belongs to one of several owners, which are told apart by module and name."""

    def function() -> int:
        return owner

    function.__module__, function.__qualname__ = f"owner{owner}", "function"
    return function


class RegistryMachine(RuleBasedStateMachine):
    """A registry and the dictionary that it should equal."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry("optimizer", ())
        self.objects: dict[str, tuple[int, Any]] = {}
        self.traits: dict[str, Traits] = {}

    @rule(name=NAMES, owner=st.integers(0, 2), accuracy=st.sampled_from([1e-3, 1e-6]))
    def register(self, name: str, owner: int, accuracy: float) -> None:
        target, traits = made(owner), Traits(accuracy=accuracy)
        if name in self.objects and self.objects[name][0] != owner:
            with pytest.raises(InputError, match="two optimizers are called"):
                self.registry.register(name, target, traits)
        else:  # again by its owner: the module was reloaded
            self.registry.register(name, target, traits)
            self.objects[name] = owner, target
            self.traits[name] = traits

    @rule(name=NAMES)
    def look_up(self, name: str) -> None:
        if name in self.objects:
            assert self.registry[name] is self.objects[name][1]
        else:
            with pytest.raises(InputError, match="no optimizer") as refusal:
                _ = self.registry[name]
            assert len(str(refusal.value)) < 300

    @invariant()
    def names_and_traits_are_those_registered(self) -> None:
        assert self.registry.names() == list(self.objects)
        assert {name: self.registry.traits(name) for name in self.objects} == self.traits


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=30, stateful_step_count=15, deadline=None, derandomize=True)

SLOW_MODULE = """
import time
from tests.durability.test_registry_machine import CURRENT
time.sleep(0.05)
for k in range(20):
    time.sleep(0.002)
    CURRENT[0].register(f"entry{k}", print)
"""

CURRENT: list[Registry] = []  # the registry that the module below fills


def test_threads_wait_until_a_registry_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_entries.py").write_text(SLOW_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    CURRENT[:] = [Registry("optimizer", ("slow_entries",))]
    with cf.ThreadPoolExecutor(16) as pool:
        names = pool.map(lambda _: len(CURRENT[0].names()), range(8))
        entries = pool.map(lambda k: CURRENT[0][f"entry{k}"], range(20))
        assert set(names) == {20}
        assert set(entries) == {print}
    del sys.modules["slow_entries"]


def test_a_module_that_fails_to_load_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "entries_with_a_defect.py"
    module.write_text("raise OSError('a full disk')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    registry = Registry("optimizer", ("entries_with_a_defect",))
    CURRENT[:] = [registry]
    with pytest.raises(OSError, match="a full disk"):
        registry.names()
    module.write_text(
        "from tests.durability.test_registry_machine import CURRENT\nCURRENT[0].register('entry', print)\n"
    )
    assert registry.names() == ["entry"]
    del sys.modules["entries_with_a_defect"]
