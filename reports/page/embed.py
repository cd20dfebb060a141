"""Compressed CSV tables inside the page, for its scripts and for download."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..wording import clean

DIGITS = 6  # significant digits of numbers in a downloaded table

# Spreadsheets run a cell that begins with one of these signs as a formula (OWASP, "CSV Injection"). An apostrophe before it
# prevents that. Text that begins with an apostrophe gets another, so that removing one restores every text.
_FORMULA = re.compile(r"['=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)


def packed(tables: Mapping[str, pd.DataFrame]) -> str:
    """Tables as a JSON object from names to CSV, compressed with gzip and in base64; equal tables give equal text.

    The text cannot end a script element in HTML: names are escaped, and base64 has no such signs.
    """
    encoded = {name: base64.b64encode(_compressed(csv(table))).decode("ascii") for name, table in tables.items()}
    return json.dumps(encoded, separators=(",", ":")).replace("<", "\\u003c")


def csv(table: pd.DataFrame, digits: int = DIGITS) -> str:
    """A table as CSV (RFC 4180, with line feeds), without its index.

    Numbers are rounded to `digits` significant digits, except whole numbers; missing values are empty, infinity is "inf".
    Text that a spreadsheet would run as a formula starts with an apostrophe.
    """
    columns = [_cells(table.iloc[:, i], digits) for i in range(table.shape[1])]
    lines = [",".join(_text(str(name)) for name in table.columns), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _cells(column: pd.Series[Any], digits: int) -> list[str]:
    """The cells of a column in CSV."""
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return [_cell(value, digits) for value in column]
    if pd.api.types.is_integer_dtype(column.dtype):
        return ["" if value is pd.NA else str(value) for value in column.tolist()]
    form = f"%.{digits}g"
    values = column.to_numpy(dtype=float, na_value=np.nan)
    return ["" if math.isnan(value) else form % value for value in values.tolist()]


def _cell(value: Any, digits: int) -> str:
    """A cell of a column of mixed types."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.{digits}g}"
    return _text(str(value)) if np.ndim(value) or not pd.isna(value) else ""


@functools.lru_cache(maxsize=1024)  # columns repeat few names
def _text(text: str) -> str:
    """Text as a cell that no spreadsheet runs, in quotes if necessary."""
    text = clean(text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text


def _compressed(text: str) -> bytes:
    """Compressed text; without time and system in the header, so that equal text gives equal bytes."""
    packed = bytearray(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    packed[9] = 255  # the operating system: unknown (RFC 1952)
    return bytes(packed)
