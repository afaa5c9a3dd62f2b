"""WebDataset's rules, compared with the webdataset library on the same tars."""

from __future__ import annotations

import gzip
import io
import tarfile

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


def test_several_pictures_without_a_plain_one_are_a_question(tmp_path):
    path = write(tmp_path / "t.tar", ["a.left.png", "a.right.png"])
    with pytest.raises(
        ValueError, match=r"sample 'a' has several pictures \(left.png, right.png\)"
    ):
        images(path)
    assert list(images(path, column="right.png")) == ["a.right.png"]


def test_what_was_passed_over_is_counted(tmp_path):
    path = write(tmp_path / "t.tar", GOOD)
    reader = open_reader(InputConfig(uri=str(path)))
    list(reader.list())
    assert reader.ignored == {".json": 1, ".mask.png": 1, ".cls": 1, ".png": 1, ".txt": 1}


def test_interleaved_members_are_refused(tmp_path):
    path = write(tmp_path / "t.tar", ["a.jpg", "b.jpg", "a.json"])
    assert len(samples(path)) == 3  # the library yields fragments without a word
    with pytest.raises(
        ValueError, match=r"t.tar: the members of sample 'a' .* \(a.json comes late"
    ):
        images(path)


def test_duplicates_are_refused(tmp_path):
    path = write(tmp_path / "t.tar", ["a.jpg", "a.JPG"])
    with pytest.raises(ValueError, match="duplicate"):
        samples(path)
    with pytest.raises(ValueError, match=r"t.tar: sample 'a' has two members 'jpg'"):
        images(path)


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


def test_names_that_climb_out_are_refused(tmp_path):
    path = write(tmp_path / "t.tar", ["../../etc/a.jpg"])
    with pytest.raises(ValueError, match="points outside the tar"):
        images(path)


def test_every_cut_is_noticed(tmp_path):
    path = write(tmp_path / "whole.tar", ["a.jpg", "b.jpg"])
    whole = path.read_bytes()
    cut = tmp_path / "t.tar"
    for length in (0, 100, 512, 515, 1023, 1024 + 200, 1024 + 512 + 3):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"t.tar is no whole tar file: .+"):
            images(cut)
    for length in (2048, 2048 + 512):  # all members are whole, only the end marker is short
        cut.write_bytes(whole[:length])
        assert len(images(cut)) == 2
    cut.write_bytes(whole[:1024] + b"garbage!" * 64 + whole[1536:])
    with pytest.raises(ValueError, match=r"t.tar is no whole tar file: bad header at byte 1024"):
        images(cut)
    cut.write_bytes(b"this is a text file\n" * 100)
    with pytest.raises(ValueError, match=r"t.tar is no whole tar file"):
        images(cut)


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tgz", "t.tar"])
def test_compressed_tars_are_refused(tmp_path, name):
    whole = write(tmp_path / "whole", ["a.jpg"]).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match=rf"{name} is compressed, .* unpack it to a plain .tar"):
        images(tmp_path / name)


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

    def counting(self, uri, *, offset=0, length=None):
        asked.append(length)
        return read(self, uri, offset=offset, length=length)

    monkeypatch.setattr(Storage, "read", counting)
    reader = open_reader(InputConfig(uri="memory://remote"), store)
    records = list(reader.list())
    assert len(records) == 60
    assert len(asked) <= 5  # 7 MB in blocks of 1 MiB, less what was skipped
    asked.clear()
    for n, record in enumerate(records):
        assert reader.read(record) == bytes([n]) * record.size
    assert len(asked) <= 4
