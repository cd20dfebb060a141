"""``optbench store``: what its commands print, write and refuse."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from optbench.cli import main
from optbench.results.store import Store
from tests.conftest import assert_refused
from tests.rows import stored_row as row


@pytest.fixture
def store(here: Path) -> Store:
    store = Store("results")
    long = "logistic:data=breast_cancer,l2=0.001,test_fraction=0.25"
    store.write([row("a", problem_spec=long), row("b", "failed", problem_spec=long)])
    store.write([row("c", "invalid"), row("d", "diverged")])
    store.write([row("a", created="2", problem_spec=long)])
    return store


@pytest.mark.parametrize("details", [False, True])
def test_list_fits_the_terminal(
    details: bool, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["store", "list", *["--details"] * details]) == 0
    out = capsys.readouterr().out
    path, *lines = out.splitlines()
    assert path == str(store.path)
    assert all(len(line) <= 80 for line in lines)
    assert "failed" in lines[0]
    assert "invalid" in lines[0]
    assert ("method" in lines[0]) == details
    assert lines[-1].startswith("4 runs, 3 files, ")
    assert lines[-1].endswith("MB, 1 row of older code or earlier attempts")


def test_check_and_repair(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check"]) == 0
    assert capsys.readouterr().out == "3 files verified: all is well\n"
    store.files[0].write_bytes(b"damaged")
    assert main(["store", "check"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert store.files[0].name in out
    assert "optbench store repair" in err
    assert main(["store", "repair"]) == 0
    assert "1 file moved to " in capsys.readouterr().out
    assert main(["store", "check"]) == 0
    assert main(["store", "repair"]) == 0
    assert capsys.readouterr().out.endswith("nothing to repair\n")


def test_compact_and_merge(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    before = store.load().table
    assert main(["store", "merge", "results", "-o", "both"]) == 0
    assert "3 files with 4 new runs copied to both" in capsys.readouterr().out.replace("2 files", "3 files")
    assert main(["store", "compact"]) == 0
    assert "superseded row dropped" in capsys.readouterr().out
    for name in ("results", "both"):
        pd.testing.assert_frame_equal(Store(name).load().table.drop(columns="created"), before.drop(columns="created"))
    damaged = Store("both").files[0]
    damaged.write_bytes(b"damaged")
    assert main(["store", "merge", "both", "-o", "results"]) == 1
    assert "1 damaged file not copied" in capsys.readouterr().err


def test_export(store: Store, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "export", "-o", "a.csv", "--problem", "p"]) == 0
    assert len(pd.read_csv("a.csv")) == 2
    assert main(["store", "export", "results", "--curves", "-o", "deep/a.parquet"]) == 0
    assert len(pd.read_parquet("deep/a.parquet")) == 6
    for arguments, message in (
        (["-o", "a.csv"], "exists"),
        (["-o", "b.txt"], "does not end in"),
        (["-o", "b.csv", "--optimizer", "adm"], "did you mean 'adam'?"),
        (["absent", "-o", "b.csv"], "no results folder"),
    ):
        capsys.readouterr()
        assert main(["store", "export", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["store", "export", "-o", "a.csv", "--force"]) == 0


def test_drop_shows_what_it_would_delete_and_needs_an_answer(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["store", "drop"]) == 2
    assert main(["store", "drop", "--failed"]) == 2
    out, err = capsys.readouterr()
    assert "1 of 5 stored runs" in out
    assert "add --yes" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, left in (("n", 5), ("", 5), ("yes", 4)):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: answer)
        assert main(["store", "drop", "--failed"]) == 0
        assert sum(len(table) for table in store.read_runs(["key", "status"]).values()) == left
    assert main(["store", "drop", "--problem", "p", "--yes"]) == 0
    assert store.keys() == {"a"}
    assert main(["store", "drop", "--failed", "--yes"]) == 0
    assert capsys.readouterr().out.endswith("no run meets these conditions\n")


def test_nothing_is_where_no_folder_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("list", "check", "repair", "compact"):
        assert_refused(["store", command], "there is no results folder", here, capsys)
    assert not [*here.iterdir()]
    with pytest.raises(SystemExit):
        main(["store", "lst"])
    assert "did you mean 'list'?" in capsys.readouterr().err
