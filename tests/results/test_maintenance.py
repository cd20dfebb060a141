"""Maintenance of results folders: nothing is lost, whatever happens, and tables stay what they were."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from optbench.core.errors import InputError, StoreError
from optbench.results import files, maintenance
from optbench.results.runs import Runs
from optbench.results.schema import to_arrow
from optbench.results.store import Store
from tests.rows import race_rows
from tests.rows import stored_row as row


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A folder with copies, failures, older code, two environments, a race and another table."""
    store = Store(tmp_path / "results")
    machines = [{"machine": name} for name in "ab"]
    store.write_runs(to_arrow([row("a"), row("b", problem_spec="q"), row("c", "failed")]), machines[0])
    store.write_runs(to_arrow([row("a", created="2"), row("c", "failed", created="2")]), machines[0])
    store.write_runs(to_arrow([row("b", "failed", created="3", problem_spec="q")]), machines[1])
    store.write_runs(to_arrow([row("a2", identity="a", created="4"), row("d", "invalid")]), machines[1])
    store.write_race(race_rows("a"))
    store.write_table("gpu", "b", [{"a": 1.0}], {"a": ("double", "a number")})
    return store


def contents(store: Store) -> tuple[dict[str, tuple[str, str]], list[dict[str, str]], int]:
    """Status and date of every loaded run by its key, the environments, and the number of rows of other tables."""
    runs = Store(store.path).load()
    rows = {key: (status, created) for key, status, created in runs.rows[["key", "status", "created"]].to_numpy()}
    return rows, runs.environments, len(store.load_races()) + len(store.load_table("gpu"))


def test_every_row_is_listed(store: Store) -> None:
    rows = maintenance.stored_rows(store)
    assert len(rows) == 8
    assert rows["current"].sum() == len(store.load()) == 4
    assert rows["bytes"].sum() == pytest.approx(sum(path.stat().st_size for path in store.files))
    assert set(rows["file"]) == set(store.files)
    (store.path / "empty").mkdir()
    assert maintenance.stored_rows(Store(store.path / "empty")).empty


def test_compaction_changes_no_table(store: Store) -> None:
    before, runs = contents(store), store.load()
    assert maintenance.compact(store) == ((4, 2), (8, 5))  # a file for each environment; a, b, c, a2 and d
    assert contents(store) == before
    pd.testing.assert_frame_equal(store.load().table, runs.table)
    pd.testing.assert_frame_equal(store.load().curves, runs.curves)
    assert store.keys() == {"a", "b", "c", "a2", "d"}
    names = store.files
    assert maintenance.compact(store) == ((2, 2), (5, 5))
    assert store.files == names
    assert maintenance.check(store) == []


def test_large_files_are_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "FILE_ROWS", 2)
    other = Store(store.path.parent / "large")
    for key in "abcd":
        other.write_runs(to_arrow([row(key), row(2 * key)]), {})
    assert maintenance.compact(other) == ((4, 4), (8, 8))
    other.write_runs(to_arrow([row("e")]), {})
    other.write_runs(to_arrow([row("f")]), {})
    assert maintenance.compact(other) == ((6, 5), (10, 10))
    other.write_runs(to_arrow([]), {})
    assert len(other.load()) == 10


def fails_at(count: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The function, but it raises an error from its call number `count` on."""
    calls = iter(range(1_000_000))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= count:
            raise error
        return function(*arguments, **named)

    return call


@pytest.mark.parametrize("count", range(3))
@pytest.mark.parametrize("name", ["fsync", "replace", "unlink"])
def test_compaction_may_end_at_any_point(name: str, count: int, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(store)
    error = KeyboardInterrupt() if count % 2 else OSError(errno.ENOSPC, "No space left on device")
    owner: Any = os if name == "fsync" else Path
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails_at(count, getattr(owner, name), error))
        with contextlib.suppress(OSError, KeyboardInterrupt):
            maintenance.compact(store)
    assert contents(store) == before
    maintenance.compact(store)
    assert contents(store) == before
    assert len(store.files) == 2


def test_what_is_written_meanwhile_survives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _, _ = contents(store)
    write_runs = Store.write_runs

    def write_more(self: Store, *arguments: Any) -> Path:
        write_runs(self, to_arrow([row("new")]), {"machine": "a"})
        return write_runs(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_runs", write_more)
        maintenance.compact(store)
    assert contents(store)[0] == before | {"new": ("budget", "1")}


def test_one_process_maintains(store: Store) -> None:
    with files.locked(store.path / "maintenance.lock"):
        for work in (maintenance.compact, maintenance.repair, lambda store: maintenance.merge(store, [])):
            with pytest.raises(StoreError, match="another process maintains"):
                work(store)


def test_check_and_repair(store: Store) -> None:
    assert maintenance.check(store) == []
    assert maintenance.repair(store) == ({}, 0, [])
    bad = [store.files[0], store.table_files("races")[0]]
    for path in bad:
        data = path.read_bytes()
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    (store.path / "v3" / "old.tmp").touch()
    os.utime(store.path / "v3" / "old.tmp", (0, 0))
    runs = pq.read_metadata(bad[0]).num_rows
    lines = maintenance.check(store)
    assert [line.split(": ")[0] for line in lines] == [
        str(path.relative_to(store.path)) for path in (*bad, store.path / "v3" / "old.tmp")
    ]
    assert maintenance.check(store) == lines  # nothing has changed
    repaired = maintenance.repair(store)
    assert set(repaired.damaged) == set(bad)
    assert (repaired.lost_runs, [path.name for path in repaired.removed]) == (runs, ["old.tmp"])
    assert maintenance.check(store) == []
    assert len([path for path in (store.path / "quarantine").rglob("*") if path.is_file()]) == 2


def test_merge_copies_what_is_missing(store: Store, tmp_path: Path) -> None:
    target = Store(tmp_path / "target")
    target.write_runs(to_arrow([row("b"), row("c"), row("d", "failed")]), {})
    inodes = {path: path.stat().st_mtime_ns for path in target.files}
    copied = maintenance.merge(target, [store])
    assert copied.damaged == {}
    assert copied.runs == 3  # a, a2, and d that has a result now
    assert target.keys(failed=False) == {"a", "a2", "b", "c", "d"}
    assert (len(target.load_races()), len(target.load_table("gpu"))) == (3, 1)
    assert inodes.items() <= {path: path.stat().st_mtime_ns for path in target.files}.items()
    assert maintenance.merge(target, [store]) == (0, 0, {})
    assert maintenance.merge(Store(tmp_path / "new"), [store, target]).runs == 5
    with pytest.raises(InputError, match="merged into itself"):
        maintenance.merge(store, [store])
    with pytest.raises(StoreError, match="no results folder"):
        maintenance.merge(store, [Store(tmp_path / "absent")])


def test_merge_copies_no_damaged_file(store: Store, tmp_path: Path) -> None:
    bad = store.files[0]
    bad.write_bytes(b"damaged")
    merged = maintenance.merge(Store(tmp_path / "target"), [store])
    assert [*merged.damaged] == [bad]
    assert bad.exists()
    assert maintenance.check(Store(tmp_path / "target")) == []


@pytest.mark.parametrize(
    ("conditions", "keys"),
    [
        ({"problems": ["q"]}, {"b"}),
        ({"failed": True}, {"b", "c"}),
        ({"invalid": True}, {"d"}),
        ({"failed": True, "invalid": True, "optimizers": ["adam"]}, {"b", "c", "d"}),
        ({"older_code": True}, {"a"}),
        ({"problems": ["q"], "older_code": True}, set()),
    ],
)
def test_dropped_rows_are_those_that_meet_all_conditions(
    conditions: dict[str, Any], keys: set[str], store: Store
) -> None:
    rows = maintenance.stored_rows(store)
    found = maintenance.find(rows, **conditions)
    assert set(found["key"]) == keys
    assert maintenance.drop(store, found) == len(found)
    left = maintenance.stored_rows(store)
    assert len(left) == len(rows) - len(found)
    identifying = ["key", "created", "status"]
    assert set(left[identifying].itertuples(index=False)) == set(
        rows.drop(found.index)[identifying].itertuples(index=False)
    )
    assert maintenance.check(store) == []


def test_unknown_names_get_a_suggestion(store: Store) -> None:
    with pytest.raises(InputError, match="no runs of the optimizer 'adm'; did you mean 'adam'"):
        maintenance.find(maintenance.stored_rows(store), optimizers=["adm"])


@pytest.mark.parametrize("curves", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".jsonl"])
def test_exported_tables_can_be_read(suffix: str, curves: bool, store: Store, tmp_path: Path) -> None:
    runs, path = store.load(), tmp_path / f"runs{suffix}"
    table = runs.curves if curves else runs.table
    assert maintenance.export(runs, path, curves=curves) == path
    if suffix == ".csv":
        read = pd.read_csv(path)
    elif suffix == ".parquet":
        read = pd.read_parquet(path)
    else:
        text = path.read_text("utf-8")
        read = pd.DataFrame(json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.splitlines()])
    assert list(read.columns) == list(table.columns)
    numbers = ["t", "calls", "f", "gradient_norm"] if curves else ["seed", "steps", "budget_calls"]
    pd.testing.assert_frame_equal(read[numbers], table[numbers], check_dtype=False)
    with pytest.raises(InputError, match="exists"):
        maintenance.export(runs, path, curves=curves)
    before = path.read_bytes()
    maintenance.export(runs, path, curves=curves, force=True)
    assert path.read_bytes() == before


def test_tables_are_exported_in_known_formats_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a\.xlsx' does not end in"):
        maintenance.export(Runs.from_rows([]), tmp_path / "a.xlsx")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(InputError, match="exists"):
        maintenance.export(Runs.from_rows([]), tmp_path / "a.csv", force=True)
