"""Anchors of the page."""

from __future__ import annotations

import pytest

from reports.page.anchors import slug, unique_anchors


@pytest.mark.parametrize(
    ("label", "anchor"),
    [
        ("logistic:data=breast_cancer", "logistic-breast-cancer"),
        ("logistic:data=breast_cancer,l2=1", "logistic-breast-cancer-l2-1"),
        ("quadratic:dim=100,condition=1e4", "quadratic-dim-100-condition-1e4"),
        ("Ähnlich & gleich", "ahnlich-gleich"),
        ('"><script>', "script"),
        ("最適化", "unnamed"),
    ],
)
def test_anchors_are_url_safe_names(label: str, anchor: str) -> None:
    assert slug(label) == anchor


def test_alike_labels_are_numbered() -> None:
    assert unique_anchors(["a b", "a-b", "a:b"], (), ()) == {"a b": "a-b", "a-b": "a-b-2", "a:b": "a-b-3"}


def test_anchors_of_parts_and_of_the_page_are_taken() -> None:
    anchors = unique_anchors(["x:best", "x", "speed"], ("best",), ("speed",))
    assert anchors == {"x:best": "x-best", "x": "x-2", "speed": "speed-2"}  # else x-best would be the figure of x, too


def test_a_further_problem_changes_no_anchor() -> None:
    few = unique_anchors(["mlp", "valley"], ("best",), ())
    assert few.items() <= unique_anchors(["beale", "mlp", "valley"], ("best",), ()).items()
