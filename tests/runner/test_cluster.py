"""Commands on a Dask cluster of which workers or the scheduler are killed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from optbench.results.store import Store
from tests.durability.kill import Torture, contents_of, end, start, wait_until

LIMIT = 60.0  # seconds in which a command must end: 30 to notice the loss, and the rest on a busy machine

pytestmark = [
    pytest.mark.slow(reason="starts a cluster, and waits until the grace period for lost workers is over"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc"),
]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Torture]:
    """A study of some seconds, and a scheduler with two workers, which are processes."""
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    study = Torture("dask", tmp_path, milliseconds=3)
    study.cluster.repair()
    with distributed.Client(scheduler_file=str(study.cluster.file), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=LIMIT)
    yield study
    study.cluster.stop()


def kill(study: Torture, names: list[str]) -> None:
    for name in names:
        os.killpg(study.cluster.processes[name].pid, signal.SIGKILL)  # a worker and the nanny that would replace it


def outcome(study: Torture, before: list[str], during: list[str]) -> tuple[int, str]:
    """Exit status and messages of a command; what is named is killed before it, or after its first results."""
    kill(study, before)
    address = json.loads(study.cluster.file.read_text())["address"]
    command = ["-m", "optbench", "run", "study.toml", "-o", "store", "--no-report", "--dask", address]
    process = start(command, study.folder, "command", study.errors)
    try:
        if during:
            store = study.folder / "store"
            wait_until(lambda: (store / "v3").is_dir() and contents_of(store), "the first results")
            kill(study, during)
        status = process.wait(LIMIT)
    finally:
        end("command")
        process.wait()
    return status, study.errors.read_text()


def requested(messages: str) -> int:
    """The number of runs of the study."""
    return int(re.findall(r"(\d+) runs to compute", messages)[0])


def test_a_study_survives_the_death_of_a_worker(study: Torture) -> None:
    status, messages = outcome(study, [], ["worker 1"])
    assert status == 0, messages
    assert "1 of 2 Dask workers were lost" in messages
    assert len(Store(study.folder / "store").load()) == requested(messages)


@pytest.mark.parametrize(
    ("before", "during", "reason"),
    [
        ([], ["worker 1", "worker 2"], "all Dask workers were lost"),
        ([], ["scheduler"], "the connection to the Dask scheduler was lost"),
        (["worker 1", "worker 2"], [], "the Dask scheduler has no workers; start some"),
    ],
    ids=["workers", "scheduler", "workers before"],
)
def test_a_lost_cluster_is_reported(study: Torture, before: list[str], during: list[str], reason: str) -> None:
    status, messages = outcome(study, before, during)
    assert status == 1, messages
    assert "Traceback" not in messages
    assert "distributed." not in messages
    runs = requested(messages)
    missing = runs - len(Store(study.folder / "store").load())
    assert missing > 0
    assert f"{missing} of {runs} runs are missing ({missing}: {reason})" in messages
