"""Indexes of tars that are kept: an unchanged tar is not opened again, whatever became of them."""

from __future__ import annotations

import io
import tarfile

import pytest

from pipeline.readers import open_reader
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.job import InputConfig


def put(store, uri, names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    store.write(uri, buffer.getvalue())


@pytest.fixture
def place(tmp_path):
    store = Storage()
    for n in range(20):
        put(
            store, str(tmp_path / f"in/{n:02d}.tar"), [f"{n}-{m}.jpg" for m in range(9)] + ["x.txt"]
        )
    return store, tmp_path


def listed(place, monkeypatch, **options):
    """Records, what was left out, and the tars whose headers were read."""
    store, root = place
    opened = []
    open_file = Storage.open
    monkeypatch.setattr(
        Storage, "open", lambda self, uri: opened.append(uri) or open_file(self, uri)
    )
    config = InputConfig(uri=str(root / "in"), **options)
    reader = open_reader(config, store, kept=str(root / "kept"))
    records = list(reader.list())
    monkeypatch.setattr(Storage, "open", open_file)
    for record in records[::7]:
        assert reader.read(record) == record.file_name.rpartition("/")[2].encode()
    rows = (reader.inventory.left_out, reader.inventory.containers)
    return records, rows, [uri.rpartition("/")[2] for uri in opened]


def test_only_what_changed_is_opened(place, monkeypatch):
    store, root = place
    first, rows, opened = listed(place, monkeypatch)
    assert len(opened) == 20
    assert listed(place, monkeypatch) == (first, rows, [])
    put(store, str(root / "in/07.tar"), ["new.jpg", "other.jpg"])
    (root / "in/09.tar").unlink()
    put(store, str(root / "in/99.tar"), ["more.jpg"])
    again, _, opened = listed(place, monkeypatch)
    assert opened == ["07.tar", "99.tar"]
    fresh = open_reader(InputConfig(uri=str(root / "in")), store)
    assert again == list(fresh.list())
    assert listed(place, monkeypatch)[2] == []


def test_other_options_are_another_listing(place, monkeypatch):
    listed(place, monkeypatch)
    _, _, opened = listed(place, monkeypatch, format="tar")
    assert len(opened) == 20


def test_a_broken_tar_is_looked_at_again(place, monkeypatch):
    _, root = place
    (root / "in/03.tar").write_bytes(b"")
    assert len(listed(place, monkeypatch)[2]) == 20
    records, (_, containers), opened = listed(place, monkeypatch)
    assert opened == ["03.tar"]
    assert [c.status for c in containers].count("failed") == 1
    assert len(records) == 19 * 9


@pytest.mark.parametrize("damage", [b"", b"ARROW1 and no more", None])
def test_a_damaged_index_costs_time_only(place, monkeypatch, damage):
    store, root = place
    first, *_ = listed(place, monkeypatch)
    (entry,) = store.list(str(root / "kept"))
    whole = store.read(entry.uri)
    store.write(entry.uri, whole[: len(whole) // 2] if damage is None else damage)
    again, _, opened = listed(place, monkeypatch)
    assert again == first
    assert len(opened) == 20
    assert store.read(entry.uri) == whole


def test_a_listing_that_is_left_early_keeps_what_stands(place):
    store, root = place
    reader = open_reader(InputConfig(uri=str(root / "in")), store, kept=join(str(root), "kept"))
    next(reader.list())
    assert not (root / "kept").exists()
