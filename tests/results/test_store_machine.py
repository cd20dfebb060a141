"""A state machine for results folders: whatever is written, killed, damaged and maintained, what is intact is returned."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from optbench.core.errors import StoreError
from optbench.core.types import Status
from optbench.results import maintenance
from optbench.results.schema import to_arrow
from optbench.results.store import Store
from tests.rows import stored_row

IDENTITIES = st.sampled_from("pqr")
CODES = st.sampled_from("12")  # versions of the code; a key is an identity and a code
STATUSES = st.sampled_from([Status.BUDGET, Status.FAILED, Status.INVALID])
CALLS = st.sampled_from([("fsync", os), ("replace", Path), ("mkdir", Path), ("unlink", Path)])

Row = tuple[str, str, str, str]  # identity, code, status, date


class StoreMachine(RuleBasedStateMachine):
    """A folder beside a model of it: the rows of every file."""

    def __init__(self) -> None:
        super().__init__()
        self.cleanup = contextlib.ExitStack()
        self.store = Store(Path(self.cleanup.enter_context(tempfile.TemporaryDirectory())) / "results")
        self.store.check_writable()
        self.files: dict[Path, list[Row]] = {}
        self.clock = 0

    def teardown(self) -> None:
        self.cleanup.close()

    def new_rows(self, parts: list[tuple[str, str, Status]]) -> tuple[Any, list[Row]]:
        self.clock += 1
        rows = [(identity, code, str(status), f"{self.clock:05}") for identity, code, status in parts]
        table = to_arrow([stored_row(row[0] + row[1], row[2], row[0], row[3], code=row[1]) for row in rows])
        return table, rows

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.files.values() for row in rows]

    def read_model(self) -> None:
        """What the files hold after maintenance, whose invariants the caller checks."""
        self.files = {
            path: [
                (row["identity"], row["code"], row["status"], row["created"])
                for row in table.select(["identity", "code", "status", "created"]).to_pylist()
            ]
            for path, table in self.store.read_runs().items()
        }

    @rule(parts=st.lists(st.tuples(IDENTITIES, CODES, STATUSES), max_size=4, unique_by=lambda part: part[:2]))
    def write(self, parts: list[tuple[str, str, Status]]) -> None:
        table, rows = self.new_rows(parts)
        self.files[self.store.write_runs(table, {"machine": "a"})] = rows

    @rule(call=CALLS, at=st.integers(0, 2), part=st.tuples(IDENTITIES, CODES, STATUSES), error=st.booleans())
    def write_and_die(self, call: tuple[str, Any], at: int, part: tuple[str, str, Status], error: bool) -> None:
        table, rows = self.new_rows([part])
        with self.dying(*call, at, OSError(28, "No space left") if error else KeyboardInterrupt()):
            self.files[self.store.write_runs(table, {"machine": "a"})] = rows
        for path in set(self.store.files) - set(self.files):  # it died after the file was complete
            self.files[path] = rows

    @contextlib.contextmanager
    def dying(self, name: str, owner: Any, at: int, error: BaseException) -> Any:
        function, calls = getattr(owner, name), iter(range(1_000_000))

        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) >= at:
                raise error
            return function(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(OSError, KeyboardInterrupt):
            patch.setattr(owner, name, call)
            yield

    @precondition(lambda self: self.files)
    @rule(data=st.data(), place=st.floats(0, 1, exclude_max=True), kind=st.sampled_from(["bit", "cut", "rename"]))
    def damage(self, data: st.DataObject, place: float, kind: str) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        content = bytearray(path.read_bytes())
        if kind == "rename":
            path.rename(path.with_name("0" * 64 + ".parquet"))
        elif kind == "bit":
            content[int(place * len(content))] ^= 1 << self.clock % 8
            path.write_bytes(content)
        else:
            path.write_bytes(content[: int(place * len(content))])
        del self.files[path]
        assert maintenance.check(self.store)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.store.keys()
        assert len(caught) == 1

    @rule(call=CALLS, at=st.integers(0, 4))
    def compact(self, call: tuple[str, Any], at: int) -> None:
        before = self.rows
        with self.dying(*call, at, KeyboardInterrupt()):
            maintenance.compact(self.store)
        self.read_model()
        assert set(self.rows) <= set(before)
        keys = {(row[0], row[1]) for row in before if row[2] != Status.FAILED}
        assert {(row[0], row[1]) for row in self.rows if row[2] != Status.FAILED} == keys
        assert {row[0] for row in self.rows} == {row[0] for row in before}

    @rule(failed=st.booleans(), optimizers=st.sampled_from([[], ["adam"]]))
    def drop(self, failed: bool, optimizers: list[str]) -> None:
        before = self.rows
        found = maintenance.find(
            maintenance.stored_rows(self.store), failed=failed, optimizers=optimizers * bool(before)
        )
        assert len(found) == sum(row[2] == Status.FAILED or not failed for row in before)
        if failed:
            assert maintenance.drop(self.store, found) == len(found)
            self.read_model()
            assert sorted(self.rows) == sorted(row for row in before if row[2] != Status.FAILED)

    @rule()
    def merge(self) -> None:
        before = self.expected(self.rows)
        with tempfile.TemporaryDirectory() as folder:
            target = Store(folder)
            maintenance.merge(target, [self.store])
            rows = target.load().rows
            assert {(row[0], row[1]) for row in before} == set(
                rows[["identity", "code"]].itertuples(index=False, name=None)
            )
            assert maintenance.merge(target, [self.store]).files == 0

    @rule()
    def lose_nothing_by_repair(self) -> None:
        assert maintenance.repair(self.store).damaged == {}

    def expected(self, rows: list[Row]) -> set[Row]:
        """A row of each identity: a failed one only without another, then the newest, then the larger key."""
        best: dict[str, Row] = {}
        for row in sorted(rows, key=lambda row: (row[2] != Status.FAILED, row[3], row[0] + row[1])):
            best[row[0]] = row
        return set(best.values())

    @invariant()
    def what_is_intact_is_loaded(self) -> None:
        rows = self.store.load().rows[["identity", "code", "status", "created"]]
        assert set(rows.itertuples(index=False, name=None)) == self.expected(self.rows)
        assert self.store.keys() == {row[0] + row[1] for row in self.rows}
        assert self.store.keys(failed=False) == {row[0] + row[1] for row in self.rows if row[2] != Status.FAILED}


def test_a_store_returns_what_is_intact() -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=6, stateful_step_count=12, deadline=None, derandomize=True, suppress_health_check=slow
        ),
    )


def test_the_store_refuses_what_it_could_not_return(tmp_path: Path) -> None:
    row = stored_row("a")
    with pytest.raises(StoreError, match="there is a key twice"):
        Store(tmp_path).write([row, row])
