"""The progress bar: drawn in terminals and notebooks only, if a call takes longer than a second."""

from __future__ import annotations

import io
import sys

import pytest

from optbench.core.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the bar reads, in seconds; tests change it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def work(bar: ProgressBar, clock: list[float], seconds: float) -> None:
    with bar:
        bar.start(10)
        for _ in range(10):
            clock[0] += seconds / 10
            bar.advance(1)


def test_nothing_is_drawn_without_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    work(ProgressBar("running"), clock, 10.0)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_the_time_left(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(ProgressBar("running"), clock, 100.0)
    drawn = sys.stderr.getvalue().split("\r")  # type: ignore[union-attr]
    assert any(
        line.startswith("running ━━━━━━ ") and line.rstrip().endswith("30 %   0:30, 1:10 left") for line in drawn
    )
    assert max(map(len, drawn)) <= 79
    assert drawn[-2].strip() == "", "the line is cleared at the end"


def test_a_short_call_draws_nothing(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(ProgressBar("running"), clock, 0.9)
    assert sys.stderr.getvalue() == ""  # type: ignore[union-attr]


def test_it_can_be_switched_on_and_off(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work(ProgressBar("running", True), clock, 10.0)
    assert "100 %" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(ProgressBar("running", False), clock, 10.0)
    assert sys.stderr.getvalue() == ""  # type: ignore[union-attr]


def test_of_returns_a_given_bar() -> None:
    bar = ProgressBar("running", False)
    assert ProgressBar.of("another", bar) is bar
