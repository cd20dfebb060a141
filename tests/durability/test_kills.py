"""A few kills of workers and commands; ``python -m tests.durability.kill 50`` makes many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.kill import MODES, Torture

KILLS = {"jobs 1": 1, "jobs 2": 1, "pool": 1, "dask": 1}
MILLISECONDS = 0.2  # of an evaluation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the study that nobody has disturbed."""
    study = Torture("jobs 1", tmp_path_factory.mktemp("undisturbed"), MILLISECONDS)
    assert study.run_undisturbed("undisturbed") == 0
    return study.undisturbed


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize(
    "mode",
    [
        *(mode for mode in MODES if mode != "dask"),
        pytest.param("dask", marks=pytest.mark.slow(reason="starts a cluster and waits for its grace period")),
    ],
)
def test_a_study_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path, undisturbed: Path, mode: str) -> None:
    if mode == "dask":
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    report = Torture(mode, tmp_path, MILLISECONDS, undisturbed=undisturbed).run(KILLS[mode])
    assert report.kills.total() == KILLS[mode]
    assert report.studies > 0
    assert not report.tracebacks
