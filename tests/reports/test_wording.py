"""Numbers and names as text."""

from __future__ import annotations

import numpy as np
import pytest

from reports import wording


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.234e-5, 1.1e-5, 1.3e-5), ("12.3 µs", "11.0 to 13.0")),
        ((0.5, 0.25, np.inf), ("500 ms", "250 to never")),
        ((12.3456, 12.0, 13.0), ("12.3 s", "12.0 to 13.0")),
        ((-2e-8, -1e-6, 1e-6), ("-0.0200 µs", "-1.0000 to 1.0000")),
        ((250.0, 240.0, 260.0), ("250 s", "240 to 260")),
        ((np.inf, 1.0, np.inf), ("–", "")),
        ((np.nan, np.nan, np.nan), ("–", "")),
    ],
)
def test_durations_have_a_unit(values: tuple[float, float, float], text: tuple[str, str]) -> None:
    assert wording.duration(*values) == text


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("momentum", 8, "momentum"),
        ("gradient_descent", 9, "grad…cent"),
        ("最適化手法", 10, "最適化手法"),
        ("最適化手法", 9, "最適…手法"),
        ("😀" * 100, 22, "😀😀😀😀😀…😀😀😀😀😀"),
        ("two\nlines\t", 20, "two lines"),
    ],
)
def test_long_names_are_shortened_to_columns(name: str, width: int, shown: str) -> None:
    assert wording.shorten(name, width) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (0.0312345, "0.0312"), (4.6416, "4.64"), (1234.5, "1230"), (5.4321e-10, "5.43e-10"),
        (99_999.0, "1e5"), (1e-3, "0.001"), (-0.12255, "-0.123"), (2e300, "2e300"), (np.inf, "–"), (np.nan, "–"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([2.5e-5, 7.15e-4, 0.00182, 0.0388, 0.0], ["2.50e-5", "7.15e-4", "1.82e-3", "3.88e-2", "0"]),
        ([0.0148, 0.0171, 1.2, 0.0, np.nan], ["0.0148", "0.0171", "1.2000", "0.0000", "–"]),
        ([41.0, 1230.0, 99_999.0, np.inf], ["41", "1230", "99999", "–"]),
        ([-0.5, 12.25], ["-0.500", "12.250"]),
        ([1.0, 123_456_789.0], ["1.00e0", "1.23e8"]),
        ([np.nan, None], ["–", "–"]),
    ],
)
def test_the_numbers_of_a_column_share_a_notation(values: list[float], texts: list[str]) -> None:
    assert [*map(wording.notation(values), values)] == texts


def test_a_column_of_calls_has_two_digits() -> None:
    assert [*map(wording.notation([8.3, 179.0], 2), [8.3, 179.0])] == ["8.3", "179.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.2, "3.2"), (0.064, "0.064"), (5.0, "5"), (41.4, "41"), (99_999, "99999"), (1e6, "1e6"), (np.inf, "–")],
)
def test_calls_are_whole_from_ten_on(value: float, text: str) -> None:
    assert wording.calls(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "none"), (0.001, "less than 1 %"), (0.5, "50 %"), (0.998, "more than 99 %"), (1, "all")]
)
def test_percentages_never_round_to_certainty(share: float, text: str) -> None:
    assert wording.percent(share) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1, "1"), (1.001, "1.00"), (1.04, "1.04"), (1.26, "1.3"), (41.2, "41"), (115, "115"), (12345, "12000"),
        (123456, "1.2e5"), (0.74, "0.74"),
    ],
)  # fmt: skip
def test_factors(ratio: float, text: str) -> None:
    assert wording.factor(ratio) == text
