"""Every promise of Storage, kept by a local disk, fsspec's memory and a real S3 server alike."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.storage import remote, storage
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.job import StorageConfig

PLACES = ("local", "memory", "s3")


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    """(storage, URI of an empty folder)."""
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        return Storage(server.config), server.new_bucket() + "/folder"
    return Storage(), str(tmp_path) if request.param == "local" else f"memory:/{tmp_path}"


@pytest.fixture
def quick(monkeypatch):
    """Retries without waiting."""
    monkeypatch.setattr(storage, "_FIRST_CONTACT_S", (0.01, 0.01))
    monkeypatch.setattr(storage, "_LATER_S", (0.01,) * 5)


def test_bytes_come_back(place):
    store, root = place
    uri = join(root, "deep/er/ä file+#%.bin")
    data = os.urandom(100_000)
    store.write(uri, data)
    assert store.read(uri) == data
    assert store.read(uri, offset=7, length=11) == data[7:18]
    assert store.read(uri, offset=99_990) == data[99_990:]
    assert store.read(uri, offset=99_990, length=500) == data[99_990:]
    assert store.read(uri, offset=5, length=0) == b""
    store.write(uri, b"new")
    assert store.read(uri) == b"new"
    store.write(uri, b"")
    assert store.read(uri) == b""


@pytest.mark.parametrize("from_end", [False, True])
def test_an_open_file_seeks_and_reads(place, from_end):
    store, root = place
    data = os.urandom(3_000_000)
    store.write(join(root, "f"), data)
    with store.open(join(root, "f"), from_end=from_end) as file:
        assert file.read(10) == data[:10]
        assert file.seek(2_500_000) == 2_500_000
        assert file.read(600_000) == data[2_500_000:]
        assert file.read(1) == b""
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
        file.seek(0)
        assert file.read() == data


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20])
def test_an_object_read_from_its_end_is_whole(place, size):
    store, root = place
    data = os.urandom(size)
    store.write(join(root, "f"), data)
    with store.open(join(root, "f"), from_end=True) as file:
        assert file.read() == data
    with pytest.raises(MissingError):
        store.open(join(root, "gone"), from_end=True)


def test_only_one_creates(place):
    store, root = place
    uri = join(root, "claims/one")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.create(uri, f"writer {n}".encode()), range(8)))
    assert won.count(True) == 1
    assert store.read(uri) == f"writer {won.index(True)}".encode()
    assert not store.create(uri, store.read(uri))
    assert [entry.path for entry in store.list(root, hidden=True)] == ["claims/one"]


def test_a_finished_file_moves_there(place, tmp_path_factory):
    store, root = place
    local = tmp_path_factory.mktemp("scratch") / "part"
    local.write_bytes(b"part" * 1000)
    store.put_file(local, join(root, "sub/part"))
    assert store.read(join(root, "sub/part")) == b"part" * 1000
    assert not local.exists()


def test_listing_is_in_path_order_and_leaves_out_what_is_hidden_or_excluded(place, monkeypatch):
    monkeypatch.setattr(remote, "_PAGE", 3)
    store, root = place
    shown = ["a-b", "a.b", "a/b", "a/c/d", "a0", "b/10", "b/9", "ä", "🙂/x"]
    for path in [*shown, ".hidden", ".dir/x", "a/.tmp", "out/images/x", "outer"]:
        store.write(join(root, path), path.encode())
    entries = list(store.list(root, exclude=[join(root, "out"), "/elsewhere"]))
    paths = [entry.path for entry in entries]
    assert paths == sorted(paths)
    assert set(paths) == {*shown, "outer"}
    assert [entry.size for entry in entries] == [len(path.encode()) for path in paths]
    assert all(store.read(entry.uri) == entry.path.encode() for entry in entries)
    assert list(store.list(root + "/", exclude=[join(root, "out/")])) == entries
    assert [e.path for e in store.list(root, recursive=False)] == ["a-b", "a.b", "a0", "outer", "ä"]
    hidden = {entry.path for entry in store.list(root, hidden=True)}
    assert hidden == {*paths, ".hidden", ".dir/x", "a/.tmp", "out/images/x"}


def test_a_token_changes_with_the_bytes(place):
    store, root = place
    uri = join(root, "f")
    store.write(uri, b"old")
    (before,) = store.list(root)
    assert before.size == store.info(uri).size == 3
    assert before.token
    if not root.startswith("memory"):  # which tells its times in two ways
        assert before.token == store.info(uri).token
    assert next(store.list(root)) == before
    store.write(uri, b"new")
    assert store.info(uri).token != before.token


def test_existence(place):
    store, root = place
    store.write(join(root, "a/b"), b"1")
    found = [
        (store.exists(join(root, p)), store.is_dir(join(root, p))) for p in ("a", "a/b", "a/c")
    ]
    assert found == [(True, True), (True, False), (False, False)]
    store.remove(join(root, "a/b"), missing_ok=False)
    assert not store.exists(join(root, "a/b"))
    store.remove(join(root, "a/b"))
    store.write(join(root, "stays"), b"1")
    store.check_writable(root)
    assert [entry.path for entry in store.list(root, hidden=True)] == ["stays"]


def test_what_is_missing_is_named(place):
    store, root = place
    uri = join(root, "no/such")
    for action in (
        lambda: store.read(uri),
        lambda: store.open(uri),
        lambda: store.info(uri),
        lambda: list(store.list(uri)),
        lambda: store.remove(uri, missing_ok=False),
    ):
        with pytest.raises(MissingError) as caught:
            action()
        assert str(caught.value) == f"no such file or folder: {uri}"
    with pytest.raises(FileNotFoundError):
        store.read(uri)


def test_many_threads_share_one_storage(place):
    store, root = place
    data = {join(root, f"{n}"): os.urandom(1000 + n) for n in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.write, data, data.values()))
        assert list(pool.map(store.read, data)) == list(data.values())


def test_it_works_in_another_process(s3_server):
    store = Storage(s3_server.config)
    uri = join(s3_server.new_bucket(), "x")
    store.write(uri, b"seen from afar")
    code = "import pickle, sys; s, u = pickle.load(sys.stdin.buffer); print(s.read(u).decode())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((store, uri)),
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"seen from afar\n", done.stderr.decode()


def test_s3_access_from_the_environment(s3_server, monkeypatch):
    uri = join(s3_server.new_bucket(), "x")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fresh = Storage(StorageConfig(region="default"))  # nobody else's connection
    fresh.write(uri, b"1")
    assert Storage(s3_server.config).read(uri) == b"1"


def test_a_public_bucket_needs_no_credentials(s3_server):
    public, private = s3_server.new_bucket(public=True), s3_server.new_bucket()
    for bucket in (public, private):
        Storage(s3_server.config).write(join(bucket, "x"), b"1")
    stranger = Storage(StorageConfig(endpoint_url=s3_server.endpoint, anonymous=True))
    assert [stranger.read(entry.uri) for entry in stranger.list(public)] == [b"1"]
    for action in (
        lambda: stranger.read(join(private, "x")),
        lambda: list(stranger.list(private)),
        lambda: stranger.write(join(public, "y"), b"1"),
    ):
        with pytest.raises(StorageError, match="permission denied: s3://") as caught:
            action()
        assert s3_server.endpoint in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "nobody"}, "unknown access key"),
        ({"secret": "hunter2-not-it"}, "the secret key does not match"),
    ],
)
def test_wrong_credentials_are_refused_in_one_line_without_the_secret(s3_server, change, said):
    bucket = s3_server.new_bucket()
    store = Storage(s3_server.config.model_copy(update=change))
    for action in (
        lambda: list(store.list(bucket)),
        lambda: store.write(join(bucket, "x"), b"1"),
        lambda: store.read(join(bucket, "x")),
    ):
        with pytest.raises(StorageError, match=f"credentials refused.*{said}.*{bucket}") as caught:
            action()
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value) + repr(caught.value) + repr(store)
    with pytest.raises(StorageError, match="cannot write: credentials refused"):
        store.check_writable(bucket)


def test_absent_credentials(s3_server, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = Storage(StorageConfig(endpoint_url=s3_server.endpoint, region="nobody"))
    with pytest.raises(StorageError, match=r"no credentials for s3://bucket/x: set AWS_ACCESS_KEY"):
        store.read("s3://bucket/x")


def test_a_missing_bucket_is_named(s3_server):
    store = Storage(s3_server.config)
    for action in (
        lambda: list(store.list("s3://nowhere/x")),
        lambda: store.write("s3://nowhere/x", b"1"),
        lambda: store.create("s3://nowhere/x", b"1"),
        lambda: store.read("s3://nowhere/x"),
        lambda: store.info("s3://nowhere/x"),
    ):
        with pytest.raises(MissingError, match="bucket does not exist: s3://nowhere/x"):
            action()
    assert not store.exists("s3://nowhere/x")


def test_an_unreachable_endpoint_fails_soon(quick):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        endpoint = f"http://user:pass@127.0.0.1:{taken.getsockname()[1]}"
        store = Storage(StorageConfig(endpoint_url=endpoint, key="k", secret="s"))
        start = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot reach http://127.0.0.1:\d+: s3://b/x") as e:
            store.read("s3://b/x")
    assert time.monotonic() - start < 20
    assert "pass" not in str(e.value)


class _Flaky(BaseHTTPRequestHandler):
    """Answers what `answers` says, in turn; None = hangs up."""

    answers: list[tuple[int, str] | None]
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        answer = self.answers.pop(0)
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, text = answer
        body = text.encode() if status == 200 else f"<Error><Code>{text}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        pass


@pytest.fixture
def flaky(quick):
    """Starts a store that fails as told; gives (storage, handler)."""
    servers = []

    def start(*answers):
        handler = type("Handler", (_Flaky,), {"answers": list(answers)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        endpoint = f"http://127.0.0.1:{server.server_port}"
        return Storage(StorageConfig(endpoint_url=endpoint, key="k", secret="s")), handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "failure",
    [(503, "SlowDown"), (500, "InternalError"), (502, "BadGateway"), (429, "Throttling"), None],
)
def test_transient_failures_are_tried_again(flaky, failure):
    store, handler = flaky(failure, failure, (200, "hello"))
    assert store.read("s3://b/x") == b"hello"
    assert handler.asked == 3


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ((403, "AccessDenied"), "permission denied: s3://b/x"),
        ((404, "NoSuchKey"), "no such file or folder: s3://b/x"),
        ((507, "QuotaExceeded"), "no space left: s3://b/x"),
        ((301, "PermanentRedirect"), "wrong region for s3://b/x"),
    ],
)
def test_lasting_failures_are_asked_once(flaky, failure, said):
    store, handler = flaky(*[failure] * 9)
    with pytest.raises(StorageError, match=said):
        store.read("s3://b/x")
    assert handler.asked == 1


def test_patience_ends_and_is_longer_with_a_store_that_has_answered(flaky):
    down = [(503, "SlowDown")] * 20
    store, handler = flaky(*down)
    with pytest.raises(StorageError, match="s3://b/x"):
        store.read("s3://b/x")
    assert handler.asked == 3
    store, handler = flaky((200, "up"), *down)
    store.read("s3://b/x")
    with pytest.raises(StorageError, match="s3://b/x"):
        store.read("s3://b/x")
    assert handler.asked == 1 + 6


def test_schemes_that_cannot_be_reached_say_why():
    with pytest.raises(StorageError, match="nonsense:// is no file system that fsspec knows"):
        Storage().read("nonsense://x")
    with pytest.raises(StorageError, match=r"dropbox:// needs another package"):
        Storage().read("dropbox://x/y")
