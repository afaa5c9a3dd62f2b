"""Remote listings stream; tests/pipeline/storage/test_storage.py lists a real server."""

from __future__ import annotations

import tracemalloc

import pytest

from pipeline.storage import remote
from pipeline.storage.errors import MissingError


class Pages:
    """Answers list_objects_v2 as S3 does, from a count of keys."""

    def __init__(self, keys):
        self.keys, self.asked = keys, 0

    def call_s3(self, method, *, Bucket, Prefix, MaxKeys, ContinuationToken="0"):  # noqa: N803
        self.asked += 1
        start = int(ContinuationToken)
        stop = min(start + MaxKeys, self.keys)
        contents = [
            {"Key": f"{Prefix}{n:08d}.jpg", "Size": n, "ETag": f'"{n:032x}"'}
            for n in range(start, stop)
        ]
        more = {"IsTruncated": True, "NextContinuationToken": str(stop)}
        return {"Contents": contents, **(more if stop < self.keys else {})}


def walk(fs, **options):
    defaults = {"recursive": True, "wanted": lambda _: True, "attempt": lambda action: action()}
    return remote.walk_s3(fs, "s3://bucket/folder", **{**defaults, **options})


def test_a_listing_holds_one_page_at_a_time():
    pages = Pages(50_000)
    tracemalloc.start()
    count = sum(1 for _ in walk(pages))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, pages.asked) == (50_000, 50)
    assert peak < 3_000_000


def test_a_listing_asks_for_no_more_than_is_used():
    pages = Pages(50_000)
    listing = walk(pages)
    assert next(listing) == ("00000000.jpg", 0, "0" * 32)
    listing.close()
    assert pages.asked == 1


def test_a_page_that_fails_for_a_while_is_asked_again():
    pages, failures = Pages(2500), [True, False, True]

    def attempt(action):
        while True:
            try:
                if failures and failures.pop():
                    raise TimeoutError
                return action()
            except TimeoutError:
                continue

    assert len({path for path, _, _ in walk(pages, attempt=attempt)}) == 2500


def test_nothing_under_a_prefix():
    with pytest.raises(MissingError, match="no such file or folder: s3://bucket/folder"):
        list(walk(Pages(0)))
