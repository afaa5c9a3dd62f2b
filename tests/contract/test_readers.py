"""One suite that every reader passes, on a local disk and on a real S3 server.

The input is written by the format's own library: webdataset for tars, datasets for Parquet.
"""

from __future__ import annotations

import io
import pickle
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from pipeline.readers import READERS, EmptyInputError, open_reader
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.job import InputConfig
from schemas.records import ImageRecord

COUNT = 23


def payload(number: int) -> bytes:
    """Stands for an encoded image; a reader never looks inside."""
    return random.Random(number).randbytes(1 + 997 * number)


def folder(root: Path) -> None:
    for n in range(COUNT):
        path = root / f"sub{n % 3}" / "deep" / f"image {n}.{('jpg', 'PNG', 'tif')[n % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(n))
    (root / "notes.txt").write_text("ignored")
    (root / ".hidden.jpg").write_text("ignored")


def tars(root: Path) -> None:
    for shard, numbers in enumerate((range(10), range(10, COUNT))):
        with webdataset.TarWriter(str(root / f"shard-{shard:03d}.tar"), encoder=False) as tar:
            for n in numbers:
                key = f"dir.v1/{n - numbers[0]:04d}"  # the same keys in both tars
                tar.write({"__key__": key, "jpg": payload(n), "json": b"{}", "mask.png": b"no"})


def hf_parquet(root: Path) -> None:
    for part, numbers in enumerate((range(10), range(10, COUNT))):
        rows = {
            "id": list(numbers),
            "image": [{"bytes": payload(n), "path": f"{n % 7}.png"} for n in numbers],
        }
        features = datasets.Features({"id": datasets.Value("int64"), "image": datasets.Image()})
        dataset = datasets.Dataset.from_dict(rows, features=features)
        dataset.to_parquet(str(root / f"train-{part}.parquet"), batch_size=4)


def binary_parquet(root: Path) -> None:
    table = pa.table(
        {"name": [str(n) for n in range(COUNT)], "jpg": list(map(payload, range(COUNT)))}
    )
    pq.write_table(table, root / "all.parquet", row_group_size=5)


def lists(root: Path) -> None:
    (root / "pictures").mkdir()
    for n in range(COUNT):
        (root / "pictures" / f"{n}.jpg").write_bytes(payload(n))
    (root / "lists").mkdir()
    lines = [f"../pictures/{n}.jpg" for n in range(COUNT)]
    (root / "lists" / "some.txt").write_text("\n".join(lines))


def plain_tars(root: Path) -> None:
    for shard, numbers in enumerate((range(10), range(10, COUNT))):
        with tarfile.open(root / f"{shard}.tar.gz", "w:gz") as tar:
            for n in numbers:
                info = tarfile.TarInfo(f"2024.01.{n}.jpg")
                info.size = len(payload(n))
                tar.addfile(info, io.BytesIO(payload(n)))


def uri_parquet(root: Path) -> None:
    (root / "pictures").mkdir()
    for n in range(COUNT):
        (root / "pictures" / f"{n}.jpg").write_bytes(payload(n))
    (root / "tables").mkdir()
    table = pa.table({"image": [f"../pictures/{n}.jpg" for n in range(COUNT)]})
    pq.write_table(table, root / "tables" / "list.parquet", row_group_size=5)


INPUTS = {
    "folder": (folder, ""),
    "webdataset": (tars, ""),
    "parquet-hf": (hf_parquet, ""),
    "parquet-binary": (binary_parquet, ""),
    "parquet-uris": (uri_parquet, "tables"),
    "tar-compressed": (plain_tars, ""),
    "list-lines": (lists, "lists/some.txt"),
}


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request, tmp_path_factory):
    """(storage, function that puts a local folder there and returns its URI)."""
    if request.param == "local":
        return Storage(), str
    server = request.getfixturevalue("s3_server")
    storage = Storage(server.config)

    def upload(path: Path) -> str:
        root = server.new_bucket()
        for entry in Storage().list(str(path), hidden=True):
            storage.write(join(root, "in put", entry.path), Path(entry.uri).read_bytes())
        return join(root, "in put")

    return storage, upload


@pytest.fixture(scope="module", params=INPUTS)
def opened(request, place, tmp_path_factory):
    """(function that opens a fresh reader, format)."""
    storage, upload = place
    write, below = INPUTS[request.param]
    local = tmp_path_factory.mktemp(request.param)
    write(local)
    config = InputConfig(uri=join(upload(local), below))
    kind = request.param.partition("-")[0]
    if kind == "tar":
        config = config.model_copy(update={"format": kind})
    return lambda: open_reader(config, storage), kind


def test_the_table_names_what_auto_finds(opened):
    reader, kind = opened
    module, _, name = READERS[kind].partition(":")
    assert (type(reader()).__module__, type(reader()).__name__) == (module, name)


def test_the_same_bytes_come_back(opened):
    reader, _ = opened
    reader = reader()
    found = {reader.read(record) for record in reader.list()}
    assert found == set(map(payload, range(COUNT)))


def test_records_are_whole_and_unique(opened):
    reader, _ = opened
    records = list(reader().list())
    assert len(records) == COUNT
    assert len({record.file_name for record in records}) == COUNT
    for record in records:
        assert isinstance(record, ImageRecord)
        assert record.image_id == 0
        assert not record.file_name.startswith("/")
        assert "\\" not in record.file_name
        assert record.uri.startswith(("/", "s3://"))
        assert record.token


def test_sizes_are_true_where_they_are_told(opened):
    reader, kind = opened
    reader = reader()
    for record in reader.list():
        assert record.size in (-1, len(reader.read(record)))
        assert record.size >= 0 or kind in ("parquet", "list")


def test_the_listing_is_the_same_every_time(opened):
    reader, _ = opened
    one = reader()
    first = list(one.list())
    left_out, containers = one.inventory.left_out, list(one.inventory.containers)
    assert list(one.list()) == first == list(reader().list())
    assert one.inventory.left_out == left_out
    assert one.inventory.containers == containers
    keys = [(record.uri, record.offset, record.row) for record in first]
    assert all(a <= b for a, b in pairwise(keys)) or len({record.uri for record in first}) == COUNT


def test_it_pickles_before_and_after_use(opened):
    reader, _ = opened
    used = reader()
    records = list(used.list())
    expected = [used.read(record) for record in records]
    for copy in (pickle.loads(pickle.dumps(reader())), pickle.loads(pickle.dumps(used))):
        assert [copy.read(record) for record in records] == expected
    assert len(pickle.dumps(used)) < 4000  # caches stay home


def test_eight_threads_read_at_once(opened):
    reader, _ = opened
    reader = reader()
    records = list(reader.list())
    order = random.Random(0).sample(records * 3, k=len(records) * 3)
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(order, pool.map(reader.read, order), strict=True))
    assert sorted(found.values()) == sorted(map(payload, range(COUNT)))


def test_an_image_id_changes_nothing(opened):
    reader, _ = opened
    reader = reader()
    record = next(reader.list())
    assert reader.read(replace(record, image_id=7)) == reader.read(record)


def test_a_listing_may_be_left_early(opened):
    reader, _ = opened
    listing = reader().list()
    next(listing)
    listing.close()


def test_bytes_that_have_gone_are_an_error_not_a_crash(opened):
    reader, _ = opened
    reader = reader()
    record = next(reader.list())
    with pytest.raises((StorageError, ValueError), match="gone"):
        reader.read(replace(record, uri=record.uri + ".gone"))


@pytest.mark.parametrize("kind", ["folder", "webdataset", "tar", "parquet"])
def test_missing_and_empty_inputs_say_what_was_looked_for(place, tmp_path, kind):
    storage, upload = place
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more.TXT").write_text("no image")
    uri = upload(tmp_path)
    looked_for = {"folder": ".jpg", "webdataset": ".tar", "parquet": ".parquet", "tar": ".tar"}
    for format_ in (kind, "auto"):
        with pytest.raises(EmptyInputError) as caught:
            list(open_reader(InputConfig(uri=uri, format=format_), storage).list())
        assert looked_for[kind] in str(caught.value)
        assert uri in str(caught.value)
        assert "found only 2 .txt" in str(caught.value)
    with pytest.raises(MissingError, match="no such file or folder"):
        list(open_reader(InputConfig(uri=uri + "/none", format=kind), storage).list())


def test_a_truncated_container_is_named(place, tmp_path):
    storage, upload = place
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": [payload(20)]}), buffer)
    (tmp_path / "cut.parquet").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(ValueError, match=r"cut\.parquet: no whole Parquet file"):
        list(open_reader(InputConfig(uri=upload(tmp_path)), storage).list())
    (tmp_path / "cut.parquet").unlink()
    with webdataset.TarWriter(str(tmp_path / "cut.tar"), encoder=False) as tar:
        tar.write({"__key__": "a", "jpg": payload(20)})
    whole = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:9000])
    with pytest.raises(ValueError, match=r"cut\.tar: cut off: it ends inside a\.jpg"):
        list(open_reader(InputConfig(uri=upload(tmp_path)), storage).list())
