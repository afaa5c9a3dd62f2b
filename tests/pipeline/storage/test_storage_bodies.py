"""Bodies that are not what the listing said: asked for again, believed when they stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from pipeline.storage import storage as module
from pipeline.storage.errors import StorageError, explain, is_transient
from pipeline.storage.storage import Storage

DATA = b"the picture" * 100
MD5 = hashlib.md5(DATA).hexdigest()
FLIPPED = b"T" + DATA[1:]
OTHER = b"X" + DATA[1:]


class Sends(Storage):
    """A store that sends these bodies, one a request."""

    def __init__(self, *bodies: bytes) -> None:
        super().__init__()
        self.bodies: Iterator[bytes] = iter(bodies)

    def _read(self, uri: str, offset: int, length: int | None) -> bytes:
        return next(self.bodies)


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


@pytest.mark.parametrize(
    "bodies",
    [
        [DATA],
        [DATA[:50], DATA],  # half, with a length that matches: no client notices
        [DATA[:50], b"", DATA + b"x", DATA],
        [FLIPPED, DATA],
        [FLIPPED, OTHER, DATA],
        [FLIPPED, DATA[:9], DATA],
    ],
)
def test_the_right_body_is_asked_for_until_it_comes(bodies):
    before = Storage.retries()
    assert Sends(*bodies).read("s3://b/a.jpg", size=len(DATA), etag=MD5) == DATA
    assert Storage.retries() - before == len(bodies) - 1


def test_an_etag_that_is_no_md5_is_found_out():
    store = Sends(DATA, DATA)
    assert store.read("s3://b/a.jpg", size=len(DATA), etag="0" * 32) == DATA


@pytest.mark.parametrize("etag", ["", "abc-12", "2026-11-30"])
def test_without_an_md5_the_length_alone_counts(etag):
    store = Sends(FLIPPED)
    assert store.read("s3://b/a.jpg", size=len(DATA), etag=etag) == FLIPPED


def test_a_body_that_stays_short_is_an_error_that_says_so():
    with pytest.raises(StorageError, match=r"9 of 1100 bytes came: s3://b/a"):
        Sends(*[DATA[:9]] * 9).read("s3://b/a.jpg", size=len(DATA), etag=MD5)


class RefusalError(OSError):
    def __init__(self, code: str, status: int) -> None:
        super().__init__(16, "x")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


def test_an_error_of_the_store_names_its_cause():
    error = RefusalError("SlowDown", 503)
    assert is_transient(error)
    text = str(explain(error, "s3://K:SECRET@b/a", "http://u:p@host:9000"))
    assert text == "http://host:9000 answered 503 SlowDown, also when asked again: s3://b/a"


def test_a_call_has_a_total_time(monkeypatch):
    now, tries = [0.0], []

    def fails() -> None:
        tries.append(1)
        now[0] += 70
        raise RefusalError("InternalError", 500)

    store = Storage()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(store, "_has_answered", lambda uri: True)
    with pytest.raises(StorageError, match="answered 500 InternalError"):
        store._try("s3://b/a", fails)
    assert len(tries) == 2


def test_bodies_that_are_never_twice_the_same_are_refused():
    bodies = [bytes([n]) + DATA[1:] for n in range(9)]
    with pytest.raises(StorageError, match="every body that came was another one"):
        Sends(*bodies).read("s3://b/a.jpg", size=len(DATA), etag=MD5)
