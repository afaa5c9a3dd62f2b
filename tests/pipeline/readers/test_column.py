"""Every way in which tables hold pictures, and tables that are broken beside whole ones."""

from __future__ import annotations

import base64

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.readers import open_reader
from pipeline.storage.errors import StorageError
from schemas.config.job import InputConfig

ONE, TWO, THREE = b"\x89PNG one", b"\xff\xd8 two", bytes(range(256))
ROWS = [ONE, TWO, THREE]


def read_all(path, **options):
    """file name → bytes; and the reader."""
    reader = open_reader(InputConfig(uri=str(path), **options))
    return {r.file_name.partition("/")[2]: reader.read(r) for r in reader.list()}, reader


FIXED = [b"12345678", b"abcdefgh", b"\0\1\2\3\4\5\6\7"]
KINDS = {
    "list<uint8>": pa.array([list(one) for one in ROWS], pa.list_(pa.uint8())),
    "large_list<uint8>": pa.array([list(one) for one in ROWS], pa.large_list(pa.uint8())),
    "list<int8>": pa.array(
        [np.frombuffer(one, np.int8).tolist() for one in ROWS], pa.list_(pa.int8())
    ),
    "dictionary<binary>": pa.array(ROWS, pa.binary()).dictionary_encode(),
    "struct with more": pa.array(
        [{"bytes": one, "path": "x.png", "height": 3, "label": "a"} for one in ROWS]
    ),
    "struct with data": pa.array([{"data": one, "name": "x.png"} for one in ROWS]),
    "struct with list<uint8>": pa.array(
        [{"bytes": list(one), "path": None} for one in ROWS],
        pa.struct([("bytes", pa.list_(pa.uint8())), ("path", pa.string())]),
    ),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_every_kind_of_column(tmp_path, name, suffix):
    table = pa.table({"n": [1, 2, 3], "picture": KINDS[name], "caption": ["a", "b", "c"]})
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    found, reader = read_all(path, column="picture")
    assert list(found.values()) == ROWS
    assert reader.inventory.containers[0].images == 3
    assert list(read_all(path)[0].values()) == ROWS


def test_fixed_size_binary(tmp_path):
    pq.write_table(pa.table({"picture": pa.array(FIXED, pa.binary(8))}), tmp_path / "t.parquet")
    assert list(read_all(tmp_path)[0].values()) == FIXED


@pytest.mark.parametrize("kind", ["binary", "struct", "uri", "large"])
def test_a_list_of_images_is_an_image_an_item(tmp_path, kind):
    for name, data in zip("abc", ROWS, strict=True):
        (tmp_path / f"{name}.jpg").write_bytes(data)
    rows = [[0, 1], [], None, [2]]
    values = {
        "binary": (lambda n: ROWS[n], pa.list_(pa.binary())),
        "large": (lambda n: ROWS[n], pa.large_list(pa.large_binary())),
        "struct": (
            lambda n: {"bytes": ROWS[n], "path": f"dir/{'abc'[n]}.png"},
            pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ),
        "uri": (lambda n: f"{'abc'[n]}.jpg", pa.list_(pa.string())),
    }
    make, arrow = values[kind]
    column = pa.array([row and [make(n) for n in row] if row is not None else None for row in rows],
                      arrow)  # fmt: skip
    pq.write_table(pa.table({"images": column}), tmp_path / "t.parquet", row_group_size=3)
    found, _ = read_all(tmp_path / "t.parquet")
    end = {"struct": ["-a.png", "-b.png", "-c.png"], "uri": ["-a.jpg", "-b.jpg", "-c.jpg"]}
    ends = end.get(kind, ["", "", ""])
    assert list(found) == [
        f"00000000-000{ends[0]}", f"00000000-001{ends[1]}", f"00000003-000{ends[2]}"
    ]  # fmt: skip
    assert list(found.values()) == ROWS


def test_nested_fields(tmp_path):
    rows = [{"image": {"bytes": one, "path": None}, "id": 1} for one in ROWS]
    pq.write_table(pa.table({"sample": pa.array(rows), "n": [1, 2, 3]}), tmp_path / "t.parquet")
    assert list(read_all(tmp_path)[0].values()) == ROWS
    assert list(read_all(tmp_path, column="sample.image")[0].values()) == ROWS
    rows = [{"deep": {"raw": ONE, "mask": TWO}}, None]
    pq.write_table(pa.table({"s": pa.array(rows)}), tmp_path / "t.parquet")
    with pytest.raises(StorageError, match="this row holds no image"):
        read_all(tmp_path, column="s.deep.raw")
    with pytest.raises(ValueError, match=r"several columns of images \(s.deep.raw, s.deep.mask\)"):
        read_all(tmp_path)


def test_base64_with_the_flag(tmp_path):
    texts = [base64.b64encode(one * 9).decode() for one in ROWS]
    table = pa.table({"caption": ["a cat", "b", "c"], "picture": texts})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="no column of images"):
        read_all(tmp_path)
    expected = [one * 9 for one in ROWS]
    assert list(read_all(tmp_path, base64=True)[0].values()) == expected
    found = read_all(tmp_path, base64=True, column="picture")[0]
    assert list(found) == ["00000000", "00000001", "00000002"]  # not the text
    pq.write_table(pa.table({"picture": [*texts[:2], "no base 64!"]}), tmp_path / "t.parquet")
    reader = open_reader(InputConfig(uri=str(tmp_path), base64=True, column="picture"))
    *_, last = reader.list()
    with pytest.raises(StorageError, match="no base64"):
        reader.read(last)


def test_data_uris(tmp_path):
    texts = ["data:image/png;base64," + base64.b64encode(one).decode() for one in ROWS]
    pq.write_table(pa.table({"url": texts}), tmp_path / "t.parquet")
    found = read_all(tmp_path)[0]
    assert list(found) == ["00000000", "00000001", "00000002"]
    assert list(found.values()) == ROWS


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_row_without_a_uri_says_so(tmp_path, empty):
    (tmp_path / "a.jpg").write_bytes(ONE)
    pq.write_table(pa.table({"file": ["a.jpg", empty, "gone.jpg"]}), tmp_path / "t.parquet")
    for options in ({}, {"column": "file"}):
        reader = open_reader(InputConfig(uri=str(tmp_path / "t.parquet"), **options))
        good, none, gone = reader.list()
        assert reader.read(good) == ONE
        with pytest.raises(StorageError, match="this row has no URI"):
            reader.read(none)
        with pytest.raises(StorageError, match="no such file or folder"):
            reader.read(gone)


def test_one_bad_table_never_stops_the_rest(tmp_path):
    table = pa.table({"image": ROWS})
    for name in ("a", "cut", "z"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "page.parquet").write_bytes(b"<!DOCTYPE html>" * 99)
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"image": pa.nulls(2)}), tmp_path / "null.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "rowless.parquet")
    (tmp_path / "cut.arrow").write_bytes(b"ARROW1\0\0 and no more")
    reader = open_reader(InputConfig(uri=str(tmp_path), column="image"))
    assert [reader.read(record) for record in reader.list()] == ROWS * 2
    rows = {c.uri.rpartition("/")[2]: c for c in reader.inventory.containers}
    assert {name: row.status for name, row in rows.items()} == {
        "a.parquet": "ok", "cut.arrow": "failed", "cut.parquet": "failed",
        "empty.parquet": "failed", "null.parquet": "failed", "other.parquet": "failed",
        "page.parquet": "failed", "rowless.parquet": "ok", "z.parquet": "ok",
    }  # fmt: skip
    assert rows["null.parquet"].reason == "column 'image' holds nothing but nulls"
    assert rows["other.parquet"].reason == "it has no column 'image'; it has caption"
    assert "no whole Parquet file" in rows["page.parquet"].reason
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    assert [reader.read(record) for record in reader.list()] == ROWS * 2
    assert len(reader.inventory.faults) == 6


def test_a_dataset_that_hugging_face_saved(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int32")})
    pictures = [np.full((4 + n, 6, 3), n * 20, np.uint8) for n in range(7)]
    rows = {"image": pictures, "n": list(range(7))}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    whole = datasets.DatasetDict({"train": dataset, "test": dataset.select([4, 2])})
    whole.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 2, "test": 1})
    (tmp_path / "saved/train/cache-0123.arrow").write_bytes(b"left by map()")
    raw = [row["image"]["bytes"] for part in ("test", "train")
           for row in whole[part].cast_column("image", datasets.Image(decode=False))]  # fmt: skip
    found, reader = read_all(tmp_path / "saved")
    assert list(found.values()) == raw
    assert {(i.suffix, i.reason): i.files for i in reader.inventory.left_out} == {
        (".json", "not a picture"): 5,
        (".arrow", "not named by its dataset's state.json"): 1,
    }
    assert [c.images for c in reader.inventory.containers] == [2, 4, 3]


def test_a_stream_of_sequences_of_images(tmp_path):
    features = datasets.Features({"images": datasets.Sequence(datasets.Image())})
    rows = {"images": [[{"bytes": ONE, "path": None}, {"bytes": TWO, "path": None}], []]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "s"))
    assert list(read_all(tmp_path / "s")[0].values()) == [ONE, TWO]


def test_a_field_of_an_image_struct_may_be_named(tmp_path):
    rows = [{"image": one, "label": n} for n, one in enumerate(ROWS)]
    pq.write_table(pa.table({"sample": pa.array(rows)}), tmp_path / "t.parquet")
    for column in ("sample", "sample.image", ""):
        assert list(read_all(tmp_path / "t.parquet", column=column)[0].values()) == ROWS


def test_one_row_that_is_no_base64_does_not_hide_the_column(tmp_path):
    texts = ["data:image/png;base64," + base64.b64encode(ONE * 9).decode(), "!!!"]
    pq.write_table(pa.table({"n": [1, 2], "image": texts}), tmp_path / "t.parquet")
    reader = open_reader(InputConfig(uri=str(tmp_path), base64=True))
    good, bad = reader.list()
    assert reader.read(good) == ONE * 9
    with pytest.raises(StorageError, match="this row's text is no base64"):
        reader.read(bad)
