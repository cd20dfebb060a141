"""Data sets: files, messages about wrong ones, splits and scaling."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optbench.core.errors import InputError
from problems import datasets
from problems.datasets import load, split, standardize, synthetic
from tests.conftest import short_errors

GOOD_CSV = "a,b,label\n1,2,yes\n3,4.5,no\n-1,0,yes\n"


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("breast_cancer", (569, 30), 2),
        ("digits", (1797, 64), 10),
        ("digits_binary", (1797, 64), 2),
        ("wine", (178, 13), 3),
        ("iris", (150, 4), 3),
    ],
)
def test_built_in(name: str, shape: tuple[int, int], classes: int) -> None:
    data = load(name)
    assert (data.name, data.X.shape, str(data.X.dtype), len(data.classes)) == (name, shape, "float64", classes)
    assert sorted(set(data.y.tolist())) == list(range(classes))
    assert load(name) is data  # read once


def test_digits_binary_is_digits_in_two_halves() -> None:
    assert np.array_equal(load("digits_binary").y, load("digits").y >= 5)


def test_data_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load("iris").X[0, 0] = 1


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "target"), [("good.csv", "label"), ("good.CSV", ""), ("good.csv.gz", "label")])
def test_csv(tmp_path: Path, name: str, target: str) -> None:
    data = load(write(tmp_path, name, GOOD_CSV), target)
    assert data.X.tolist() == [[1, 2], [3, 4.5], [-1, 0]]
    assert data.classes == ("no", "yes")
    assert data.y.tolist() == [1, 0, 1]


def test_csv_target_and_types(tmp_path: Path) -> None:
    text = "kind\tflag\tvalue\n12345678\tTrue\t1.5\n9\tFalse\t2\n"
    data = load(write(tmp_path, "a.tsv", text), target="kind")
    assert data.X.tolist() == [[1, 1.5], [0, 2]]
    assert data.classes == ("9", "12345678")  # numbers in numerical order
    assert data.y.tolist() == [1, 0]


def test_csv_columns_may_be_numbered(tmp_path: Path) -> None:
    assert load(write(tmp_path, "a.csv", "0,1,2,y\n1,2,3,0\n4,5,6,1\n")).X.shape == (2, 3)


@pytest.mark.parametrize("name", ["a.libsvm", "a.svm", "a.svmlight", "a.txt", "a.libsvm.gz"])
def test_libsvm(tmp_path: Path, name: str) -> None:
    data = load(write(tmp_path, name, "+1 1:0.5 3:2 # comment\n-1 2:1\n"))
    assert data.X.tolist() == [[0.5, 0, 2], [0, 1, 0]]
    assert data.classes == ("-1", "1")
    assert data.y.tolist() == [1, 0]


def test_path_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.csv", GOOD_CSV)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load("~/a.csv").X.shape == (3, 2)


def test_hash_is_of_the_data(tmp_path: Path) -> None:
    one = load(write(tmp_path, "a.csv", GOOD_CSV))
    same = load(write(tmp_path, "b.csv", GOOD_CSV.replace("4.5", "4.50").replace(",0,", ",-0,")))
    other = load(write(tmp_path, "c.csv", GOOD_CSV.replace("4.5", "4.6")))
    content = b"3 2\n" + one.X.astype("<f8").tobytes() + one.y.astype("<i8").tobytes()
    assert one.sha256 == same.sha256 == hashlib.sha256(content).hexdigest()
    assert one.sha256 != other.sha256


MANY = "".join(f"{i},{i + 0.5}\n" for i in range(60))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.csv", "a,b\n", "0 rows of 2 columns"),
        ("a.csv", "y\n1\n2\n", "2 rows of 1 columns"),
        ("a.csv", "a;y\n1;0\n2;1\n", "separated by commas"),
        ("a.tsv", "a,y\n1,0\n2,1\n", "separated by tabs"),
        ("a.csv", "a,y\n1,0\n,1\n", "row 2, column 'a' is missing"),
        ("a.csv", "a,b,y\n1,1,0\n1,inf,1\n", "row 2, column 'b' is infinite"),
        ("a.csv", "a,b,y\n1,2,0\n1,red,1\n", "row 2, column 'b' is 'red', not a number; encode"),
        ("a.csv", "a,y\n1,0\n2,\n", "row 2 has no label in column 'y'"),
        ("a.csv", "a,y\n1,0\n2,inf\n", "the label of row 2 is infinite"),
        ("a.csv", "a,y\n1,7\n2,7\n", "all 2 rows have the label 7"),
        ("a.csv", "a,y\n1,x\n2,x\n", "all 2 rows have the label 'x'"),
        ("a.csv", "a,y\n" + MANY, "60 different values in 60 rows, which looks like regression"),
        ("a.csv", "a,y\n1,2\n1,2,3\n", "malformed: .*line 3"),
        ("a.csv", "a,y\n1,2,3\n1,2,3\n", "malformed"),
        ("a.csv", "1,2,0\n3,4,1\n", r"first line \(1, 2, 0\) looks like data"),
        ("a.csv", "5.1,3.5,setosa\n3,4,other\n", "looks like data"),
        ("a.libsvm", "", "the file is empty"),
        ("a.libsvm", "# nothing\n", "0 rows and no features"),
        ("a.libsvm", "1\n0\n", "2 rows and no features"),
        ("a.libsvm", "1 1:2\n0 1:x\n", "malformed in line 2 .each must read"),
        ("a.libsvm.gz", "1 1:2\n0 1:x\n", "malformed in line 2"),
        ("a.txt", "a,b,c\n", "malformed in line 1"),
        ("a.libsvm", "1 1:2\n0 3:1 2:1\n", "malformed in line 2 .its indices do not ascend"),
        ("a.libsvm", "1 1:2\n0 1:nan\n", "row 2, column 1 is missing"),
        ("a.libsvm", "1 1:2\nnan 1:3\n", "the label of row 2 is missing"),
        ("a.libsvm", "1 1:2\n1 1:3\n", "all 2 rows have the label 1"),
        ("a.json", "{}", "unknown format; use one of the suffixes"),
        ("a", "1 1:1", "unknown format; use one of the suffixes"),
    ],
)
def test_unusable_files_are_rejected(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, name, text))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("data", "target", "message"),
    [
        ("a.csv", "labl", "no column 'labl'; did you mean 'label'"),
        ("a.csv", "zzz", "no column 'zzz'; it has a, b, label"),
        ("digits", "label", "digits: only CSV files have a target column"),
        ("a.svm", "label", "only CSV files"),
        ("./nothing.csv", "", r"no file .*nothing\.csv; check the path"),
        ("./", "", "is a directory"),
        ("breastcancer", "", "no data set 'breastcancer'; did you mean 'breast_cancer'"),
        ("xyz", "", "no data set 'xyz'; choose breast_cancer"),
    ],
)
def test_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, target: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.csv", GOOD_CSV)
    write(tmp_path, "a.svm", "1 1:1\n0 1:2\n")
    with pytest.raises(InputError, match=message):
        load(data, target)


def test_a_file_with_the_wrong_suffix(tmp_path: Path) -> None:
    broken = [b"no gzip", gzip.compress(GOOD_CSV.encode() * 99)[:40]]
    cases = [(name, content, "cannot be read") for name in ("a.csv.gz", "a.svm.gz") for content in broken]
    for name, content, message in [*cases, ("a.csv", b"\xff\xfe\x00,\x80\n1,2\n", "malformed")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            load(str(tmp_path / name))


def test_a_sparse_file_whose_dense_features_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="2 x 100 dense features take"):
        load(write(tmp_path, "a.svm", "1 100:1\n0 1:1\n"))


# ---- synthetic data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "condition"), [(1, 1), (2, 10), (20, 1e4), (50, 1)])
def test_synthetic_spectrum(columns: int, condition: float) -> None:
    data = synthetic(300, columns, condition, seed=3)
    eigenvalues = np.linalg.eigvalsh(data.X.T @ data.X / 300)
    assert np.allclose(data.X.mean(axis=0), 0, atol=1e-14)
    assert np.allclose(data.X.std(axis=0), 1, atol=1e-13)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(condition, rel=1e-9)
    steps = eigenvalues[1:] / eigenvalues[:-1]
    assert np.allclose(steps, steps[:1], rtol=1e-8)  # log-spaced
    assert 0.2 < data.y.mean() < 0.8


def test_synthetic_data_depend_on_the_seed() -> None:
    one, same, other = (synthetic(50, 3, 10, seed) for seed in (0, 0, 1))
    assert one.sha256 == same.sha256 != other.sha256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((5, 5, 10, 0), "more rows than columns, not 5 x 5"),
        ((50, 5, 0.5, 0), r"at least 1, not 0\.5"),
        ((2, 1, 1, 2), "single class"),  # both labels are equal
    ],
)
def test_impossible_synthetic_data(settings: tuple[int, int, float, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synthetic(*settings)


# ---- splits and scaling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fractions", [(0.2,), (0.15, 0.15), (0.5, 0.0), (0.0,), ()])
def test_split_is_a_stratified_partition(fractions: tuple[float, ...]) -> None:
    y = load("digits").y
    parts = split(y, fractions, seed=1)
    assert len(parts) == len(fractions) + 1
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    for part, fraction in zip(parts[1:], fractions, strict=True):
        assert abs(len(part) - fraction * len(y)) <= 1
        assert np.all(np.diff(part) > 0)
        assert np.all(np.abs(np.bincount(y[part], minlength=10) - fraction * np.bincount(y)) < 2)
    assert all(np.array_equal(a, b) for a, b in zip(parts, split(y, fractions, seed=1), strict=True))


def test_split_depends_on_the_seed() -> None:
    y = load("iris").y
    assert not np.array_equal(split(y, (0.2,), 0)[1], split(y, (0.2,), 1)[1])


def test_split_keeps_rare_classes_for_training() -> None:
    y = np.array([0] * 50 + [1])
    assert all(50 in split(y, (0.5,), seed)[0] for seed in range(20))


def test_split_of_a_number_of_rows() -> None:
    train, test = split(10, (0.3,), seed=0)
    assert (len(train), len(test)) == (7, 3)
    assert sorted([*train, *test]) == list(range(10))


@pytest.mark.parametrize(
    ("y", "fractions", "message"),
    [
        (10, (1.0,), "sum to less than 1"),
        (10, (-0.1,), "at least 0"),
        (10, (0.01,), "a part would be empty"),
        (1, (0.9,), "too few"),
        (np.arange(10), (0.2,), "10 rows are too few to train on all 10 classes"),
    ],
)
def test_impossible_splits(y: np.ndarray | int, fractions: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(y, fractions, 0)


def test_standardize() -> None:
    from sklearn.preprocessing import StandardScaler

    X = load("wine").X
    train, test = standardize(X[:100], X[100:])
    scaler = StandardScaler().fit(X[:100])
    assert np.allclose(train, scaler.transform(X[:100]), rtol=1e-12, atol=1e-12)
    assert np.allclose(test, scaler.transform(X[100:]), rtol=1e-12, atol=1e-12)


def test_standardize_constant_and_huge_columns() -> None:
    train = np.column_stack([np.full(7, 0.1), np.arange(7) * 1e300, np.arange(7) * 1e-300])
    (scaled,), (_, other) = standardize(train), standardize(train, np.ones((2, 3)))
    assert np.array_equal(scaled[:, 0], np.zeros(7))  # although the computed mean is not 0.1
    assert np.array_equal(other[:, 0], np.zeros(2))
    assert np.allclose(scaled[:, 1:].std(axis=0), 1)
    assert standardize(train, np.empty((0, 3)))[1].shape == (0, 3)


# ---- hostile files ---------------------------------------------------------------------------------------------------


def test_a_compressed_file_that_expands_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MAX_DECOMPRESSED", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,y\n" + b"1,0\n2,1\n" * (1 << 18)))
    with pytest.raises(InputError, match="a compressed file may contain 1 MiB; decompress it first"):
        load(str(tmp_path / "a.csv.gz"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "svm"])
def test_only_regular_files_are_read(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(InputError, match=r"cannot be read \(it is a pipe or a device"):
            load(str(tmp_path / f"{name}.{suffix}"))


@pytest.mark.parametrize(
    "data", ["~nosuchuser/x.csv", "x" * 5000, "x" * 5000 + ".csv", "", "a\0.csv", "\udcff.csv", "/dev/zero"]
)
def test_impossible_names(data: str) -> None:
    with pytest.raises(InputError) as caught:
        load(data)
    with short_errors():
        raise caught.value


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,a,y\n1,2,0\n2,3,1\n", "two columns are called 'a'; rename one"),
        ("a.csv", b",".join([b"c%d" % i for i in range(100_001)]), "100001 columns are above 100000"),
        ("a.csv", b"\0" * 1000, "no line of text"),
        ("a.svm", b"1 999999999:1\n0 1:1\n", "999999999 columns are above 100000"),
        ("a.svm", b"1 99999999999999999999:1\n", "malformed"),
        ("a.svm", b"1 -1:1\n", "malformed"),
    ],
)
def test_hostile_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / name))


def test_marks_of_byte_order_and_line_ends_of_windows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfy,a\r\n0,1\r\n1,2\r\n")
    assert load(str(tmp_path / "a.csv"), "y").X.tolist() == [[1.0], [2.0]]


CELLS = st.sampled_from(["", "1", "-2.5", "nan", "inf", "1e999", "x", "1:2", "3:4", '"', "#"])


@given(
    st.sampled_from(["a.csv", "a.tsv", "a.svm", "a.csv.gz", "a.svm.gz"]),
    st.binary(max_size=60) | st.lists(st.lists(CELLS, max_size=4), max_size=6),
)
@settings(max_examples=150, deadline=2000)
def test_any_content_is_a_data_set_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    if isinstance(content, list):
        separator = {"a.csv": ",", "a.tsv": "\t"}.get(name.removesuffix(".gz"), " ")
        content = "\n".join(separator.join(row) for row in content).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") and len(content) % 3 else content)
    with short_errors():
        dataset = load(str(path))
        assert np.isfinite(dataset.X).all()
        assert len(dataset.classes) >= 2
