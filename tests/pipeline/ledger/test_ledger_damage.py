"""A damaged dataset is one error that names the file, whoever opens it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_datasets import small_dataset

from pipeline.ledger.ledger import open_ledger


def rewrite(folder: Path, table: str, change) -> str:
    file = sorted((folder / table).glob("*.parquet"))[0]
    pq.write_table(change(pq.read_table(file)), file)
    return file.name


def with_column(name, values):
    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index(name)
        return table.set_column(at, name, values(table[name]))

    return change


DAMAGES = {
    "no rle": ("annotations", lambda t: t.drop_columns(["rle"]), "no column 'rle'"),
    "no file_name": ("images", lambda t: t.drop_columns(["file_name"]), "no column 'file_name'"),
    "area as text": (
        "annotations",
        with_column("area", lambda c: c.cast(pa.string())),
        "column 'area' holds string",
    ),
    "no size": (
        "images",
        with_column("width", lambda c: pa.nulls(len(c), c.type)),
        "no width and height",
    ),
    "size 0": (
        "images",
        with_column("height", lambda c: pa.array([0] * len(c), c.type)),
        "no width and height",
    ),
    "null id": (
        "images",
        with_column("image_id", lambda c: pa.nulls(len(c), c.type)),
        "column 'image_id' holds nulls",
    ),
    "strange category": (
        "annotations",
        with_column("category_id", lambda c: pa.array([777] * len(c), c.type)),
        "unknown category 777",
    ),
    "huge mask": (
        "annotations",
        with_column(
            "rle",
            lambda c: pa.array([{"size": [2**31 - 1, 2], "counts": "1"}] * len(c), c.type),
        ),
        "a mask of 4294967294 pixels",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_no_reader_expects_are_refused(damage, tmp_path):
    table, change, message = DAMAGES[damage]
    ledger = small_dataset(tmp_path / "data")
    name = rewrite(tmp_path / "data", table, change)
    with pytest.raises(ValueError, match=message) as caught:
        list(open_ledger(ledger.uri).rows())
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_that_are_not_asked_for_are_not_missed(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    rewrite(tmp_path / "data", "annotations", lambda t: t.drop_columns(["rle"]))
    assert sum(len(table) for table in ledger.annotations(["area"])) == 50
