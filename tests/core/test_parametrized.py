"""Parameters of dataclasses: conversion, ranges and the spec."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from optbench.core.errors import InputError
from optbench.core.parametrized import Parametrized


@dataclass
class Grid(Parametrized):
    name = "grid"
    kind = "thing"
    always_shown = ("size",)

    size: int = 3
    shape: str = "square"
    turn: float = 0.0

    def __post_init__(self) -> None:
        self.check_types()
        self.check_at_least("size", 1)
        self.check_at_least("turn", -1, strict=True)
        self.check_choice("shape", ("square", "round"))

    @property
    def idle(self) -> frozenset[str]:
        return frozenset({"turn"} if self.shape == "round" else ())


def test_spec_names_what_differs_and_what_is_always_shown() -> None:
    assert str(Grid()) == Grid().spec == "grid:size=3"
    assert Grid(turn=0.5).spec == "grid:size=3,turn=0.5"
    assert Grid(shape="round").params == {"size": 3, "shape": "round"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "thing 'grid': size must be at least 1, not 0"),
        ({"turn": -1.0}, "turn must be above -1, not -1.0"),
        ({"shape": "oval"}, "shape must be one of square, round, not 'oval'"),
        ({"shape": "round", "turn": 1.0}, "thing 'grid:size=3,shape=round': turn has no effect here; leave it out"),
        ({"size": "many"}, "thing 'grid': size must be a whole number, not 'many'"),
    ],
)
def test_wrong_parameters_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**settings)  # type: ignore[arg-type]
