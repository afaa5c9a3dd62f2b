"""WebDataset's rules, compared with the webdataset library on the same tars."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import webdataset

from pipeline.readers import EmptyInputError, open_reader
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig


def write(path, members, *, tar_format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name in members:
            data = b"bytes of " + name.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def images(path, **options):
    """member → bytes, as our reader finds them."""
    reader = open_reader(InputConfig(uri=str(path), **options))
    prefix = path.name + "/"
    return {r.file_name.removeprefix(prefix): reader.read(r) for r in reader.list()}


def samples(path):
    """The samples as the webdataset library groups them: [{field: bytes}]."""
    found = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    return [{k: v for k, v in sample.items() if not k.startswith("__")} for sample in found]


GOOD = ["x/22.0/1.jpg", "x/22.0/1.json", "x/22.0/1.mask.png", "x/22.0/2.JPG", "x/22.0/2.cls",
        "y/photo.v2.jpg", "z/a b.jpeg", "z/ü.png", "__meta__/n.jpg", "no_extension",
        "w.jpg", "w.png", "only.rgb.tif", "text.txt"]  # fmt: skip


def test_the_images_are_the_librarys(tmp_path):
    path = write(tmp_path / "t.tar", GOOD)
    ours = images(path)
    assert list(ours) == ["x/22.0/1.jpg", "x/22.0/2.JPG", "y/photo.v2.jpg", "z/a b.jpeg",
                          "z/ü.png", "w.jpg", "only.rgb.tif"]  # fmt: skip
    theirs = samples(path)
    with_picture = [s for s in theirs if any(f.endswith(("jpg", "jpeg", "png", "tif")) for f in s)]
    assert len(with_picture) == len(ours)
    for sample, (name, data) in zip(with_picture, ours.items(), strict=True):
        assert data in sample.values(), name


def test_the_column_names_the_field(tmp_path):
    path = write(tmp_path / "t.tar", GOOD)
    assert list(images(path, column="mask.png")) == ["x/22.0/1.mask.png"]
    assert list(images(path, column=".PNG")) == ["z/ü.png", "w.png"]
    with pytest.raises(EmptyInputError, match=r"looked for .tar files with nothing; found only"):
        images(path, column="nothing")


def left_out(path, **options):
    """suffix → members, reasons, and the one container's row."""
    reader = open_reader(InputConfig(uri=str(path), **options))
    list(reader.list())
    (container,) = reader.inventory.containers
    return {(i.suffix, i.reason): i.files for i in reader.inventory.left_out}, container


def test_several_pictures_without_a_plain_one_are_a_question(tmp_path):
    path = write(tmp_path / "t.tar", ["a.left.png", "a.right.png"])
    with pytest.raises(
        ValueError,
        match=r"sample 'a' has several pictures \(left.png, right.png\).*--input-format tar",
    ):
        images(path)
    assert list(images(path, column="right.png")) == ["a.right.png"]
    assert list(images(path, format="tar")) == ["a.left.png", "a.right.png"]
    write(path, ["a.left.png", "a.right.png", "b.jpg"])
    assert list(images(path)) == ["b.jpg"]
    assert left_out(path)[1].status == "partial"


def test_names_with_dots_are_images_of_a_plain_tar(tmp_path):
    names = ["2024.01.15_a.jpg", "2024.01.16_b.jpg", "v1.2/22.05.png", "v1.2/22.06.png"]
    path = write(tmp_path / "t.tar", [*names, "notes.v2.txt"])
    assert list(images(path, format="tar")) == names
    assert left_out(path, format="tar")[0] == {(".txt", "not a picture"): 1}
    with pytest.raises(ValueError, match="--input-format tar takes each of them"):
        images(path)
    write(tmp_path / "t.tar", [*names, "whole.jpg"])
    assert left_out(path)[0] == {
        (".jpg", "several pictures of one sample"): 2,
        (".png", "several pictures of one sample"): 2,
    }  # they are lost, and said louder than a mask beside its picture
    with pytest.raises(ValueError, match="leave --column out"):
        images(path, format="tar", column="jpg")


def test_what_was_passed_over_is_counted(tmp_path):
    path = write(tmp_path / "t.tar", [*GOOD, "x/._1.jpg", "x/.hidden.png", "photo.dng"])
    other = "another field of its sample"
    counted, container = left_out(path)
    assert counted == {
        (".json", "not a picture"): 1, (".png", other): 2, (".cls", "not a picture"): 1,
        (".txt", "not a picture"): 1, ("no extension", "not a picture"): 1,
        (".jpg", "WebDataset's own"): 1, (".jpg", "AppleDouble"): 1, (".png", "hidden"): 1,
        (".dng", "camera raw is not read: develop it to TIFF or JPEG"): 1,
    }  # fmt: skip
    assert (container.status, container.images) == ("ok", 7)


def test_a_late_sidecar_matters_to_nobody(tmp_path):
    names = [f"p{n}.jpg" for n in range(20)] + [f"p{n}.json" for n in range(20)]
    path = write(tmp_path / "t.tar", names)
    assert len(samples(path)) == 40  # the library yields fragments without a word
    assert list(images(path)) == names[:20]
    assert left_out(path)[1].status == "ok"
    write(path, ["b.json", "a.json", "a.jpg", "b.jpg"])  # as a directory gives them
    assert list(images(path)) == ["a.jpg", "b.jpg"]


def test_a_second_picture_of_a_closed_sample_is_told(tmp_path):
    path = write(tmp_path / "t.tar", ["a.jpg", "b.jpg", "a.png"])
    assert list(images(path)) == ["a.jpg", "b.jpg"]
    counted, container = left_out(path)
    assert counted == {(".png", "several pictures of one sample"): 1}
    assert container.status == "partial"
    assert "second picture after it was closed (a.png comes late)" in container.reason
    assert list(images(path, format="tar")) == ["a.jpg", "b.jpg", "a.png"]


def test_duplicates_are_left_out_and_told(tmp_path):
    path = write(tmp_path / "t.tar", ["a.jpg", "a.JPG", "b.jpg"])
    with pytest.raises(ValueError, match="duplicate"):
        samples(path)
    assert list(images(path)) == ["b.jpg"]
    _, container = left_out(path)
    assert (container.status, container.images) == ("partial", 1)
    assert "sample 'a' has two members 'jpg' (a.jpg and a.JPG)" in container.reason
    assert list(images(path, format="tar")) == ["a.jpg", "a.JPG", "b.jpg"]
    write(path, ["a.jpg", "./a.jpg", "b.jpg"])
    assert list(images(path, format="tar")) == ["b.jpg"]
    assert left_out(path, format="tar")[1].reason == "2 members are called a.jpg"


def test_the_same_key_in_two_tars(tmp_path):
    for name in ("0.tar", "sub/1.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, ["a.jpg"])
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    assert [r.file_name for r in reader.list()] == ["0.tar/a.jpg", "sub/1.tar/a.jpg"]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_odd_members(tmp_path, tar_format):
    long = "d" * 150 + "/" + "n" * 120 + ".jpg"
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tar_format) as tar:
        tar.pax_headers = {"comment": "global"} if tar_format == tarfile.PAX_FORMAT else {}
        for kind, name in ((tarfile.DIRTYPE, "folder.jpg"), (tarfile.SYMTYPE, "link.jpg"),
                           (tarfile.FIFOTYPE, "pipe.jpg")):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "x"
            tar.addfile(info)
        for name in (long, "./rel.jpg", "/abs.jpg", "dir/.hidden.jpg", "._rel.jpg", "empty.jpg"):
            data = b"" if name == "empty.jpg" else name.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert images(path) == {
        long: long.encode(), "rel.jpg": b"./rel.jpg", "abs.jpg": b"/abs.jpg", "empty.jpg": b""
    }  # fmt: skip


def test_names_of_another_encoding_are_escaped(tmp_path):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("café.jpg"))
    assert list(images(path)) == ["caf\\xe9.jpg"]


def test_names_that_climb_out_are_left_out_and_told(tmp_path):
    path = write(tmp_path / "t.tar", ["../../etc/a.jpg", "b.jpg"])
    assert list(images(path)) == ["b.jpg"]
    counted, container = left_out(path)
    assert counted == {(".jpg", "points outside the tar"): 1}
    assert container.reason == "the member ../../etc/a.jpg points outside the tar"


def test_one_bad_tar_never_stops_the_rest(tmp_path):
    whole = write(tmp_path / "z.tar", ["a.jpg", "b.jpg"]).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: 1024 + 515])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "page.tar").write_bytes(b"<!DOCTYPE html><title>404</title>" * 40)
    (tmp_path / "zip.tar.gz").write_bytes(gzip.compress(whole)[:-8])
    (tmp_path / "text.tgz").write_bytes(gzip.compress(b"no tar at all" * 100))
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    names = [record.file_name for record in reader.list()]
    assert names == ["cut.tar/a.jpg", "z.tar/a.jpg", "z.tar/b.jpg",
                     "zip.tar.gz/a.jpg", "zip.tar.gz/b.jpg"]  # fmt: skip
    rows = {c.uri.rpartition("/")[2]: c for c in reader.inventory.containers}
    assert {name: (row.status, row.images) for name, row in rows.items()} == {
        "cut.tar": ("partial", 1), "empty.tar": ("failed", 0), "page.tar": ("failed", 0),
        "text.tgz": ("failed", 0), "z.tar": ("ok", 2), "zip.tar.gz": ("partial", 2),
    }  # fmt: skip
    assert rows["cut.tar"].reason == "cut off: it ends inside b.jpg"
    assert rows["empty.tar"].reason == "the file is empty (0 bytes)"
    assert rows["page.tar"].reason == "no tar: it begins with b'<!DOCTYPE html><'"
    assert "compressed bytes are cut or damaged" in rows["zip.tar.gz"].reason
    for record in reader.list():
        assert reader.read(record) == b"bytes of " + record.file_name.rpartition("/")[2].encode()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_compressed_tars_stream(tmp_path, kind):
    names = [f"{n:04d}.jpg" for n in range(300)]
    whole = write(tmp_path / "whole", names).read_bytes()
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
                "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True)}  # fmt: skip
    path = tmp_path / f"t.tar.{kind}"
    path.write_bytes(compress[kind](whole))
    expected = {name: b"bytes of " + name.encode() for name in names}
    assert images(path) == expected
    reader = open_reader(InputConfig(uri=str(path)))
    backwards = list(reader.list())[::-1]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.read, backwards)) == list(expected.values())[::-1]
    named_plain = tmp_path / "t.tar"
    named_plain.write_bytes(path.read_bytes())
    assert images(named_plain) == expected


def test_links_in_a_tar_have_their_targets_bytes(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"picture")
    os.link(folder / "a.jpg", folder / "b.jpg")
    os.symlink("../a.jpg", folder / "sub" / "c.jpg")
    os.symlink("c.jpg", folder / "sub" / "d.jpg")
    os.symlink("/nowhere", folder / "sub" / "lost.jpg")
    os.symlink("round.jpg", folder / "round.jpg")
    os.mkfifo(folder / "pipe.jpg")
    path = tmp_path / "t.tar"
    subprocess.run(["tar", "cf", path, "--sort=name", "-C", folder, "."], check=True)
    found = images(path)
    assert found == dict.fromkeys(("a.jpg", "b.jpg", "sub/c.jpg", "sub/d.jpg"), b"picture")
    counted, container = left_out(path)
    assert counted == {
        (".jpg", "symbolic link to what is not in the tar"): 1,
        (".jpg", "links go round in a circle"): 1,
        (".jpg", "a named pipe"): 1,
    }
    assert container.status == "ok"


def test_an_archive_without_images(tmp_path):
    write(tmp_path / "t.tar", ["a.json", "b.txt"])
    with pytest.raises(
        EmptyInputError, match=r"looked for .tar files with KEY.jpg .*found only 1 "
    ):
        images(tmp_path / "t.tar")
    write(tmp_path / "t.tar", [])
    with pytest.raises(EmptyInputError, match="found no file at all"):
        images(tmp_path / "t.tar")


def test_a_tar_that_shrank_after_the_listing(tmp_path):
    path = write(tmp_path / "t.tar", ["a.jpg"])
    reader = open_reader(InputConfig(uri=str(path)))
    (record,) = reader.list()
    path.write_bytes(path.read_bytes()[:515])
    with pytest.raises(StorageError, match=r"t.tar has changed: it ends inside t.tar/a.jpg"):
        reader.read(record)


def test_a_remote_tar_costs_few_requests(monkeypatch):
    store, asked = Storage(), []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(60):
            info = tarfile.TarInfo(f"{n:03d}.jpg")
            info.size = 20_000 if n != 30 else 6_000_000
            tar.addfile(info, io.BytesIO(bytes([n]) * info.size))
    store.write("memory://remote/t.tar", buffer.getvalue())
    read = Storage.read

    def counting(self, uri, *, offset=0, length=None, size=None):
        asked.append(length)
        return read(self, uri, offset=offset, length=length, size=size)

    monkeypatch.setattr(Storage, "read", counting)
    reader = open_reader(InputConfig(uri="memory://remote"), store)
    records = list(reader.list())
    assert len(records) == 60
    assert len(asked) <= 5  # 7 MB in blocks of 1 MiB, less what was skipped
    assert sum(asked) < 2_500_000
    asked.clear()
    for n, record in enumerate(records):
        assert reader.read(record) == bytes([n]) * record.size
    assert len(asked) <= 4


def test_large_members_are_listed_by_their_headers_alone(monkeypatch):
    store, asked = Storage(), []
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(12):
            for suffix, size in (("jpg", 2_000_000), ("json", 100)):
                info = tarfile.TarInfo(f"{n:03d}.{suffix}")
                info.size = size
                tar.addfile(info, io.BytesIO(bytes(size)))
    store.write("memory://large/t.tar", buffer.getvalue())
    read = Storage._read
    monkeypatch.setattr(
        Storage, "_read", lambda self, uri, at, n: asked.append(n) or read(self, uri, at, n)
    )
    reader = open_reader(InputConfig(uri="memory://large"), store)
    assert len(list(reader.list())) == 12
    assert len(asked) <= 14  # a request a picture: its sidecar's header comes with the next one's
    assert sum(asked) < 200_000  # of 24 MB
