"""Files with features and labels: LIBSVM and CSV, also compressed with gzip.

Every error names the file, the place in it and the cure.
"""

from __future__ import annotations

import gzip
import itertools
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optbench.core.errors import InputError, suggestion

SUFFIXES = {"libsvm": (".libsvm", ".svm", ".svmlight", ".txt"), "csv": (".csv", ".tsv")}
MAX_BYTES = 4 * 2**30  # a sparse file can be small on disk and beyond any memory once dense


def file_format(data: str, path: Path) -> tuple[str, str]:
    """The format of a file, ``"libsvm"`` or ``"csv"``, and its suffix without .gz.

    Raises
    ------
    InputError
        If there is no such file, or its suffix is not one of `SUFFIXES`.
    """
    suffixes = [s.lower() for s in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s != ".gz"), "")
    if path.is_dir():
        raise InputError(f"{data} is a directory; name a data file in it")
    if not path.exists():
        raise InputError(f"there is no file {data}; check the path (it is read from {Path.cwd()})")
    for name, known in SUFFIXES.items():
        if suffix in known:
            return name, suffix
    every = " ".join(s for known in SUFFIXES.values() for s in known)
    raise InputError(f"{data}: the suffix tells the format: one of {every}, also with .gz; rename the file")


def _attempt(path: Path, read: Callable[[], Any], where: Callable[[], str] = str) -> Any:
    """The result of `read`, with its errors as `InputError`; `where` finds the place once reading has failed."""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the readers warn if they drop what does not fit
            return read()
    except InputError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the file cannot be read ({reason})") from error
    except (ValueError, OverflowError, Warning) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{path}: the file is malformed{where()}: {reason}") from error


def read_libsvm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, p), made dense, and labels (n,) of a LIBSVM file."""
    from sklearn.datasets import load_svmlight_file

    sparse, labels = _attempt(path, lambda: load_svmlight_file(str(path)), lambda: _malformed_line(path))
    n, p = sparse.shape
    if sparse.nnz == 0:
        raise InputError(f"{path}: the file has {n} rows and no features; there is nothing to learn from")
    if 8 * n * p > MAX_BYTES:
        raise InputError(
            f"{path}: {n} x {p} features take {8 * n * p / 2**30:.0f} GiB once dense, above {MAX_BYTES / 2**30:.0f} "
            "GiB; take fewer rows or columns"
        )
    return sparse.toarray(), labels


def _malformed_line(path: Path) -> str:
    """Place of the first line that is not ``label index:value ...``, which scikit-learn does not name."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
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


def read_csv(path: Path, separator: str, target: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features (n, p), labels (n,) of the column `target` or the last one, and the names of the feature columns."""
    import pandas as pd

    # index_col=False, or a line with one field too many would shift every column by one without a warning
    frame = _attempt(path, lambda: pd.read_csv(path, sep=separator, index_col=False, low_memory=False))
    frame.columns = [str(name).strip() for name in frame.columns]
    names = list(frame.columns)
    _check_header(path, names)
    target = target or names[-1]
    if target not in names:
        hint = suggestion(target, names) or f"it has {', '.join(names[:10])}{', ...' if names[10:] else ''}"
        raise InputError(f"{path}: there is no column {target!r}; {hint}")
    if len(frame) == 0 or len(names) < 2:
        raise InputError(
            f"{path}: {len(frame)} rows of {len(names)} columns; needed are rows with features and a label"
        )
    features = frame.drop(columns=target)
    for name in features.columns:
        if not (pd.api.types.is_numeric_dtype(features[name]) or pd.api.types.is_bool_dtype(features[name])):
            column = features[name]
            row = int((pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy().argmax())
            raise InputError(
                f"{path}: row {row + 1}, column {name!r} holds {str(column.iloc[row])!r}, which is not a number; encode "
                "the column as numbers, leave it out, or name it as the target"
            )
    missing = frame[target].isna().to_numpy()
    if missing.any():
        raise InputError(f"{path}: row {missing.argmax() + 1} has no label in column {target!r}; leave the row out")
    column = frame[target]
    labels = column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy(dtype=str)
    return features.to_numpy(dtype=np.float64), labels, list(features.columns)


def _check_header(path: Path, names: list[str]) -> None:
    """Raise `InputError` if the names look like a first row of data; numbered columns (0, 1, 2 ...) are names."""
    numbers = [number for number in map(_number, names) if number is not None]
    if numbers and numbers != [numbers[0] + i for i in range(len(numbers))]:
        raise InputError(
            f"{path}: its first line ({', '.join(names[:4])}{', ...' if names[4:] else ''}) looks like data; "
            "put a line of different column names above it"
        )


def _number(text: str) -> float | None:
    """The number that a text means, or None."""
    try:
        return float(text)
    except ValueError:
        return None
