"""Anchors: names of the parts of a page, made from their labels, so that a link outlives a page that grows."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable


def slug(label: str) -> str:
    """A label in letters, digits and hyphens: ``logistic:data=breast_cancer,l2=1`` is ``logistic-breast-cancer-l2-1``.

    The name of a data set stands without ``data``. A label without a Latin letter or digit is ``unnamed``.
    """
    text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\bdata=", " ", text)).strip("-") or "unnamed"


def unique_anchors(labels: Iterable[str], parts: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """The anchor of each label, in this order; those whose slugs are alike are numbered.

    Parameters
    ----------
    parts : iterable of str
        What else has an anchor of its own: the anchor of the label, a hyphen and one of these.
    taken : iterable of str
        Anchors that the page uses for something else.
    """
    parts, used, anchors = list(parts), set(taken), {}
    for label in labels:
        for number in itertools.count(1):
            anchor = slug(label) + (f"-{number}" if number > 1 else "")
            mine = {anchor, *(f"{anchor}-{part}" for part in parts)}
            if not mine & used:
                break
        used |= mine
        anchors[label] = anchor
    return anchors
