"""Finished Parquet tables as CSV or Excel workbooks, a row group at a time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import xlsxwriter

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

SUFFIXES = (".parquet", ".csv", ".xlsx")
"""What a table of measurements may be written as."""

_MOST_ROWS = 1_048_575
"""Of an Excel sheet, below its header."""

_LONGEST = 32_767
"""Characters of a cell."""


def suffix_of(output: str) -> str:
    """The kind of table that a file's name asks for.

    Raises:
        ValueError: None of `SUFFIXES`.
    """
    for suffix in SUFFIXES:
        if output.endswith(suffix):
            return suffix
    raise ValueError(f"the output must end in {', '.join(SUFFIXES)}, got {output!r}")


def rewrite_table(parquet: Path, suffix: str) -> Path:
    """The table in another kind of file beside it; the same rows give the same bytes.

    Lists of a fixed length become columns, `bbox_xywh` → `bbox_x` … `bbox_h`. Values a channel
    become `intensity_mean_0`, `intensity_mean_1` …, as many as the table's widest picture has;
    `neighbour_ids` is text, separated by spaces. Nulls are empty.

    Args:
        parquet: A finished table.
        suffix: ".csv", ".xlsx", or ".parquet" for the table itself.

    Returns:
        The new file, or `parquet`.

    Raises:
        ValueError: More rows than an Excel sheet has.
    """
    if suffix == ".parquet":
        return parquet
    path = parquet.with_suffix(suffix)
    with pq.ParquetFile(parquet) as file:
        if suffix == ".xlsx" and file.metadata.num_rows > _MOST_ROWS:
            raise ValueError(
                f"{file.metadata.num_rows:,} rows, an Excel sheet has {_MOST_ROWS:,}: "
                "write .csv or .parquet"
            )
        channels = _channels(file)
        tables = (_flat(table, channels) for table in _groups(file))
        (_write_csv if suffix == ".csv" else _write_xlsx)(path, tables)
    return path


def _groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    if not file.num_row_groups:
        yield file.schema_arrow.empty_table()
    for group in range(file.num_row_groups):
        yield file.read_row_group(group)


def _is_ids(field: pa.Field) -> bool:
    return pa.types.is_list(field.type) and pa.types.is_integer(field.type.value_type)


def _channels(file: pq.ParquetFile) -> dict[str, int]:
    """Column of a value a channel → the most values that a row has."""
    most: dict[str, int] = {}
    for field in file.schema_arrow:
        if pa.types.is_list(field.type) and not _is_ids(field):
            most[field.name] = 0
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=[field.name])[field.name]
                longest = compute.max(compute.list_value_length(column)).as_py()
                most[field.name] = max(most[field.name], longest or 0)
    return most


def _flat(table: pa.Table, channels: dict[str, int]) -> pa.Table:
    columns: dict[str, Any] = {}
    for field in table.schema:
        values = table[field.name]
        if pa.types.is_fixed_size_list(field.type):
            stem, _, letters = field.name.rpartition("_")
            for place, letter in enumerate(letters):
                columns[f"{stem}_{letter}"] = compute.list_element(values, place)
        elif field.name in channels:
            rows = values.to_pylist()
            for place in range(channels[field.name]):
                own = [row[place] if row and place < len(row) else None for row in rows]
                columns[f"{field.name}_{place}"] = pa.array(own, pa.float64())
        elif _is_ids(field):
            texts = compute.cast(values, pa.list_(pa.string()))
            columns[field.name] = compute.binary_join(texts, " ")
        else:
            columns[field.name] = values
    return pa.table(columns)


def _write_csv(path: Path, tables: Iterator[pa.Table]) -> None:
    with path.open("wb") as file:
        for place, table in enumerate(tables):
            pacsv.write_csv(table, file, pacsv.WriteOptions(include_header=place == 0))


def _write_xlsx(path: Path, tables: Iterator[pa.Table]) -> None:
    options = {
        "constant_memory": True,
        # A file's name must stay a name: no formula, no link.
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties({"created": datetime.datetime(1980, 1, 1)})  # no clock in the file
        sheet = book.add_worksheet("measurements")
        sheet.freeze_panes(1, 0)
        line = 0
        for table in tables:
            if not line:
                sheet.write_row(0, 0, table.column_names)
                line = 1
            for batch in table.to_batches(max_chunksize=4_096):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    for place, value in enumerate(values):
                        _write_cell(sheet, line, place, value)
                    line += 1


def _write_cell(sheet: Any, line: int, place: int, value: Any) -> None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, bool):
        sheet.write_boolean(line, place, value)
    elif isinstance(value, int | float):
        sheet.write_number(line, place, value)
    else:
        sheet.write_string(line, place, str(value)[:_LONGEST])
