"""Data for the learning problems: sets that come with scikit-learn, a user's files, synthetic data; splits and scaling.

Everything here is host data, NumPy float64. Nothing is downloaded; scikit-learn and pandas are imported when a set is
read.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optbench.core.errors import InputError, suggestion
from optbench.core.random import stream

from .files import file_format, read_csv, read_libsvm

BUILTIN = ("breast_cancer", "digits", "digits_binary", "wine", "iris")
MANY_LABELS = 50  # more distinct labels than this may be measurements, see `_classified`


@dataclass(frozen=True)
class Dataset:
    """Features and class labels.

    Attributes
    ----------
    X : array of shape (n, p)
        Features as they were read, float64, finite, read-only.
    y : array of shape (n,)
        Class numbers 0 ... K-1, int64, read-only; every class occurs.
    name : str
        Built-in name, path, or ``"synthetic"``.
    classes : tuple of str, length K
        What each class number stands for; in numerical order where labels are numbers, else in alphabetical order.
    sha256 : str
        Hash of the shape and of the bytes of X and y (little-endian, row by row), the same on every machine.
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
    """The data set of a built-in name, or of a file.

    Parameters
    ----------
    data : str
        ``breast_cancer``, ``digits``, ``digits_binary`` (0-4 against 5-9), ``wine`` or ``iris``; or the path of a
        LIBSVM file (.libsvm, .svm, .svmlight, .txt) or of a CSV file with a line of column names (.csv, .tsv), each
        also with .gz. Sparse features are made dense.
    target : str
        Label column of a CSV file; by default its last column.

    Raises
    ------
    InputError
        If there is no such set, file or column, or the file does not hold finite numeric features and at least two
        classes; the message says where.
    """
    if data in BUILTIN:
        _no_target(data, target)
        return _builtin(data)
    path = Path(data).expanduser()
    if len(path.parts) < 2 and {suffix.lower() for suffix in path.suffixes} <= {".gz"} and not path.exists():
        hint = suggestion(data, BUILTIN) or f"choose {', '.join(BUILTIN)}, synthetic, or the path of a file"
        raise InputError(f"no data set {data!r}; {hint}")
    format_name, suffix = file_format(data, path)
    if format_name == "libsvm":
        _no_target(data, target)
        X, labels = read_libsvm(path)
        columns: Sequence[Any] = range(1, X.shape[1] + 1)
    else:
        X, labels, columns = read_csv(path, "\t" if suffix == ".tsv" else ",", target)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{data}: row {row + 1}, column {columns[column]!r} is {_what(X[row, column])}; every feature must be a "
            "finite number: fill it in or leave the row out"
        )
    return _classified(data, X, labels)


def synthetic(rows: int, columns: int, condition: float, seed: int) -> Dataset:
    """Two classes with features of a prescribed covariance spectrum, and labels drawn from a logistic model.

    The features have mean 0 and variance 1, and the eigenvalues of their covariance are log-spaced, the largest
    `condition` times the smallest; so standardizing leaves the spectrum as it is. Labels are drawn with
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
        If there are too few rows, or all labels come out equal.

    References
    ----------
    Davies & Higham, Numerically stable generation of correlation matrices and their factors, BIT 40 (2000): rotations
    that make the diagonal one and keep the eigenvalues (section 3, after Bendel & Mickey 1978).
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
        raise InputError(f"synthetic data with {rows} rows and seed {seed} have a single class; ask for more rows")
    return _dataset("synthetic", X, y, ("0", "1"))


def split(y: np.ndarray | int, fractions: Sequence[float], seed: int) -> tuple[np.ndarray, ...]:
    """Cut rows at random into a training part and one further part a fraction, each with the classes in proportion.

    ``split(y, (0.2,), seed)`` gives train, test; ``split(y, (0.15, 0.15), seed)`` gives train, validation, test.

    Parameters
    ----------
    y : array of shape (n,), or int
        Class labels, by which the parts are stratified; or only the number of rows n, where there are no classes.
    fractions : sequence of float
        Share of each part after the first, each at least 0, together below 1. A part has the share's nearest number of
        rows.
    seed : int
        The same labels, fractions and seed give the same split.

    Returns
    -------
    parts : tuple of int arrays
        Row numbers, ascending. Every class has a row in the training part.

    Raises
    ------
    InputError
        If a fraction is impossible, a part would have no rows, or the training part fewer rows than there are classes.
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
            f"{n} rows of {len(classes)} classes are too few to keep one of each for training; split off less"
        )
    if any(size == 0 < fraction for size, fraction in zip(sizes, fractions, strict=True)):
        raise InputError(f"{n} rows are too few for the fractions {tuple(fractions)}: a part would be empty")
    order = stream("split", seed).permutation(n)
    by_class = order[np.argsort(number[order], kind="stable")]
    # place of each row among its class, from 0 to 1: every interval of it holds the classes in proportion, (n,)
    rank = np.empty(n)
    rank[by_class] = np.concatenate([np.arange(count) / count for count in counts]) if n else 0
    return tuple(np.sort(part) for part in np.split(order[np.argsort(rank[order], kind="stable")], edges))


def standardize(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Features minus the mean, divided by the population standard deviation, both of the training rows.

    Parameters
    ----------
    train, *others : arrays of shape (n, p), (m, p), ...

    Returns
    -------
    scaled : tuple of arrays of the same shapes
        A column that is constant in `train` becomes 0 in all of them.
    """
    # by the values: the mean is rounded, so the deviation of a constant column is rarely exactly 0
    varies = (train != train[:1]).any(axis=0)  # (p,)
    _, exponent = np.frexp(np.abs(train).max(axis=0, initial=0))
    # by powers of two, which is exact, so that squares cannot overflow
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


def _no_target(data: str, target: str) -> None:
    if target:
        raise InputError(f"{data}: a target column is named for CSV files only, not target={target!r}; leave it out")


# ---- data sets -------------------------------------------------------------------------------------------------------


def _classified(name: str, X: np.ndarray, labels: np.ndarray) -> Dataset:
    """The data set of finite features (n, p) and labels (n,) of any kind; `InputError` if the labels are not classes."""
    numeric = labels.dtype.kind in "iuf"
    if numeric and not np.isfinite(labels).all():
        row = int(np.argmin(np.isfinite(labels)))
        raise InputError(f"{name}: the label of row {row + 1} is {_what(labels[row])}; leave the row out")
    values, y = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise InputError(
            f"{name}: all {len(y)} rows have the label {values[0].item()!r}; needed are at least two classes"
        )
    whole = not numeric or bool((values == np.round(values)).all())
    if len(values) > MANY_LABELS and (not whole or len(values) > len(y) / 2):
        raise InputError(
            f"{name}: the labels have {len(values)} different values in {len(y)} rows, which looks like regression or "
            "a row number; name another target column, or turn the values into classes"
        )
    return _dataset(name, X, y, tuple(np.format_float_positional(v, trim="-") if numeric else str(v) for v in values))


def _dataset(name: str, X: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    X = np.array(X, dtype=np.float64, order="C") + 0.0  # -0.0 and 0.0 are one number and get one hash
    y = np.array(y, dtype=np.int64)
    digest = hashlib.sha256(f"{X.shape[0]} {X.shape[1]}\n".encode())
    digest.update(X.astype("<f8", copy=False).data)
    digest.update(y.astype("<i8", copy=False).data)
    X.setflags(write=False)
    y.setflags(write=False)
    return Dataset(X, y, name, classes, digest.hexdigest())


def _what(value: float) -> str:
    return "missing (NaN)" if math.isnan(value) else "infinite"


def _unit_rows(root: np.ndarray) -> np.ndarray:
    """Rows rotated in pairs until each has length one, with the same singular values; squared lengths must sum to p."""
    root = root.copy()
    length = np.einsum("ij,ij->i", root, root)  # the diagonal of root @ root.T, (p,)
    for _ in range(len(root) - 1):
        i, j = int(length.argmin()), int(length.argmax())
        # the rotation by the angle with tangent t gives row i length one (Davies & Higham 2000, equation 3.1)
        aii, ajj, aij = length[i] - 1, length[j] - 1, root[i] @ root[j]
        if not (aii < 0 < ajj):
            break
        t = (aij + math.copysign(math.sqrt(aij * aij - aii * ajj), aij)) / ajj
        c = 1 / math.hypot(1, t)
        root[i], root[j] = c * (root[i] - t * root[j]), c * (root[j] + t * root[i])
        length[i], length[j] = 1.0, root[j] @ root[j]
    return root
