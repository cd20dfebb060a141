"""A few kills of workers and commands; ``python -m tests.durability.kill 50`` makes many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.kill import MODES, Torture

KILLS = 2


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("mode", MODES)
def test_a_study_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path, mode: str) -> None:
    if mode == "dask":
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    report = Torture(mode, tmp_path, milliseconds=0.2).run(KILLS)
    assert report.kills.total() == KILLS
    assert report.studies > 0
    assert not report.tracebacks
