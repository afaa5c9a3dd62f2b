"""Parquet inputs: finding the column, nulls, URIs, row groups read once."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import datasets
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.readers import EmptyInputError, open_reader
from pipeline.readers.parquet import ParquetReader
from pipeline.readers.table_file import TableFile
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def opened(path, **options):
    reader = open_reader(InputConfig(uri=str(path), **options))
    assert isinstance(reader, ParquetReader)
    return reader, list(reader.list())


def written(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_the_rows_are_those_that_datasets_reads(tmp_path):
    pictures = [np.full((4 + n, 6, 3), n * 20, np.uint8) for n in range(7)]
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int32")})
    rows = {"image": pictures, "n": list(range(7))}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.to_parquet(str(tmp_path / "d.parquet"), batch_size=3)
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "d.parquet"))
    raw = loaded.cast_column("image", datasets.Image(decode=False))
    reader, records = opened(tmp_path)
    assert [reader.read(record) for record in records] == [row["image"]["bytes"] for row in raw]
    assert [record.file_name for record in records] == [f"d.parquet/{n:08d}" for n in range(7)]


def test_file_names_carry_the_row_and_the_base_name(tmp_path):
    column = pa.array([{"bytes": b"1", "path": p} for p in ("a/x.jpg", None, "x.jpg", "c\\y.jpg")])
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub" / "d.parquet", {"image": column})
    _, records = opened(tmp_path)
    assert [r.file_name for r in records] == [
        "sub/d.parquet/00000000-x.jpg",
        "sub/d.parquet/00000001",
        "sub/d.parquet/00000002-x.jpg",
        "sub/d.parquet/00000003-y.jpg",
    ]


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), STRUCT, pa.struct(list(STRUCT)[::-1]),
     pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]),
     pa.struct([("bytes", pa.binary()), ("path", pa.null())])],
)  # fmt: skip
def test_every_arrow_spelling_of_an_image(tmp_path, kind):
    struct = pa.types.is_struct(kind)
    values = [{"bytes": b"1", "path": None}, None, {"bytes": b"", "path": None}]
    column = pa.array(values if struct else [b"1", None, b""], kind)
    written(tmp_path / "d.parquet", {"picture": column, "caption": ["a", "b", "c"]})
    reader, records = opened(tmp_path)
    assert [reader.read(records[0]), reader.read(records[2])] == [b"1", b""]
    with pytest.raises(StorageError, match="this row holds no image"):
        reader.read(records[1])


def test_a_file_of_another_writer(tmp_path):
    path = tmp_path / "duck.parquet"
    duckdb.sql(f"COPY (SELECT 'x'::BLOB AS jpg, i FROM range(5) t(i)) TO '{path}' (FORMAT parquet)")
    reader, records = opened(path)
    assert [reader.read(record) for record in records] == [b"x"] * 5


def test_which_column(tmp_path):
    one, two = [b"1", b"1"], [b"2", b"2"]
    names = ["a.jpg", "b.jpg"]
    path = tmp_path / "d.parquet"
    written(path, {"file": names, "data": one, "n": [1, 2]})
    reader, records = opened(path)
    assert reader.read(records[0]) == b"1"  # bytes before names of files

    image = pa.array([{"bytes": b"0", "path": None}] * 2, STRUCT)
    written(path, {"data": one, "image": image})
    reader, records = opened(path)
    assert reader.read(records[0]) == b"0"  # an image before just any bytes

    written(path, {"image": one, "mask": two})
    with pytest.raises(ValueError, match=r"several columns of images \(image, mask\): .*--column"):
        opened(path)
    reader, records = opened(path, column="mask")
    assert reader.read(records[0]) == b"2"

    features = datasets.Features({"image": datasets.Image(), "embedding": datasets.Value("binary")})
    rows = {"image": [{"bytes": b"1", "path": None}], "embedding": [b"2"]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    reader, records = opened(path)
    assert reader.read(records[0]) == b"1"


def test_no_column_fits(tmp_path):
    path = written(tmp_path / "d.parquet", {"caption": ["a cat", "a dog"], "n": [1, 2]})
    with pytest.raises(
        ValueError, match=r"d.parquet: it has no column of images .*caption: string, n"
    ):
        opened(path)
    with pytest.raises(ValueError, match=r"has no column 'image'; it has caption, n"):
        opened(path, column="image")
    with pytest.raises(ValueError, match=r"column 'n' holds int64, not images"):
        opened(path, column="n")


def test_uris_of_every_kind(tmp_path):
    Storage().write("memory://uris/far.jpg", b"far")
    for name in ("near.jpg", "sub/below.jpg", "abs olute.jpg"):
        Storage().write(str(tmp_path / name), name.encode())
    (tmp_path / "tables").mkdir()
    uris = ["memory://uris/far.jpg", "../near.jpg", None, "../sub/below.jpg",
            str(tmp_path / "abs olute.jpg"), "../gone.jpg"]  # fmt: skip
    column = pa.array(uris).dictionary_encode()
    written(tmp_path / "tables" / "d.parquet", {"url": column}, row_group_size=4)
    reader, records = opened(tmp_path / "tables")
    assert [r.file_name.partition("/")[2] for r in records] == [
        "00000000-far.jpg", "00000001-near.jpg", "00000002", "00000003-below.jpg",
        "00000004-abs olute.jpg", "00000005-gone.jpg",
    ]  # fmt: skip
    found = [reader.read(record) for record in (*records[:2], *records[3:5])]
    assert found == [b"far", b"near.jpg", b"sub/below.jpg", b"abs olute.jpg"]
    with pytest.raises(StorageError, match="this row has no URI"):
        reader.read(records[2])
    with pytest.raises(MissingError, match=r"no such file or folder: .*/gone.jpg"):
        reader.read(records[5])
    assert [record.size for record in records] == [-1, 8, -1, 13, 13, -1]
    table = records[2].token  # a remote picture changes with the table, a local one by itself
    assert [record.token == table for record in records] == [True, False, True, False, False, False]
    assert records[5].token == ""
    (tmp_path / "near.jpg").write_bytes(b"changed")
    assert list(reader.list())[1].token != records[1].token


def test_an_image_struct_may_hold_a_path_only(tmp_path):
    (tmp_path / "far.jpg").write_bytes(b"far")
    rows = [{"bytes": b"1", "path": "1.jpg"}] * 2 + [{"bytes": None, "path": "far.jpg"}] * 2
    path = written(tmp_path / "d.parquet", {"image": pa.array(rows, STRUCT)}, row_group_size=2)
    reader, records = opened(path)
    assert [reader.read(record) for record in records] == [b"1", b"1", b"far", b"far"]
    (tmp_path / "far.jpg").write_bytes(b"changed")
    again = list(reader.list())
    assert [a.token == b.token for a, b in zip(records, again, strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [record.row for record in again] == [0, 1, -1, -1]


def test_no_rows(tmp_path):
    path = written(tmp_path / "d.parquet", {"image": pa.array([], STRUCT)})
    with pytest.raises(
        EmptyInputError, match=r"looked for .parquet files with rows; found no file"
    ):
        opened(path)


def test_threads_read_each_row_group_once(tmp_path, monkeypatch):
    data = [bytes([n % 256]) * 2000 for n in range(1000)]
    path = written(tmp_path / "d.parquet", {"image": data}, row_group_size=300)
    loads = Counter()
    load = TableFile.load

    def counting(self, number):
        loads[number] += 1
        return load(self, number)

    monkeypatch.setattr(TableFile, "load", counting)
    reader, records = opened(path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, records)) == data
    assert loads == {0: 1, 1: 1, 2: 1, 3: 1}


def test_listing_reads_no_pixels(tmp_path):
    rows = [{"bytes": bytes(1_000_000), "path": f"{n}.jpg"} for n in range(40)]
    options = {"row_group_size": 40, "compression": "none", "use_dictionary": False}
    path = written(tmp_path / "d.parquet", {"image": pa.array(rows, STRUCT)}, **options)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    reader = open_reader(InputConfig(uri=str(path)))
    assert sum(1 for _ in reader.list()) == 40
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 8_000_000
