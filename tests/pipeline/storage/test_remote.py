"""Remote listings stream; tests/pipeline/storage/test_storage.py lists a real server."""

from __future__ import annotations

import threading
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


class Bucket:
    """Answers list_objects_v2 as S3 does, from a list of keys; counts who asks at a time."""

    def __init__(self, *keys, slow_s=0.0):
        self.keys = sorted(keys)
        self.asked, self.at_once, self.inside, self.slow_s = [], 0, 0, slow_s
        self.lock = threading.Lock()

    def call_s3(self, method, **request):
        prefix, delimiter = request["Prefix"], request.get("Delimiter", "")
        after = request.get("ContinuationToken") or request.get("StartAfter", "")
        with self.lock:
            self.asked.append(prefix)
            self.inside += 1
            self.at_once = max(self.at_once, self.inside)
        time.sleep(self.slow_s)
        found, last = {}, ""
        for key in self.keys:
            folder = ""
            if delimiter and delimiter in key[len(prefix) :]:
                folder = prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter
            if not key.startswith(prefix) or (folder or key) <= after or folder in found:
                continue
            if len(found) == request["MaxKeys"]:
                last = list(found)[-1]
                break
            found[folder or key] = not folder
        with self.lock:
            self.inside -= 1
        return {
            "Contents": [
                {"Key": k, "Size": len(k), "ETag": '"e"'} for k, whole in found.items() if whole
            ],
            "CommonPrefixes": [{"Prefix": k} for k, whole in found.items() if not whole],
            "IsTruncated": bool(last),
            "NextContinuationToken": last,
        }


def walk(fs, **options):
    defaults = {"recursive": True, "wanted": lambda _: True, "attempt": lambda action: action()}
    return remote.walk_s3(fs, "s3://bucket/folder", **{**defaults, **options})


def test_a_listing_holds_one_page_at_a_time():
    pages = Pages(12_000)
    tracemalloc.start()
    count = sum(1 for _ in walk(pages))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, pages.asked) == (12_000, 12)
    assert peak < 1_500_000


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


NAME = st.text("ab-.", min_size=1, max_size=2)
KEYS = st.sets(st.lists(NAME, min_size=1, max_size=4).map("/".join), min_size=1, max_size=60)


@settings(max_examples=60)
@given(KEYS, st.integers(1, 5), st.integers(1, 3))
def test_folders_side_by_side_give_what_one_listing_gives(keys, page, ahead):
    whole = sorted(keys)
    bucket = Bucket(*(f"folder/{key}" for key in whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "_PAGE", page)
        patch.setattr(remote, "_AHEAD", ahead)
        assert [path for path, _, _ in walk(bucket)] == whole


def test_several_folders_are_listed_at_a_time(monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 20)
    keys = [f"folder/{a:02d}/{n:03d}.jpg" for a in range(16) for n in range(80)]
    bucket = Bucket(*keys, slow_s=0.003)
    assert [path for path, _, _ in walk(bucket)] == [key[7:] for key in keys]
    assert 4 <= bucket.at_once <= 8


def test_of_a_folder_whose_turn_has_not_come_little_is_kept(monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 10)
    monkeypatch.setattr(remote, "_AHEAD", 2)
    keys = [f"folder/{a}/{n:03d}.jpg" for a in range(9) for n in range(50)]
    bucket = Bucket(*keys)
    listing = walk(bucket)
    for _ in range(12):
        next(listing)
    listing.close()
    assert max(bucket.asked.count(f"folder/{a}/") for a in range(9)) <= 4


def test_hidden_and_excluded_folders_are_not_asked_for(monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 4)
    keys = [f"folder/{a}/{n}.jpg" for a in (".git", "a", "b", "out") for n in range(5)]
    bucket = Bucket(*keys)
    told = []
    options = {"recursive": True, "hidden": False, "exclude": ["out/"]}
    found = remote.remote_pages(
        S3(bucket),
        "s3://bucket/folder",
        left_out=lambda *one: told.append(one),
        attempt=lambda action: action(),
        **options,
    )
    assert [path for page in found for path in page.paths] == [
        f"{a}/{n}.jpg" for a in "ab" for n in range(5)
    ]
    assert told == [(".git/", "hidden")]
    assert "folder/out/" not in bucket.asked


class S3:
    """A file system that says it is S3's."""

    protocol = ("s3",)

    def __init__(self, bucket):
        self.call_s3 = bucket.call_s3


def test_an_error_in_a_folder_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 9)
    bucket = Bucket(*(f"folder/{a}/{n:02d}" for a in range(9) for n in range(30)))

    def attempt(action):
        if bucket.asked.count("folder/5/") > 1:
            raise TimeoutError
        return action()

    with pytest.raises(TimeoutError):
        list(walk(bucket, attempt=attempt))
