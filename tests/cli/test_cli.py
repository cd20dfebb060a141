"""The command line as a person meets it: what it prints, what it writes and what it says when asked for the impossible."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from optbench import __version__
from optbench.analysis import timing
from optbench.cli import main
from optbench.cli.catalogue import facts, parameter_rows
from optbench.cli.console import make_console, print_table
from optbench.cli.race import verdict
from optbench.core.imports import origin_of
from optbench.core.registry import OPTIMIZERS, PROBLEMS, SCHEDULES, Registry
from optbench.results.store import Store
from optbench.runner.study import load_study, suites
from tests.conftest import assert_refused, run_python

SMALL = ["run", "--problem", "quadratic:dim=4", "--problem", "logistic:data=iris", "--optimizer", "adam"]
SMALL += ["--optimizer", "lbfgs", "--seeds", "2", "--steps", "40", "--lr", "0.01,0.1", "--jobs", "1"]


def test_run_prints_writes_a_page_and_computes_nothing_the_second_time(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SMALL) == 0
    first, err = capsys.readouterr()
    assert "12 runs to compute" in err
    for word in ("2 problems together", "adam", "lbfgs", "results/report.html"):
        assert word in first
    table = Store("results").load().table
    assert len(table) == 12
    page = (here / "results/report.html").read_bytes()
    assert len(page) > 10_000
    assert main(SMALL) == 0
    out, err = capsys.readouterr()
    assert "0 runs to compute, 12 found" in err
    assert out == first
    assert (here / "results/report.html").read_bytes() == page
    pd.testing.assert_frame_equal(Store("results").load().table, table)


def test_two_stores_of_the_same_command_hold_the_same_tables(here: Path) -> None:
    for folder in ("a", "b"):
        assert main([*SMALL, "-o", folder, "--no-report"]) == 0
        assert not (here / folder / "report.html").exists()
    a, b = (Store(folder).load() for folder in ("a", "b"))
    pd.testing.assert_frame_equal(a.table.drop(columns="created"), b.table.drop(columns="created"))
    pd.testing.assert_frame_equal(a.curves, b.curves)


def test_report_writes_the_page_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--no-report"]) == 0
    assert main(["report", "results"]) == 0
    assert main(["report", "results", "-o", "site", "--title", "A title"]) == 0
    assert main(["report", "results", "-o", "deep/er/page.html"]) == 0
    assert "A title" in (here / "site/index.html").read_text(encoding="utf-8")
    assert (here / "deep/er/page.html").exists()


def test_a_study_file_and_its_overrides(here: Path) -> None:
    (here / "s.toml").write_text("[[compare]]\nproblems=['quadratic:dim=3']\noptimizers=['sgd']\nlr=[0.1]\nseeds=5\n")
    assert main(["run", "s.toml", "--seeds", "2", "--calls", "11", "--jobs", "1", "--no-report"]) == 0
    rows = Store("results").load().rows
    assert len(rows) == 2
    assert set(rows["steps"]) == {10}
    assert main(["run", "s.toml", "--seeds", "3,", "--steps", "5", "--jobs", "1", "--no-report"]) == 0
    assert set(Store("results").load().rows["seed"]) == {0, 1, 3}


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for registry in (PROBLEMS, OPTIMIZERS, SCHEDULES):
        for name in registry.names():
            assert name in out
    assert "default" in out
    assert out.endswith("\noptbench list NAME shows everything about one of them.\n")


def test_list_shows_title_and_file_of_a_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "default"]) == 0
    name, title, file, *_ = lines_of(capsys)
    assert name == "suite default"
    assert title == suites()["default"]
    assert load_study(file).title == title


OWN_RULE = """
import optbench

@optbench.rule
def adamax(xp, x, g, t, u, lr=0.001, beta2=0.999, eps=1e-8):
    '''AdaMax.

    Parameters
    ----------
    eps : float
        Smallest norm.
    '''
    u = xp.maximum(beta2 * u, abs(g))
    return x - lr * g / (u + eps), u
"""


def test_meanings_of_own_parameters_come_from_the_docstring(here: Path) -> None:
    (here / "mine.py").write_text(OWN_RULE)
    shown = run_python("-m", "optbench", "list", "--import", "mine.py", "adamax", cwd=here).stdout
    assert "Smallest norm." in shown
    assert "decay rate" not in shown


def test_list_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "logistic", "adam", "linear"]) == 0
    out = capsys.readouterr().out
    assert "number at least 0" in out
    assert "Kingma & Ba 2015" in out
    assert "m_hat = m / (1 - beta1**t)" in out


def test_check_passes_and_shows_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "quadratic:dim=5", "logistic"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 problems passed" in out
    assert "f* = 0.100446303781" in out


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["run"], ["list"], ["check"], ["report"], ["race"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert "optbench run" in out or "examples:" in out
    assert "optbench race --problem" in out
    assert "--no-fused" in out


ONE, RACE = ([command, "--problem", "quadratic", "--optimizer", "adam"] for command in ("run", "race"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nosuch"], "no suite 'nosuch'"),
        (["run", "absent.toml"], "cannot read the study"),
        (["run", "--problem", "quadratic"], "--optimizer is missing"),
        (["run", "default", "--problem", "quadratic"], "not both"),
        (["run", "--problem", "quadratc", "--optimizer", "adam"], "did you mean 'quadratic'"),
        (["run", "--problem", "quadratic", "--optimizer", "adm"], "did you mean 'adam'"),
        (["run", "--problem", "quadratic:dim=-3", "--optimizer", "adam"], "dim must be at least 1, not -3"),
        (["run", "--problem", "quadratic:dim=x", "--optimizer", "adam"], "dim must be a whole number"),
        (["run", "--problem", "logistic:data=no.csv", "--optimizer", "sgd"], "no.csv"),
        (["run", "--problem", "logistic:data=nan.csv", "--optimizer", "sgd"], "nan.csv"),
        (["run", "--problem", "logistic", "--optimizer", "lbfgs", "--batch-size", "8"], "lbfgs compares values"),
        ([*ONE, "--batch-size", "8,x"], "batch_size must be a whole number"),
        ([*ONE, "--batch-size", "8"], "no mini-batches"),
        ([*ONE, "--lr", "0"], "positive numbers"),
        ([*ONE, "--lr", "1e-2-10"], "low:high:count or {low, high, per_decade}, not '1e-2-10'"),
        (["run", "study.tml"], "did you mean 'study.toml'?"),
        (["run", "--problem", "quadratic", "--optimizer", "adam:beta=0.9"], "did you mean 'beta1' or 'beta2'?"),
        (
            ["check", "logistic:data=semicolon.csv"],
            "at least one feature and a label; .csv files are separated by commas",
        ),
        ([*ONE, "--lr", "1:2:1e12"], "from 1 to 10000"),
        ([*ONE, "--lr=-1:2:3"], "0 < low <= high"),
        ([*ONE, "--seeds", "9" * 30], "a number of seeds"),
        ([*ONE, "--calls", "-4"], "calls must be above 0"),
        ([*ONE, "--steps", "1" + "0" * 30], "steps must be a whole number"),
        ([*ONE, "--schedule", "drops:at=2"], "at must be in (0, 1), not 2"),
        (["run", ""], "cannot read the study"),
        (["run", "--problem", "quadratic:dim=1000000", "--optimizer", "adam"], "dim must be at most 20000"),
        (["check", "quadratic:dim=1e30,rotate=false"], "dim must be a whole number below 2^63, not '1e30'"),
        (["check", "mlp:hidden=-3"], "hidden must be numbers"),
        ([*ONE, "--calls", "1e300"], "at most 1e+10, not 1e+300"),
        ([*ONE, "--seeds", "100000000"], "seeds must be at least 1 and at most 1000000"),
        ([*ONE, "--seeds", "1" * 5000], "seeds must be"),
        ([*ONE, "--schedule", "cosine:warmup=2"], "warmup must be in [0, 1), not 2"),
        ([*ONE, "--schedule", "x" * 5000], "no schedule 'xxx"),
        (["run", "x" * 5000], "no suite 'xxx"),
        (["list", "x" * 5000], "nothing is called 'xxx"),
        (["check", "logistic:data=~nosuchuser/x.csv"], "there is no file ~nosuchuser/x.csv"),
        (["check", "quadratic:dim=1e9,rotate=false"], "dim must be at most 1e+08"),
        (["check", "--import", "", "beale"], "cannot import ''"),
        (["check", "\udcff"], "is not UTF-8"),
        ([*ONE, "--steps", "0"], "at least one step"),
        ([*ONE, "--schedule", "cosin"], "did you mean 'cosine'"),
        ([*ONE, "--jobs", "0"], "jobs must be at least 1"),
        ([*ONE, "--device", "tpu"], "choose cpu"),
        ([*ONE, "-o", "file"], "'file' cannot be written"),
        (["report", "absent"], "'absent'; optbench run creates one"),
        (["report", "."], "no results in '.'"),
        (["list", "adamm"], "did you mean 'adam'"),
        (["check", "logstic"], "did you mean 'logistic'"),
        (["check", "--seed", "-1"], "seed must be at least 0"),
        (["race"], "--problem is missing"),
        (["race", "--problem", "quadratic"], "--optimizer is missing"),
        (["race", "--problem", "quadratc", "--optimizer", "adam"], "did you mean 'quadratic'"),
        (["race", "--problem", "quadratic", "--optimizer", "adm"], "did you mean 'adam'"),
        (["race", "--problem", "quadratic", "--optimizer", "adam:lr=0.1/0.2"], "several values of lr"),
        (["race", "--problem", "quadratic", "--optimizer", "lbfgs:memory=3/5"], "several values of memory"),
        (["race", "--problem", "logistic", "--optimizer", "lbfgs", "--batch-size", "8"], "lbfgs compares values"),
        ([*RACE, "--batch-size", "8"], "no mini-batches"),
        ([*RACE, "--rounds", "2"], "at least 3 rounds for its intervals, not 2"),
        ([*RACE, "--steps", "0"], "at least one step"),
        ([*RACE, "--seed", "-1"], "seed must be from 0"),
        ([*RACE, "--schedule", "cosin"], "did you mean 'cosine'"),
        ([*RACE, "--device", "tpu"], "choose cpu"),
        ([*RACE, "-o", "file"], "'file' cannot be written"),
    ],
)
def test_bad_requests_get_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (here / "file").write_text("")
    (here / "study.toml").write_text("")
    (here / "semicolon.csv").write_text("a;b;y\n1;2;0\n3;4;1\n")
    (here / "nan.csv").write_text("a,b,y\n1,2,0\n3,nan,1\n4,5,1\n")
    assert_refused(arguments, message, here, capsys)


def test_a_failed_run_is_told_and_the_status_is_1(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("optbench.problems.quadratic.Quadratic.value_and_grad", defect)
    assert main(SMALL) == 1
    err = capsys.readouterr().err
    assert "6 runs of adam, lbfgs on quadratic:dim=4 failed: ZeroDivisionError: a defect" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [[*ONE, "-o", ""], ["report", ""], ["report", ".", "--history", ""], ["check", "--seed", "1" * 5000]]
)
def test_impossible_arguments_get_one_short_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("optbench: argument ")
    assert len(line) < 500


@pytest.mark.parametrize(
    ("arguments", "function", "message"),
    [
        (SMALL, "sweep.execute", "the same command continues"),
        (RACE, "race._measure", "nothing of this race is stored"),
    ],
)
def test_an_interruption_is_no_traceback(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    function: str,
    message: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"optbench.runner.{function}", interrupt)
    assert main(arguments) == 130
    assert message in capsys.readouterr().err
    assert Store("results").table_files("races") == []


def test_as_a_module_in_its_own_process() -> None:
    assert run_python("-m", "optbench", "--version").stdout.strip() == f"optbench {__version__}"
    done = run_python("-m", "optbench", "list", "nope")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "command",
    [
        SMALL,
        [*SMALL, "--details"],
        ["list"],
        ["list", "adam"],
        ["check", "quadratic:dim=3"],
        ["race", "--problem", "quadratic:dim=3", "--optimizer", "sgd", "--optimizer", "adam", "--rounds", "5"],
    ],
    ids=lambda command: " ".join([command[0], *command[-1:]]),
)
def test_output_fits_the_terminal(
    columns: int, command: list[str], here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(command) == 0
    lines = lines_of(capsys)
    paths = [line for line in lines if ".parquet" in line]
    assert max(len(line) for line in lines if line not in paths) <= columns
    assert not [line for line in lines if line.endswith(" ")]
    assert not [line for line in lines if "\x1b" in line]  # no colour where the output is no terminal


def test_messages_of_failed_runs_fit_the_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect " * 30)

    monkeypatch.setattr("optbench.problems.quadratic.Quadratic.value_and_grad", defect)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main([*SMALL, "--no-report"]) == 1
    lines = [line for text in capsys.readouterr() for line in text.splitlines()]
    assert any(line.startswith("optbench: 6 runs of adam, lbfgs on quadratic:dim=4 failed: Zero") for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", [[], ["run"], ["race"], ["list"], ["check"], ["report"]], ids=" ".join)
def test_help_fits_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert max(map(len, lines_of(capsys))) <= 80


@pytest.mark.parametrize("columns", [20, 40, 70, 200])
def test_tables_drop_columns_and_keep_names_and_numbers(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    headings = ["method", "calls to 1e-2", "calls to 1e-4", "calls to 1e-8", "diverged"]
    rows = [["gradient_descent", "1234567", "–", "1234", "12 %"], ["adam", "–", "–", "99", "0 %"]]
    print_table(make_console(), "a problem", headings, rows, optional=(1, 4))
    out = capsys.readouterr().out
    assert ("calls to 1e-4" in out) == (columns == 200)
    assert ("calls to 1e-2" in out) == (columns >= 70)
    assert ("diverged" in out) == (columns >= 70)
    assert {"gradient_descent", "calls", "1e-8", "1234", "99"} <= set(out.split())


def test_a_pipe_has_lines_without_trailing_blanks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        SMALL,
        ["list"],
        ["list", "adam", "logistic", "default"],
        ["report", "results", "--table", "latex"],
    ):
        assert main(command) == 0
        assert not [line for line in lines_of(capsys) if line.endswith(" ") or len(line) > 1000]


def test_left_out_methods_are_counted_without_problems(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "s.toml").write_text(
        "lr=[0.1]\nseeds=1\nsteps=3\n[[compare]]\nproblems=['quadratic:dim=3','quadratic:dim=4']\n"
        "optimizers=['adam','sgd']\n[[compare]]\nproblems=['quadratic:dim=5']\noptimizers=['lbfgs']\n"
    )
    assert main(["run", "s.toml", "--no-report", "--jobs", "1"]) == 0
    assert "Not shown: 1 problem and 1 method (" in capsys.readouterr().out


def test_run_answers_first_and_prints_a_table_for_each_problem_on_request(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*SMALL, "--no-report"]) == 0
    short = lines_of(capsys)
    assert short[0].startswith("Over 2 problems: lbfgs")
    assert "2 problems are too few for any order to be significant." in short
    assert "2 problems together" in short
    assert len(short) <= 24
    assert "quadratic:dim=4" not in short
    assert main([*SMALL, "--no-report", "--details"]) == 0
    details = lines_of(capsys)
    assert details[: len(short) - 1] == short[:-1]
    assert {"quadratic:dim=4", "logistic:data=iris"} <= set(details)


def test_one_problem_is_answered_by_its_leader(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--problem", "quadratic:dim=4", "--optimizer", "adam", "--optimizer", "lbfgs", "--seeds", "2"]
    assert main([*command, "--steps", "40", "--no-report"]) == 0
    assert lines_of(capsys)[0].startswith("quadratic:dim=4: lbfgs leads, ")


@pytest.mark.parametrize("registry", [PROBLEMS, OPTIMIZERS, SCHEDULES], ids=lambda registry: registry.kind)
def test_list_describes_what_a_registration_declares(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    for name in registry.names():
        assert main(["list", name]) == 0
        out = capsys.readouterr().out
        rows = parameter_rows(registry, name)
        assert all(meaning for *_, meaning in rows) or origin_of(registry, name), (
            f"a parameter of {name} has no meaning"
        )
        words = [word for row in rows for text in row for word in text.split()]
        words += [word for text in facts(registry, name).values() for word in text.split()]
        assert {word for word in words if word not in out and len(word) < 20} == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["run", "--sedes", "3"], "unrecognized arguments: --sedes; did you mean '--seeds'?"),
        (["report", "results", "--details"], "unrecognized arguments: --details; --details belongs to optbench run"),
        (["list", "--rounds=3"], "--rounds belongs to optbench race"),
        (["run", "--optimizer", "adm"], "no optimizer 'adm'; did you mean 'adam'?"),
        (["check", "nothere"], "no problem 'nothere'; optbench list shows all problems"),
        (["race", "--rounds"], "see optbench race --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misspellings_get_the_right_suggestion(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(arguments)
    except SystemExit as end:
        status = end.code
    assert status == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_race_ends_with_its_verdict() -> None:
    ratios = {"sgd": (1, 1, 1), "adam": (2, 1.9, 2.1), "momentum": (1.01, 0.9, 1.1), "lion": (0.5, 0.4, 0.8)}
    columns = ["configuration", "ratio", "ratio_low", "ratio_high", "disturbed"]
    rows = pd.DataFrame([[name, *values, name == "lion"] for name, values in ratios.items()], columns=columns)
    assert verdict(rows) == [
        "A step of adam takes 2 times as long (95 %: 1.9 to 2.1) as one of sgd",
        "momentum against sgd: no difference within the error",
        "A step of sgd takes 2 times as long (95 %: 1.25 to 2.5) as one of lion",
        "The machine was busy: repeat the race before you rely on it.",
    ]


def test_a_race_on_a_quiet_machine_names_no_disturbance(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = timing.race_summary
    quiet = {"disturbed": False, "reason": ""}
    monkeypatch.setattr(timing, "race_summary", lambda races: summary(races).assign(**quiet))
    assert main([*RACE, "--rounds", "3", "--steps", "5"]) == 0
    assert "disturbed" not in capsys.readouterr().out


def test_without_a_page_nothing_that_draws_is_loaded(here: Path) -> None:
    code = f"import sys; from optbench.cli import main; main({[*ONE, '--no-report']}); print(*sys.modules)"
    modules = set(run_python("-c", code).stdout.split())
    assert "optbench.reports.verdict" in modules
    assert not modules & {"matplotlib", "seaborn", "scipy.stats", "jinja2"}
