"""An HTTP proxy in front of a real S3 server that spoils a share of what passes."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KINDS = (
    "500",
    "503 SlowDown",
    "500 after the write",
    "reset in mid-body",
    "short body, full length stated",
    "short body, its own length stated",
    "flipped byte",
    "stall",
)
STALL_S = 10.0
_HOP = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}


class FaultProxy:
    """An HTTP proxy in front of one server that spoils a share of what passes.

    Args:
        endpoint: "http://host:port" of the server behind it.
        stall_s: How long a stalled answer waits.
        most: How often one object is spoilt; a store that never recovers is another trouble.
        seed: Of the choice.

    Attributes:
        endpoint: Of the proxy.
        kind: Of `KINDS`, or "" for none; may change at any time.
        share: Of the requests that are spoilt.
        spoilt: How many were.
        asked: Requests so far.
    """

    def __init__(
        self, endpoint: str, *, stall_s: float = STALL_S, most: int = 2, seed: int = 0
    ) -> None:
        parts = urlsplit(endpoint)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.stall_s, self.most = stall_s, most
        self._times = Counter[str]()
        self.kind, self.share, self.spoilt, self.asked = "", 0.0, 0, 0
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """While the block lasts."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def fault(self, method: str, path: str, *, body: bool) -> str:
        """What to do to a request, "" = nothing.

        Args:
            method: GET, PUT …
            path: Of the object, with its query.
            body: Whether the answer has one; called again when the answer is there.
        """
        self.asked += not body
        of_body = self.kind in KINDS[3:7]
        if not self.kind or of_body != body or (of_body and method != "GET"):
            return ""
        if self.kind == "500 after the write" and method not in ("PUT", "POST", "DELETE"):
            return ""
        name = path.partition("?")[0]
        with self._lock:
            if self._times[name] >= self.most or self._rng.random() >= self.share:
                return ""
            self._times[name] += 1
            self.spoilt += 1
            return self.kind

    def place(self, length: int) -> int:
        """Where a byte turns over; another one each time, as chance has it."""
        with self._lock:
            return self._rng.randrange(length)


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Says nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            given = self.rfile.read(length) if length else b""
            fault = proxy.fault(self.command, self.path, body=False)
            if fault == "stall":
                time.sleep(proxy.stall_s)
            elif fault and fault != "500 after the write":
                self.refuse(fault)
                return
            status, headers, body = self.ask(given)
            if fault == "500 after the write":
                self.refuse("500")
                return
            # A listing has no checksum that a client could hold its bytes against.
            of_object = status in (200, 206) and body and "list-type" not in self.path
            spoil = proxy.fault(self.command, self.path, body=True) if of_object else ""
            self.tell(status, headers, body, spoil)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 (their names)

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            """The server's own answer; headers go on as they came, the signature covers them."""
            behind = http.client.HTTPConnection(proxy.host, proxy.port, timeout=60)
            try:
                behind.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for key, value in self.headers.items():
                    if key.lower() not in _HOP - {"content-length"}:
                        behind.putheader(key, value)
                behind.endheaders(body or None)
                answer = behind.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                behind.close()

        def refuse(self, kind: str) -> None:
            code, name = (503, "SlowDown") if kind.startswith("503") else (500, "InternalError")
            text = f"<Error><Code>{name}</Code><Message>{name}</Message></Error>".encode()
            self.tell(code, [("Content-Type", "application/xml")], text, "")

        def tell(
            self, status: int, headers: list[tuple[str, str]], body: bytes, spoil: str
        ) -> None:
            sent, stated = body, len(body)
            if spoil == "flipped byte":
                at = proxy.place(len(body))
                sent = body[:at] + bytes([body[at] ^ 0x40]) + body[at + 1 :]
            elif spoil:
                sent = body[: len(body) // 2]
                stated = len(sent) if "its own" in spoil else len(body)
            self.send_response_only(status)
            for key, value in headers:
                if key.lower() not in _HOP:
                    self.send_header(key, value)
            if self.command == "HEAD":
                stated = int(dict(headers).get("Content-Length", 0))
            self.send_header("Content-Length", str(stated))
            self.end_headers()
            self.wfile.write(sent if self.command != "HEAD" else b"")
            self.wfile.flush()
            if stated > len(sent) and self.command != "HEAD":
                if spoil == "reset in mid-body":  # RST instead of FIN
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()

    return Handler
