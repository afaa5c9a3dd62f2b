"""A file over ranged requests behaves like one over bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage.remote import range_file

DATA = bytes(range(256)) * 20
STEP = st.tuples(st.sampled_from(["read", "seek", "end"]), st.integers(0, 6000))


@given(steps=st.lists(STEP, max_size=20))
def test_any_walk_over_it_gives_the_same_bytes(steps):
    ours = range_file(lambda at, n: DATA[at : at + n], len(DATA), block=64)
    theirs = io.BytesIO(DATA)
    for step, number in steps:
        if step == "read":
            assert ours.read(number) == theirs.read(number)
        elif step == "seek":
            ours.seek(number)
            theirs.seek(number)
        else:
            back = -min(number, len(DATA))
            assert ours.seek(back, io.SEEK_END) == theirs.seek(back, io.SEEK_END)
        assert ours.tell() == theirs.tell()


def test_small_reads_share_a_request():
    asked = []

    def fetch(at, length):
        asked.append((at, length))
        return DATA[at : at + length]

    file = range_file(fetch, len(DATA), block=1000)
    for at in (0, 100, 900):
        file.seek(at)
        file.read(50)
    assert asked == [(0, 1000)]
    file.seek(4000)
    file.read(1)
    assert asked == [(0, 1000), (4000, 1000)]
    file.seek(0)
    assert file.read() == DATA
    assert len(asked) <= 4


def test_it_cannot_seek_before_its_start():
    file = range_file(lambda at, n: b"", 0)
    with pytest.raises(ValueError, match="before the start"):
        file.seek(-1)
