"""Images of a listing as Arrow columns: the same records, without pandas."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.readers.listing import (
    LISTING,
    batch,
    batches_of,
    integers,
    numpy_of,
    sampled,
    strings,
)
from schemas.records import ImageRecord

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
records = st.builds(
    ImageRecord,
    file_name=texts,
    uri=texts,
    size=st.integers(-1, 1 << 62),
    token=texts,
    offset=st.just(-1) | st.integers(0, 1 << 60),
)


@given(st.lists(records, max_size=20))
def test_records_come_back(rows):
    batches = list(batches_of(rows))
    assert [record for one in batches for record in one.records()] == rows
    for one in batches:
        one.rows.validate(full=True)
        assert one.rows.schema == LISTING


def test_rows_and_items_come_back():
    rows = [ImageRecord(f"{n}", "t.parquet", row=n, item=n % 3 - 1) for n in range(9)]
    (one,) = batches_of(rows)
    assert list(one.records()) == rows
    assert list(one.first(4).records()) == rows[:4]


def test_what_follows_from_the_batch():
    one = batch("s3://b/t.tar", "etag", ["t.tar/a.jpg", "t.tar/b.jpg"], places=[512, 1024])
    assert [(r.uri, r.token, r.offset, r.row) for r in one.records()] == [
        ("s3://b/t.tar", "etag", 512, -1), ("s3://b/t.tar", "etag", 1024, -1)
    ]  # fmt: skip
    one = batch("/in", "", ["a/b.jpg"], sizes=[7], tokens=["5"])
    assert list(one.records()) == [ImageRecord("a/b.jpg", "/in/a/b.jpg", 7, "5")]


@given(st.lists(st.none() | texts, max_size=30))
def test_columns_are_those_that_pyarrow_makes(values):
    ours = strings(values)
    ours.validate(full=True)
    assert ours.equals(pa.array(values, pa.string()))


def test_integers_come_back_from_a_slice():
    column = integers(range(10)).slice(3, 4)
    assert numpy_of(column).tolist() == [3, 4, 5, 6]


def test_a_listing_imports_no_pandas(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(b"x")
    code = (
        "import sys\n"
        "from pipeline.engine.shards import Listing\n"
        "from pipeline.readers import open_reader\n"
        "from schemas.config.job import InputConfig\n"
        "listing = Listing.of(open_reader(InputConfig(uri=sys.argv[1])).batches())\n"
        "shards = listing.shards(run='r')\n"
        "assert len(listing.records(shards[0])) == 3\n"
        "sys.exit('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_sample_is_by_chance_and_always_the_same():
    names = [f"{n // 100}/{n:04d}.png" for n in range(1000)]

    def drawn(count, size=300):
        given = [batch("/in", "", names[at : at + size]) for at in range(0, 1000, size)]
        return [row.file_name for one in sampled(given, count) for row in one.records()]

    found = drawn(100)
    assert len(found) == 100
    assert found == sorted(found)  # in the order of the listing
    assert found == drawn(100, size=7)  # however it came
    assert set(drawn(40)) < set(found)
    assert len({name[0] for name in found}) == 10  # of every folder, not the first
    assert drawn(5000) == names
    assert sampled([], 3) == []
