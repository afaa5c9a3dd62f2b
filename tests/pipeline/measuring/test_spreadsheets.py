"""Measurements as CSV and Excel: the same numbers, read back by pandas."""

from __future__ import annotations

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_datasets import picture_dataset, scene

from pipeline.measuring.measure import images_uri, measure
from pipeline.measuring.spreadsheets import rewrite_table

NAMES = ("=1+1.png", "b.tif", "http:c.png", "d.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sheets")
    picture_dataset(made, {name: scene(k, "uint16" if k == 1 else "uint8")
                           for k, name in enumerate(NAMES)})  # fmt: skip
    for suffix in ("parquet", "csv", "xlsx"):
        measure(dataset=str(made / "dataset"), output=str(made / f"o.{suffix}"), save=False)
    return made


def read(path) -> pandas.DataFrame:
    if path.suffix == ".xlsx":
        return pandas.read_excel(path, keep_default_na=False, na_values=[""])
    return pandas.read_csv(path, keep_default_na=False, na_values=[""])


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_objects_have_the_same_numbers(folder, suffix):
    table = pq.read_table(folder / "o.parquet").to_pylist()
    rows = read(folder / f"o.{suffix}").to_dict("records")
    assert len(rows) == len(table) > 8
    for row, due in zip(rows, table, strict=True):
        for key, value in due.items():
            if key == "bbox_xywh":
                assert [row[f"bbox_{c}"] for c in "xywh"] == value
            elif key == "neighbour_ids":
                text = "" if pandas.isna(row[key]) else str(row[key]).removesuffix(".0")
                assert text == " ".join(map(str, value or []))
            elif key.startswith("intensity"):
                found = [row[f"{key}_{k}"] for k in range(3)]
                wanted = [*value, *[None] * (3 - len(value))]
                assert np.allclose(np.array(found, float), np.array(wanted, float), equal_nan=True)
            elif value is None:
                assert pandas.isna(row[key]), key
            elif isinstance(value, float):
                assert np.isclose(row[key], value, rtol=1e-6), key
            else:
                assert row[key] == value, key


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_images_lie_beside(folder, suffix):
    path = folder / f"o.images.{suffix}"
    assert images_uri(str(folder / f"o.{suffix}")) == str(path)
    due = pq.read_table(folder / "o.images.parquet").to_pylist()
    rows = read(path)
    assert rows["file_name"].tolist() == [row["file_name"] for row in due]
    assert "=1+1.png" in rows["file_name"].tolist()  # a name, not a formula


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_same_rows_same_bytes(folder, suffix):
    again = folder / f"again.{suffix}"
    measure(dataset=str(folder / "dataset"), output=str(again), save=False)
    assert again.read_bytes() == (folder / f"o.{suffix}").read_bytes()


def test_an_empty_table_has_its_header(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}), path)
    assert rewrite_table(path, ".csv").read_text().strip() == '"a","b"'
    assert pandas.read_excel(rewrite_table(path, ".xlsx")).columns.tolist() == ["a", "b"]
    assert rewrite_table(path, ".parquet") == path


def test_more_rows_than_a_sheet_has_are_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": np.zeros(1_048_576, np.int8)}), path)
    with pytest.raises(ValueError, match=r"1,048,576 rows, an Excel sheet has 1,048,575"):
        rewrite_table(path, ".xlsx")
