"""Headers of tars, compared with `tarfile` on everything that it and GNU tar write."""

from __future__ import annotations

import io
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.readers.tar_headers import read_members


class Bytes:
    """A tar in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def reaches(self, offset: int) -> bool:
        return offset <= len(self.data)


def tar_of(members, tar_format=tarfile.PAX_FORMAT, **extra):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            for key, value in extra.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(b"\7" * size))
    return buffer.getvalue()


def theirs(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


def ours(data):
    found = read_members(Bytes(data))
    columns = zip(found.names, found.kinds, found.offsets, found.sizes, strict=True)
    return [(n, o, s) for n, kind, o, s in columns if not kind], found.damage


letters = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
names = st.lists(letters, min_size=1, max_size=4).map("/".join).filter(lambda n: len(n) < 90)
long_names = st.integers(90, 400).map(lambda n: "d/" * 20 + "x" * n)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(names | long_names, st.integers(0, 3000)), max_size=20),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([{}, {"mtime": 1.5}, {"uid": 1 << 40}, {"uname": "ü" * 20}]),
)
def test_members_are_those_of_tarfile(members, tar_format, extra):
    data = tar_of(members, tar_format, **extra)
    assert ours(data) == (theirs(data), "")


@pytest.mark.parametrize("kind", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_of_gnu_tar(tmp_path, kind):
    folder = tmp_path / "in" / ("deep" * 11)
    folder.mkdir(parents=True)
    for n in range(5):
        (folder / f"{n}.jpg").write_bytes(bytes(n * 700))
    command = ["tar", f"--format={kind}", "--sort=name", "-cf", tmp_path / "t.tar", "-C"]
    subprocess.run([*command, tmp_path / "in", "."], check=True)
    data = (tmp_path / "t.tar").read_bytes()
    assert len(ours(data)[0]) == 5
    assert ours(data) == (theirs(data), "")


def test_sizes_in_base_256_and_in_pax_headers():
    data = bytearray(tar_of([("a.jpg", 600)], tarfile.GNU_FORMAT))
    data[124:136] = b"\x80" + (600).to_bytes(11, "big")
    total = sum(data[:512]) - sum(data[148:156]) + 256
    data[148:156] = b"%06o\0 " % total
    assert ours(bytes(data)) == ([("a.jpg", 512, 600)], "")
    data = tar_of([("a.jpg", 600)], pax_headers={"size": "600", "comment": "x"})
    assert ours(data) == (theirs(data), "")


def test_tars_that_were_written_one_behind_the_other_are_read_on():
    one, two = tar_of([("a.jpg", 3)]), tar_of([("b.jpg", 700), ("c.jpg", 0)])
    found, damage = ours(one + two)
    assert [name for name, *_ in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert damage == ""
    for name, offset, size in found:
        assert (one + two)[offset : offset + size] == b"\7" * size, name


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10240))
def test_a_cut_gives_what_is_whole_and_is_told(length):
    data = tar_of([(f"{n}.jpg", n * 300) for n in range(12)], tarfile.GNU_FORMAT)
    whole, _ = ours(data)
    found, damage = ours(data[:length])
    assert found == [member for member in whole if member[1] + member[2] <= length]
    end = whole[-1][1] + whole[-1][2]
    assert bool(damage) == (length < (end + 511 & ~511) + 512)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 6000), st.integers(0, 255))
def test_a_changed_byte_of_a_header_is_noticed(at, value):
    data = bytearray(tar_of([(f"{n}.jpg", 512) for n in range(5)], tarfile.GNU_FORMAT))
    before = bytes(data)
    data[at] = value
    found, damage = ours(bytes(data))
    in_header = at < 5 * 1024 and at // 512 % 2 == 0
    if in_header and bytes(data) != before and not 148 <= at % 512 < 156:
        assert damage
        assert found == ours(before)[0][: at // 1024]
    elif not in_header and at < 5 * 1024:
        assert (found, damage) == ours(before)


def test_zeros_where_members_were():
    data = tar_of([(f"{n}.jpg", 5000) for n in range(800)], tarfile.GNU_FORMAT)
    half = len(data) // 2 & ~511
    _, damage = ours(data[:half] + bytes(len(data) - half))
    assert damage  # a copy that was set up to its full size and broke off
    _, damage = ours(data[:half] + bytes(512 * 40) + data[half + 512 * 40 :])
    assert damage


def test_garbage_and_other_files():
    assert ours(b"")[1] == "the file is empty (0 bytes)"
    assert ours(b"<html>" * 300)[1] == "no tar: it begins with b'<html><html><htm'"
    assert "cut off at byte 200, inside a header" in ours(tar_of([("a", 1)])[:200])[1]
    assert "behind its end mark" in ours(tar_of([("a", 1)]) + b"garbage!" * 100)[1]


def test_sparse_members_are_named(tmp_path):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"data")
    (tmp_path / "z.jpg").write_bytes(b"after")
    for kind in ("gnu", "posix"):
        command = ["tar", f"--format={kind}", "-S", "-cf", "t.tar", "sparse.jpg", "z.jpg"]
        subprocess.run(command, cwd=tmp_path, check=True)
        data = (tmp_path / "t.tar").read_bytes()
        found = read_members(Bytes(data))
        assert found.kinds == ["a sparse member", ""]
        assert found.damage == ""
        assert data[found.offsets[1] :][:5] == b"after"
