"""Indexes of tars and tables that are kept: what is unchanged is not opened again."""

from __future__ import annotations

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.readers import container_index, open_reader
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


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def asked(monkeypatch):
    """Bytes of every request for a table in memory://, as it is made."""
    sizes, read, info = [], Storage._read, Storage.info

    def reading(self, uri, offset, length):
        data = read(self, uri, offset, length)
        if uri.endswith(".parquet"):
            sizes.append(len(data))
        return data

    def informed(self, uri):
        if uri.endswith(".parquet"):
            sizes.append(0)
        return info(self, uri)

    monkeypatch.setattr(Storage, "_read", reading)
    monkeypatch.setattr(Storage, "info", informed)
    return sizes


def put_table(store, uri, pictures, **columns):
    buffer = io.BytesIO()
    names = [f"{n}.jpg" for n in range(len(pictures))]
    rows = [{"bytes": data, "path": name} for data, name in zip(pictures, names, strict=True)]
    table = pa.table({"image": pa.array(rows, STRUCT), **columns})
    options = {"row_group_size": 8, "compression": "none", "use_dictionary": False}
    pq.write_table(table, buffer, **options)
    store.write(uri, buffer.getvalue())


def test_a_remote_table_is_listed_by_its_footer_and_small_columns(asked):
    store, root = Storage(), "memory://tables"
    pictures = [bytes([n]) * 200_000 for n in range(32)]
    for n in range(3):
        put_table(store, f"{root}/in/{n}.parquet", pictures)

    def records():
        asked.clear()
        return list(open_reader(InputConfig(uri=f"{root}/in"), store, kept=f"{root}/kept").list())

    first = records()
    assert len(first) == 3 * 32
    assert len(asked) <= 3 * (1 + 4)  # a footer, and the names of four row groups
    assert sum(asked) < 3 * 200_000 < 3 * 32 * 200_000
    assert records() == first
    assert not asked
    put_table(store, f"{root}/in/1.parquet", pictures[:9])
    again = records()
    assert 0 < len(asked) <= 1 + 2
    assert len(again) == 2 * 32 + 9
    (kept,) = store.list(f"{root}/kept")
    assert kept.size < 20_000


def test_what_rows_of_a_kept_table_point_at_is_looked_at_each_time(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"1")
    uris = pa.array(["../a.jpg", "../b.jpg", "../gone.jpg", "memory://far/c.jpg", None])
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"uri": uris}), tmp_path / "in" / "t.parquet")
    config = InputConfig(uri=str(tmp_path / "in"), format="parquet")

    def records():
        kept = list(open_reader(config, kept=str(tmp_path / "kept")).list())
        assert kept == list(open_reader(config).list())
        return kept

    first = records()
    assert records() == first
    (tmp_path / "a.jpg").write_bytes(b"22")
    (tmp_path / "gone.jpg").write_bytes(b"333")
    again = records()
    assert [a == b for a, b in zip(first, again, strict=True)] == [False, True, False, True, True]
    assert [record.size for record in again] == [2, 1, 3, -1, -1]


def test_other_columns_are_another_listing(tmp_path):
    column = pa.array([b"1", b"2"])
    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({"one": column, "two": column[:1].take([0, 0])}), tmp_path / "in/t.parquet"
    )
    for column, expected in (("one", [b"1", b"2"]), ("two", [b"1", b"1"])):
        config = InputConfig(uri=str(tmp_path / "in"), column=column)
        reader = open_reader(config, kept=str(tmp_path / "kept"))
        assert [reader.read(record) for record in reader.list()] == expected
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_what_is_installed_later_is_found(place, monkeypatch):
    listed(place, monkeypatch)
    more = {**container_index.image_extensions(), ".new": None}
    monkeypatch.setattr(container_index, "image_extensions", lambda: more)
    assert len(listed(place, monkeypatch)[2]) == 20
