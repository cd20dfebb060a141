"""What is declared of an optimizer or a schedule when it is registered, besides its formula."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optbench.core.specs import Interval


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What holds for an optimizer or schedule. The property tests read it, and so do the checks of settings.

    Attributes
    ----------
    full_batch : bool
        Whether a mini-batch would mislead it: it compares values of different points, or its name promises the gradient of
        the whole objective.
    elementwise : bool
        Whether a rule treats every number alone, so that it can be compiled number by number. A rule that reduces over the
        parameters of a run runs uncompiled.
    per_run : tuple of str
        State of a rule that is one number per run, of shape (R, 1); other state has the shape (R, d).
    decay : str or None
        Hyperparameter that moves x even where the gradient is zero, such as ``"weight_decay"``.
    equivariances : tuple of str
        Changes of the problem that commute with the optimizer: ``"rotation"``, ``"flip"`` (permutations and signs of
        coordinates), ``"shift"`` and ``"affine"`` of x, and ``"scale"`` of f (at ``eps=0``).
    special_cases : mapping of str to str
        Spec of an equal optimizer by the settings that make this one equal to it: ``{"beta=0": "sgd"}``.
    accuracy : float
        Fraction of the initial gap that it goes below within 400 steps on an easy quadratic.
    ranges : mapping of str to Interval or None
        Ranges of hyperparameters; None lifts a range that a standard name has by default.
    """

    full_batch: bool = False
    elementwise: bool = True
    per_run: tuple[str, ...] = ()
    decay: str | None = None
    equivariances: tuple[str, ...] = ("flip", "shift")
    special_cases: Mapping[str, str] = field(default_factory=dict)
    accuracy: float = 1e-10
    ranges: Mapping[str, Interval | None] = field(default_factory=dict)
