"""Tables inside the page: CSV, compressed, for scripts of the page to unpack and for readers to download."""

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

# Spreadsheets run a cell that begins so as a formula (OWASP, "CSV Injection"). An apostrophe before it prevents that; text
# that begins with one gets another, so that taking one away gives every text back.
_FORMULA = re.compile(r"['=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)


def packed(tables: Mapping[str, pd.DataFrame]) -> str:
    """Tables as one JSON object, name -> its CSV, compressed with gzip and in base64; the same tables give the same text.

    Nothing is left of what could end a script element in HTML: names are escaped, and base64 has no such signs.
    """
    encoded = {name: base64.b64encode(_compressed(csv(table))).decode("ascii") for name, table in tables.items()}
    return json.dumps(encoded, separators=(",", ":")).replace("<", "\\u003c")


def csv(table: pd.DataFrame, digits: int = DIGITS) -> str:
    """A table as CSV (RFC 4180, lines ended by a line feed), without its index.

    Numbers have as many significant digits as asked for, whole numbers all of theirs; what is missing is empty, infinity is
    "inf". Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    columns = [_cells(table.iloc[:, i], digits) for i in range(table.shape[1])]
    lines = [",".join(_text(str(name)) for name in table.columns), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _cells(column: pd.Series[Any], digits: int) -> list[str]:
    """The cells of one column, as CSV has them."""
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return [_cell(value, digits) for value in column]
    if pd.api.types.is_integer_dtype(column.dtype):
        return ["" if value is pd.NA else str(value) for value in column.tolist()]
    form = f"%.{digits}g"
    values = column.to_numpy(dtype=float, na_value=np.nan)
    return ["" if math.isnan(value) else form % value for value in values.tolist()]


def _cell(value: Any, digits: int) -> str:
    """A cell of a column that may hold anything."""
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
    """Text as a cell that no spreadsheet runs, in quotes where it must be."""
    text = clean(text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text


def _compressed(text: str) -> bytes:
    """Without a time and a system in the header, so that the same text gives the same bytes."""
    packed = bytearray(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    packed[9] = 255  # the operating system: unknown (RFC 1952)
    return bytes(packed)
