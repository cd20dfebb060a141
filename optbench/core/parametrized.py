"""Dataclasses whose fields are parameters: checks of their values, and the spec that makes the same object again."""

from __future__ import annotations

from typing import Any, ClassVar

from optbench.core.errors import InputError
from optbench.core.specs import coerce, format_spec, parameters


class Parametrized:
    """Base of dataclasses that are registered under a name and made by a spec.

    Attributes
    ----------
    kind : str
        What the objects are, for messages: ``"problem"``.
    name : str
        The registered name.
    always_shown : tuple of str
        Parameters that `spec` names even at their defaults, because a reader wants to see them.
    """

    kind: ClassVar[str] = "object"
    name: ClassVar[str] = ""
    always_shown: ClassVar[tuple[str, ...]] = ()

    @property
    def idle(self) -> frozenset[str]:
        """Parameters without effect, given the values of the others: the size of synthetic data when a file is read."""
        return frozenset()

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that have an effect, by name."""
        return {name: getattr(self, name) for name in parameters(type(self)) if name not in self.idle}

    @property
    def spec(self) -> str:
        """Text that makes this object again: its name and the parameters that differ from their defaults."""
        declared = parameters(type(self))
        shown = {
            name: value
            for name, value in self.params.items()
            if value != declared[name].default or name in self.always_shown
        }
        return format_spec(self.name or type(self).__name__, shown)

    def __str__(self) -> str:
        return self.spec

    def check_parameters(self) -> None:
        """Convert every parameter to its declared type, and check its range; the first call in ``__post_init__``.

        Raises
        ------
        InputError
            If a value is not of the type or out of range, or a parameter that has no effect is set.
        """
        declared = parameters(type(self))
        for name, parameter in declared.items():
            setattr(self, name, coerce(f"{self.kind} {self.name!r}", parameter, getattr(self, name)))
        for name in sorted(self.idle):
            if getattr(self, name) != declared[name].default:
                raise InputError(f"{self.kind} {self.spec!r}: {name} has no effect here; leave it out")
