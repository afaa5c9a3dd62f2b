"""file_bytes.py: bytes as a file has them, a few at a time, and none that were not hashed."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Iterator

import pytest

from pipeline.storage import bodies, file_bytes
from pipeline.storage.errors import StorageError
from pipeline.storage.file_bytes import FileBytes, open_contents, sha256_of
from pipeline.storage.storage import Storage

DATA = random.Random(0).randbytes(10_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bytes, "BLOCK", 64)
    monkeypatch.setattr(bodies, "_WAITS_S", (0.0,))


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path) -> str:
    name = str(tmp_path / "a") if request.param == "local" else "memory://file-bytes/a"
    Storage().write(name, DATA)
    return name


@pytest.mark.parametrize("hashed", [False, True])
def test_every_slice_is_that_of_the_bytes(uri, hashed):
    found = FileBytes(Storage(), uri, size=len(DATA))
    assert not hashed or found.sha256() == SHA256
    picks = random.Random(1)
    for _ in range(300):
        start, stop = (picks.randint(-11_000, 11_000) for _ in range(2))
        assert found[start:stop] == DATA[start:stop]
    assert len(found) == len(DATA)
    assert found[:] == DATA
    assert len(found._blocks) <= 32
    assert pickle.loads(pickle.dumps(found))[5000:] == DATA[5000:]
    stretch = FileBytes(Storage(), uri, size=100, offset=4321)
    assert stretch[:] == DATA[4321:4421]
    assert sha256_of(stretch) == sha256_of(DATA[4321:4421])


def test_it_opens_as_a_file(uri):
    with open_contents(FileBytes(Storage(), uri, size=len(DATA))) as file:
        assert file.seek(-70, 2) == len(DATA) - 70
        assert file.read() == DATA[-70:]
        file.seek(10)
        assert file.read(3000) == DATA[10:3010]


def test_a_file_that_changes_after_it_was_hashed_is_not_read_on(uri):
    found = FileBytes(Storage(), uri, size=len(DATA))
    assert found.sha256() == SHA256
    Storage().write(uri, DATA[:5000] + b"!" + DATA[5001:])
    assert found[:64] == DATA[:64]
    with pytest.raises(StorageError, match="has changed while it was read"):
        found[4990:5010]
    assert "has changed" in found.failure


@pytest.mark.parametrize(("size", "said"), [(12_000, "bytes came"), (9000, "10000 bytes, not")])
def test_a_file_of_another_size_than_listed_is_an_error(uri, size, said):
    with pytest.raises(StorageError, match=said):
        FileBytes(Storage(), uri, size=size).sha256()


class Sends(Storage):
    """A store that has these bodies, one after the other."""

    def __init__(self, *bodies: bytes) -> None:
        super().__init__()
        self.left: Iterator[bytes] = iter(bodies)

    def _read(self, uri: str, offset: int, length: int | None) -> bytes:
        if offset == 0:
            self.body = next(self.left)
        return self.body[offset:][:length]

    def info(self, uri: str):
        return Storage().info("memory://file-bytes/a")


FLIPPED = b"x" + DATA[1:]


@pytest.mark.parametrize(
    ("bodies", "etag", "right"),
    [
        ([DATA], MD5, DATA),
        ([FLIPPED, DATA], MD5, DATA),
        ([FLIPPED, FLIPPED], MD5, FLIPPED),  # no MD5 then, as with server-side encryption
        ([FLIPPED], "0-2", FLIPPED),
    ],
)
def test_a_body_is_held_against_its_etag(bodies, etag, right):
    Storage().write("memory://file-bytes/a", DATA)
    found = FileBytes(Sends(*bodies), "s3://b/a", size=len(DATA), etag=etag)
    assert found.sha256() == sha256_of(right)


def test_bodies_of_which_each_is_another_are_an_error():
    Storage().write("memory://file-bytes/a", DATA)
    others = [bytes([first]) + DATA[1:] for first in range(4)]
    with pytest.raises(StorageError, match="none as listed"):
        FileBytes(Sends(*others), "s3://b/a", size=len(DATA), etag=MD5).sha256()


def test_on_s3(s3_server, monkeypatch):
    monkeypatch.setattr(file_bytes, "BLOCK", 4096)
    storage = Storage(s3_server.config)
    uri = f"{s3_server.new_bucket()}/a"
    storage.write(uri, DATA)
    there = storage.info(uri)
    found = FileBytes(storage, uri, size=there.size, etag=there.token)
    assert found.sha256() == SHA256
    assert found[5000:6000] == DATA[5000:6000]
