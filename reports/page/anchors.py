"""Anchors made from labels, so that links stay valid when a page grows."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable


def slug(label: str) -> str:
    """A label in letters, digits and hyphens: ``logistic:data=breast_cancer,l2=1`` is ``logistic-breast-cancer-l2-1``.

    ``data=`` is omitted. A label without Latin letters and digits is ``unnamed``.
    """
    text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\bdata=", " ", text)).strip("-") or "unnamed"


def unique_anchors(labels: Iterable[str], parts: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """The anchor of each label, in this order; equal slugs are numbered.

    Parameters
    ----------
    parts : iterable of str
        Suffixes of further anchors: the anchor of the label, a hyphen and one of these.
    taken : iterable of str
        Anchors that are in use elsewhere on the page.
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
