"""Data for the learning problems: data sets of scikit-learn, files, synthetic data; splits and scaling.

All arrays are NumPy float64 on the host. Nothing is downloaded. Errors about a file name the file, the place and the cure.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import hashlib
import itertools
import math
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from optbench.core.errors import InputError, shown, suggestion
from optbench.core.files import open_file
from optbench.core.random import stream
from optbench.core.specs import check_text

BUILTIN = ("breast_cancer", "digits", "digits_binary", "wine", "iris")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".libsvm", ".svm", ".svmlight", ".txt", *SEPARATORS)
MAX_BYTES = 4 * 2**30  # of dense features; a small sparse file may need more
MAX_DECOMPRESSED = 256 << 20  # bytes of a compressed file; a small one may expand without end
MAX_LINE = 16 << 20  # bytes of the first line; without any end of line a file is no table
MAX_COLUMNS = 100_000
MANY_LABELS = 50  # more distinct labels may be measurements, see `_labelled`


@dataclass(frozen=True)
class Dataset:
    """Features and class labels.

    Attributes
    ----------
    X : array of shape (n, p)
        Features before scaling, float64, finite, read-only.
    y : array of shape (n,)
        Class numbers 0 ... K-1, int64, read-only; every class occurs.
    name : str
        Built-in name, path, or ``"synthetic"``.
    classes : tuple of str, length K
        Labels of the classes, in numerical order if they are numbers, else in alphabetical order.
    sha256 : str
        Hash of the shape and the bytes of X and y (little-endian, row by row), the same on every machine.
    """

    X: np.ndarray
    y: np.ndarray
    name: str
    classes: tuple[str, ...]
    sha256: str

    def __repr__(self) -> str:
        n, p = self.X.shape
        return f"Dataset({self.name!r}, n={n}, p={p}, classes={len(self.classes)}, sha256={self.sha256[:12]})"


def load(data: str, target: str = "") -> Dataset:
    """Load a built-in data set or a file.

    Parameters
    ----------
    data : str
        ``breast_cancer``, ``digits``, ``digits_binary`` (0-4 against 5-9), ``wine`` or ``iris``; or the path of a
        LIBSVM file (.libsvm, .svm, .svmlight, .txt) or of a CSV file with a line of column names (.csv, .tsv), each
        also with .gz. Sparse features become dense.
    target : str
        Label column of a CSV file; by default its last column.

    Raises
    ------
    InputError
        If there is no such data set, file or column, or the file does not contain finite numeric features and at least
        two classes, or is too large; the message names the place.
    """
    check_text("data", data)
    path = Path(os.path.expanduser(data))  # noqa: PTH111 - leaves ~ where there is no such user
    suffix = "" if data in BUILTIN else _suffix(data, path)
    if target and suffix not in SEPARATORS:
        raise InputError(f"{data}: only CSV files have a target column; leave target={target!r} out")
    if not suffix:
        return _builtin(data)
    if suffix in SEPARATORS:
        X, labels, columns = _read_csv(path, SEPARATORS[suffix], target)
    else:
        X, labels, columns = _read_libsvm(path)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{data}: row {row + 1}, column {columns[column]!r} is {_describe(X[row, column])}; every feature must be a "
            "finite number: fill it in or leave the row out"
        )
    return _labelled(data, X, labels)


def synthetic(rows: int, columns: int, condition: float, seed: int) -> Dataset:
    """Two classes with features of a prescribed covariance spectrum, and labels drawn from a logistic model.

    The features have mean 0 and variance 1, so that standardizing does not change the spectrum. The eigenvalues of their
    covariance are log-spaced, the largest `condition` times the smallest. Labels are drawn with
    P(y = 1 | x) = 1 / (1 + exp(-w^T x)), w Gaussian and scaled so that w^T x has standard deviation 2.

    Parameters
    ----------
    rows, columns : int
        n > p >= 1.
    condition : float
        At least 1; a single column always has condition 1.
    seed : int
        Seed of features, weights and labels.

    Raises
    ------
    InputError
        If there are too few rows, or all labels are equal.

    References
    ----------
    Davies & Higham, Numerically stable generation of correlation matrices and their factors, BIT 40 (2000), section 3:
    rotations to a unit diagonal with the same eigenvalues (after Bendel & Mickey 1978).
    """
    if columns < 1 or rows <= columns:
        raise InputError(f"synthetic data need at least 1 column and more rows than columns, not {rows} x {columns}")
    if not condition >= 1:
        raise InputError(f"the condition of synthetic data must be at least 1, not {condition!r}")
    rng = stream("data", seed)
    eigenvalues = np.geomspace(1 / condition, 1, columns)
    eigenvalues *= columns / eigenvalues.sum()  # the trace of a correlation matrix
    root = _unit_rows(np.linalg.qr(rng.standard_normal((columns, columns)))[0] * np.sqrt(eigenvalues))  # (p, p)
    white = rng.standard_normal((rows, columns))
    white = np.linalg.qr(white - white.mean(axis=0))[0] * math.sqrt(rows)  # (n, p), mean 0, covariance I
    X = white @ root.T
    w = rng.standard_normal(columns)
    margin = X @ w
    margin *= 2 / margin.std()
    y = rng.random(rows) * (1 + np.exp(-margin)) < 1
    if y.all() or not y.any():
        raise InputError(f"synthetic data with {rows} rows and seed {seed} have a single class; increase rows")
    return _dataset("synthetic", X, y, ("0", "1"))


def split(y: np.ndarray | int, fractions: Sequence[float], seed: int) -> tuple[np.ndarray, ...]:
    """Split rows at random into a training part and one part per fraction, stratified by class.

    ``split(y, (0.2,), seed)`` gives train, test; ``split(y, (0.15, 0.15), seed)`` gives train, validation, test.

    Parameters
    ----------
    y : array of shape (n,), or int
        Class labels; or the number of rows n, if there are no classes.
    fractions : sequence of float
        Share of each part after the first, each at least 0, together below 1; numbers of rows are rounded.
    seed : int

    Returns
    -------
    parts : tuple of int arrays
        Row numbers, ascending. Every class has a row in the training part.

    Raises
    ------
    InputError
        If a fraction is out of range, a part would be empty, or the training part would have fewer rows than classes.
    """
    if any(not fraction >= 0 for fraction in fractions) or not sum(fractions) < 1:
        raise InputError(f"the fractions of a split must be at least 0 and sum to less than 1, not {tuple(fractions)}")
    labels = np.zeros(y, dtype=int) if isinstance(y, int) else np.asarray(y)
    n = len(labels)
    classes, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    edges = [n - round(n * sum(fractions[i:])) for i in range(len(fractions))]
    sizes = np.diff([*edges, n])
    if edges and edges[0] < max(1, len(classes)):
        raise InputError(
            f"{n} rows are too few to train on all {len(classes)} classes; reduce the fractions {tuple(fractions)}"
        )
    if any(size == 0 < fraction for size, fraction in zip(sizes, fractions, strict=True)):
        raise InputError(f"{n} rows are too few for the fractions {tuple(fractions)}: a part would be empty")
    order = stream("split", seed).permutation(n)
    by_class = order[np.argsort(number[order], kind="stable")]
    # rank of each row within its class, from 0 to 1; every interval contains the classes in proportion, (n,)
    rank = np.empty(n)
    rank[by_class] = np.concatenate([np.arange(count) / count for count in counts]) if n else 0
    return tuple(np.sort(part) for part in np.split(order[np.argsort(rank[order], kind="stable")], edges))


def standardize(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Features minus the mean, divided by the population standard deviation, of the training rows.

    Parameters
    ----------
    train, *others : arrays of shape (n, p), (m, p), ...

    Returns
    -------
    scaled : tuple of arrays of the same shapes
        A column that is constant in `train` becomes 0 in all of them.
    """
    # not by the deviation, which is rarely exactly 0 for a constant column, because the mean is rounded
    varies = (train != train[:1]).any(axis=0)  # (p,)
    _, exponent = np.frexp(np.abs(train).max(axis=0, initial=0))
    # exact scaling by powers of two, so that squares cannot overflow
    shrunk = [np.ldexp(part, -exponent) for part in (train, *others)]
    mean = shrunk[0].mean(axis=0)
    deviation = np.where(varies, shrunk[0].std(axis=0), np.inf)
    return tuple((part - mean) / deviation for part in shrunk)


# ---- sources ---------------------------------------------------------------------------------------------------------


@functools.cache
def _builtin(name: str) -> Dataset:
    import sklearn.datasets

    source = name.removesuffix("_binary")
    bunch = getattr(sklearn.datasets, f"load_{source}")()
    if name == "digits_binary":
        return _dataset(name, bunch.data, bunch.target >= 5, ("0-4", "5-9"))
    return _dataset(name, bunch.data, bunch.target, tuple(str(c) for c in bunch.target_names))


def _suffix(data: str, path: Path) -> str:
    """The suffix of a data file without .gz; `InputError` if there is no such data set or file."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    exists = os.path.exists(path)  # noqa: PTH110 - False for a name that is too long
    if len(path.parts) < 2 and not suffixes and not exists:
        hint = suggestion(data, BUILTIN) or f"choose {', '.join(BUILTIN)}, synthetic, or the path of a file"
        raise InputError(f"no data set {shown(data)}; {hint}")
    if not exists:
        raise InputError(f"there is no file {data}; check the path (it is read from {os.getcwd()})")  # noqa: PTH109
    if path.is_dir():
        raise InputError(f"{data} is a directory; name a data file in it")
    if not suffixes or suffixes[-1] not in SUFFIXES:
        raise InputError(f"{data}: unknown format; use one of the suffixes {' '.join(SUFFIXES)}, also with .gz")
    return suffixes[-1]


def _read(path: Path, read: Callable[[IO[bytes], bytes], Any], where: Callable[[], str] = str) -> Any:
    """The result of `read`, which gets the open file and its first line.

    Errors become `InputError`; `where` finds the place once reading has failed.
    """
    try:
        with _open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error")  # the readers warn about data that they drop
            first = file.readline(MAX_LINE)
            if not first:
                raise InputError(f"{path}: the file is empty")
            if len(first) == MAX_LINE or b"\0" in first:
                raise InputError(f"{path}: the file is malformed: no line of text at its beginning")
            file.seek(0)
            return read(file, first)
    except InputError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the file cannot be read ({reason})") from error
    except (ValueError, OverflowError, csv.Error, Warning) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{path}: the file is malformed{where()}: {reason}") from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed content of a file, of which no more than `MAX_DECOMPRESSED` bytes are compressed."""
    with open_file(path) as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file) as content:
            size = 0
            while part := content.read(1 << 20):
                size += len(part)
                if size > MAX_DECOMPRESSED:
                    raise InputError(
                        f"{path}: a compressed file may contain {MAX_DECOMPRESSED >> 20} MiB; decompress it first"
                    )
            content.seek(0)
            yield cast(IO[bytes], content)


def _check_columns(path: Path, columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise InputError(f"{path}: {columns} columns are above {MAX_COLUMNS}; leave columns out")


def _read_libsvm(path: Path) -> tuple[np.ndarray, np.ndarray, Sequence[Any]]:
    """Features (n, p), made dense, labels (n,) and numbers of the features of a LIBSVM file."""
    from sklearn.datasets import load_svmlight_file

    sparse, labels = _read(path, lambda file, first: load_svmlight_file(file), lambda: _malformed_line(path))
    n, p = sparse.shape
    if sparse.nnz == 0:
        raise InputError(f"{path}: the file has {n} rows and no features; a data set needs at least one")
    _check_columns(path, p)
    if 8 * n * p > MAX_BYTES:
        raise InputError(
            f"{path}: {n} x {p} dense features take {8 * n * p / 2**30:.0f} GiB, above {MAX_BYTES / 2**30:.0f} "
            "GiB; use fewer rows or columns"
        )
    return sparse.toarray(), labels, range(1, p + 1)


def _malformed_line(path: Path) -> str:
    """The place of the first malformed line, which scikit-learn does not name."""
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            label, *pairs = line.partition(b"#")[0].split() or [b"0"]
            try:
                numbers = [(int(index), float(value)) for index, _, value in (pair.partition(b":") for pair in pairs)]
                float(label)
            except ValueError:
                return f" in line {number} (each must read: label index:value index:value ...)"
            if any(a >= b for (a, _), (b, _) in itertools.pairwise(numbers)):
                return f" in line {number} (its indices do not ascend)"
    return ""


def _read_csv(path: Path, separator: str, target: str) -> tuple[np.ndarray, np.ndarray, Sequence[Any]]:
    """Features (n, p), labels (n,) of the column `target` or the last one, and the names of the feature columns."""
    import pandas as pd

    def read(file: IO[bytes], first: bytes) -> Any:
        header = [name.strip() for name in next(csv.reader([first.decode("utf-8-sig")], delimiter=separator))]
        _check_columns(path, len(header))
        twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
        if twice and not all(map(_is_number, header)):  # else it is data, which is refused below
            raise InputError(f"{path}: two columns are called {shown(twice[0])}; rename one")
        # index_col=False, because a line with one field too many would shift all columns without a warning
        return pd.read_csv(file, sep=separator, index_col=False, low_memory=False)

    frame = _read(path, read)
    frame.columns = [str(name).strip() for name in frame.columns]
    names = list(frame.columns)
    numbers = [float(name) for name in names if _is_number(name)]
    if numbers and numbers != [numbers[0] + i for i in range(len(numbers))]:  # numbered columns (0, 1, 2 ...) are names
        raise InputError(
            f"{path}: its first line ({', '.join(names[:4])}{', ...' if names[4:] else ''}) looks like data; "
            "put a line of different column names above it"
        )
    if len(frame) == 0 or len(names) < 2:
        needs = (
            f"{path}: {len(frame)} rows of {len(names)} columns; it needs rows with at least one feature and a label"
        )
        if len(names) < 2:
            needs += f"; {path.suffix} files are separated by {'commas' if separator == ',' else 'tabs'}"
        raise InputError(needs)
    target = target or names[-1]
    if target not in names:
        hint = suggestion(target, names) or f"it has {', '.join(names[:10])}{', ...' if names[10:] else ''}"
        raise InputError(f"{path}: there is no column {target!r}; {hint}")
    features = frame.drop(columns=target)
    for name, column in features.items():
        if not pd.api.types.is_numeric_dtype(column):
            row = int((pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy().argmax())
            raise InputError(
                f"{path}: row {row + 1}, column {name!r} is {str(column.iloc[row])!r}, not a number; encode "
                "the column as numbers, leave it out, or name it as the target"
            )
    missing = frame[target].isna().to_numpy()
    if missing.any():
        raise InputError(f"{path}: row {missing.argmax() + 1} has no label in column {target!r}; leave the row out")
    column = frame[target]
    labels = column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy(dtype=str)
    return features.to_numpy(dtype=np.float64), labels, list(features.columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- data sets -------------------------------------------------------------------------------------------------------


def _labelled(name: str, X: np.ndarray, labels: np.ndarray) -> Dataset:
    """The data set of finite features (n, p) and labels (n,) of any kind; `InputError` if the labels are not classes."""
    numeric = labels.dtype.kind in "iuf"
    if numeric and not np.isfinite(labels).all():
        row = int(np.argmin(np.isfinite(labels)))
        raise InputError(f"{name}: the label of row {row + 1} is {_describe(labels[row])}; leave the row out")
    values, y = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise InputError(
            f"{name}: all {len(y)} rows have the label {values[0].item()!r}; at least two classes are needed"
        )
    whole = not numeric or bool((values == np.round(values)).all())
    if len(values) > MANY_LABELS and (not whole or len(values) > len(y) / 2):
        raise InputError(
            f"{name}: the labels have {len(values)} different values in {len(y)} rows, which looks like regression or "
            "a row number; name another target column, or turn the values into classes"
        )
    return _dataset(name, X, y, tuple(np.format_float_positional(v, trim="-") if numeric else str(v) for v in values))


def _dataset(name: str, X: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    X = np.array(X, dtype=np.float64, order="C") + 0.0  # -0.0 becomes 0.0, so that both have one hash
    y = np.array(y, dtype=np.int64)
    digest = hashlib.sha256(f"{X.shape[0]} {X.shape[1]}\n".encode())
    digest.update(X.astype("<f8", copy=False).data)
    digest.update(y.astype("<i8", copy=False).data)
    X.setflags(write=False)
    y.setflags(write=False)
    return Dataset(X, y, name, classes, digest.hexdigest())


def _describe(value: float) -> str:
    return "missing (NaN)" if math.isnan(value) else "infinite"


def _unit_rows(root: np.ndarray) -> np.ndarray:
    """Rotate pairs of rows until each has length one; singular values do not change. Squared lengths must sum to p."""
    root = root.copy()
    length = np.einsum("ij,ij->i", root, root)  # the diagonal of root @ root.T, (p,)
    for _ in range(len(root) - 1):
        i, j = int(length.argmin()), int(length.argmax())
        # the rotation by an angle with tangent t gives row i length one (Davies & Higham 2000, equation 3.1)
        aii, ajj, aij = length[i] - 1, length[j] - 1, root[i] @ root[j]
        if not (aii < 0 < ajj):
            break
        t = (aij + math.copysign(math.sqrt(aij * aij - aii * ajj), aij)) / ajj
        c = 1 / math.hypot(1, t)
        root[i], root[j] = c * (root[i] - t * root[j]), c * (root[j] + t * root[i])
        length[i], length[j] = 1.0, root[j] @ root[j]
    return root
