"""Pictures and lists behind http://, from a server that misbehaves."""

from __future__ import annotations

import http.server
import threading

import pytest

from pipeline.readers import open_reader
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig, StorageConfig


def images(uri, storage=None):
    """file name → bytes or what was said."""
    reader = open_reader(InputConfig(uri=str(uri)), storage)
    found = {}
    for record in reader.list():
        try:
            found[record.file_name] = reader.read(record)
        except StorageError as error:
            found[record.file_name] = str(error)
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        body = {"/good.jpg": b"picture", "/big.jpg": bytes(5000), "/short.jpg": b"abc",
                "/%E6%97%A5%20b%20c.jpg": b"sun",
                "/list.txt": b"good.jpg\n"}.get(self.path.partition("?")[0])  # fmt: skip
        if self.path == "/busy.jpg" and self.asked.count(self.path) < 2:
            self.send_error(503)
        elif body is None and self.path != "/busy.jpg":
            self.send_error(404)
        else:
            body = body or b"at last"
            self.send_response(200)
            extra = 5 if self.path == "/short.jpg" and self.asked.count(self.path) < 2 else 0
            self.send_header("Content-Length", str(len(body) + extra))
            self.end_headers()
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format, *args):  # noqa: A002
        pass


@pytest.fixture
def web():
    Handler.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_pictures_on_the_web(tmp_path, web):
    path = tmp_path / "l.txt"
    urls = ["good.jpg", "good.jpg?key=secret", "big.jpg", "busy.jpg", "short.jpg", "gone.jpg"]
    path.write_text("\n".join(f"{web}/{url}" for url in urls))
    found = images(path, Storage(StorageConfig(max_download=4000)))
    named = {name.rpartition("/")[2]: data for name, data in found.items()}
    assert not any("secret" in name for name in named)
    secret = next(name for name in named if name.startswith("good-"))
    assert named.pop(secret) == named.pop("good.jpg") == b"picture"
    assert named.pop("busy.jpg") == b"at last"
    assert named.pop("short.jpg") == b"abc"
    assert "5000 bytes are more than storage.max_download (4000)" in named.pop("big.jpg")
    assert "no such file" in named.pop("gone.jpg")
    assert not named
    assert Handler.asked.count("/gone.jpg") == 1  # final at once
    assert Handler.asked.count("/busy.jpg") == 2
    assert Handler.asked.count("/short.jpg") == 2


def test_a_list_on_the_web(web):
    found = images(f"{web}/list.txt")
    assert found == {"good.jpg": b"picture"}
    found = images(f"{web}/good.jpg")
    assert found == {"good.jpg": b"picture"}


def test_blanks_and_letters_of_a_url_are_encoded_once(tmp_path, web):
    path = tmp_path / "l.txt"
    path.write_text(f"{web}/日 b%20c.jpg\n")
    assert list(images(path).values()) == [b"sun"]
