"""A body of another size than the listing told: tried again, then an error; never a picture."""

from __future__ import annotations

import io
import tarfile

import pytest

from pipeline.readers import open_reader
from pipeline.storage import bodies
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig

PICTURE = bytes(range(256)) * 40


@pytest.fixture
def cutting(monkeypatch):
    """Halves bodies while its list of paths to cut has entries."""
    cut: list[str] = []
    read = Storage._read

    def halved(self, uri, offset, length):
        data = read(self, uri, offset, length)
        if any(uri.endswith(name) for name in cut):
            cut.pop()
            return data[: len(data) // 2]
        return data

    monkeypatch.setattr(Storage, "_read", halved)
    monkeypatch.setattr(bodies, "_WAITS_S", (0.0, 0.0))
    return cut


def records(store, uri, **options):
    reader = open_reader(InputConfig(uri=uri, **options), store)
    return reader, list(reader.list())


def test_a_body_that_comes_short_is_asked_for_again(cutting):
    store = Storage()
    store.write("memory://short/a.jpg", PICTURE)
    reader, (record,) = records(store, "memory://short")
    cutting += ["a.jpg"] * 2
    assert reader.read(record) == PICTURE
    cutting += ["a.jpg"] * 3
    with pytest.raises(StorageError, match=r"5120 of 10240 bytes came: memory://short/a.jpg"):
        reader.read(record)


def test_a_picture_that_has_grown_is_no_picture_of_this_listing(tmp_path):
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    reader, (record,) = records(Storage(), str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(PICTURE[:100])
    with pytest.raises(StorageError, match=r"100 of 10240 bytes came: .*has changed"):
        reader.read(record)


def test_tars_and_tables_are_not_taken_for_broken(cutting):
    store = Storage()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = len(PICTURE)
        tar.addfile(info, io.BytesIO(PICTURE))
    store.write("memory://shorttar/t.tar", buffer.getvalue())
    cutting += ["t.tar"] * 2
    reader, (record,) = records(store, "memory://shorttar")
    assert reader.inventory.containers[0].status == "ok"
    assert reader.read(record) == PICTURE
