"""Parameters of dataclasses: conversion, ranges and the spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from optbench.core.errors import InputError
from optbench.core.parametrized import Parametrized
from optbench.core.specs import Choices, Interval


@dataclass
class Grid(Parametrized):
    name = "grid"
    kind = "thing"
    always_shown = ("size",)

    size: Annotated[int, Interval(1)] = 3
    shape: Annotated[str, Choices(("square", "round"))] = "square"
    turn: Annotated[float, Interval(-1, closed="neither")] = 0.0

    def __post_init__(self) -> None:
        self.check_parameters()

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
        ({"turn": -1.0}, "turn must be above -1, not -1"),
        ({"shape": "oval"}, "shape must be one of square, round, not 'oval'"),
        ({"shape": "round", "turn": 1.0}, "thing 'grid:size=3,shape=round': turn has no effect here; leave it out"),
        ({"size": "many"}, "thing 'grid': size must be a whole number, not 'many'"),
    ],
)
def test_wrong_parameters_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**settings)  # type: ignore[arg-type]
