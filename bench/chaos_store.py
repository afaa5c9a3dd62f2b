"""Proof by force, for object stores: a proxy that fails in front of a real S3 server.

    python -m bench.chaos_store --endpoint http://127.0.0.1:8000 --bucket tries --trials 40

Each trial labels the same pictures from the store into a fresh prefix of it through the proxy,
which spoils a share of the requests in one way, then repeats the job without faults until it
succeeds. It holds that every object of the version, of exports and report is byte for byte that of
an undisturbed run, and that every picture has one row. Credentials come from the environment, as
for every S3 tool.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from bench.chaos import tell_trials, write_pictures
from pipeline.engine.run import label
from pipeline.errors import ExecutionError, OverBudgetError
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder
from pipeline.storage.uris import join
from schemas.config.job import JobConfig, StorageConfig

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
_TRIES = 5
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
    """

    def __init__(
        self, endpoint: str, *, stall_s: float = STALL_S, most: int = 2, seed: int = 0
    ) -> None:
        parts = urlsplit(endpoint)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.stall_s, self.most = stall_s, most
        self._times = Counter[str]()
        self.kind, self.share, self.spoilt = "", 0.0, 0
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


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened in one.

    Attributes:
        number: Of the trial.
        kind: Of `KINDS`.
        spoilt: Requests that the proxy spoilt.
        runs: How often the job was called until it succeeded.
        retries: Calls that the last disturbed run tried again.
        wrong: What did not hold, a line each.
        seconds: Wall time.
    """

    number: int
    kind: str
    spoilt: int
    runs: int
    retries: int
    wrong: list[str]
    seconds: float


class StoreField:
    """The pictures in a bucket, and the undisturbed result.

    Args:
        proxy: Everything goes through it.
        bucket: URI of an empty prefix.
        credentials: Key, secret and region; its endpoint is replaced by the proxy's.
        images: How many.
    """

    def __init__(
        self, proxy: FaultProxy, bucket: str, credentials: StorageConfig, *, images: int = 24
    ) -> None:
        self.proxy, self.bucket, self.images = proxy, bucket, images
        self.config = credentials.model_copy(update={"endpoint_url": proxy.endpoint})
        self.storage = Storage(self.config)
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            write_pictures(Path(folder), images)
            for path in sorted(Path(folder).iterdir()):
                self.storage.write(join(bucket, f"in/{path.name}"), path.read_bytes())
        self.run("calm")
        self.truth = self.published("calm")

    def run(self, out: str) -> int:
        """Labels into a prefix; calls of the store that were tried again."""
        config = JobConfig.parse(
            {
                "input": {"uri": join(self.bucket, "in")},
                "output": join(self.bucket, out),
                "model": {"name": "otsu"},
                "execution": {"inline": True, "shard_size": 4},
                "storage": self.config.model_dump(),
                "max_failures": "0",
            }
        )
        return label(config).retries

    def published(self, out: str) -> dict[str, bytes]:
        """Everything that is promised to be the same."""
        root = join(self.bucket, out)
        manifest = self.storage.read(join(root, "manifest.json"))
        found = {"manifest.json": manifest}
        for part in json.loads(manifest)["parts"]:
            for table in ("images", "annotations"):
                name = f"{table}/{part['name']}.parquet"
                found[name] = self.storage.read(join(root, name))
        for folder in ("exports", "report"):
            place = current_folder(self.storage, join(root, folder))
            for entry in self.storage.list(place):
                name = f"{folder}/{entry.uri.removeprefix(place).lstrip('/')}"
                found[name] = self.storage.read(entry.uri)
        return found

    def rows(self, out: str) -> list[str]:
        """What is wrong with the rows that a reader counts."""
        ledger: Ledger = open_ledger(join(self.bucket, out), self.storage)
        names = [image["file_name"] for image, _ in ledger.rows()]
        wanted = [f"{number:04d}.png" for number in range(self.images)]
        return [] if sorted(names) == wanted else [f"rows of {sorted(names)}"]


def disturb(field: StoreField, number: int, kind: str, share: float) -> Trial:
    """One trial."""
    proxy, out = field.proxy, f"trial-{number}-{uuid.uuid4().hex[:6]}"
    proxy.kind, proxy.share, proxy.spoilt = kind, share, 0
    started = time.monotonic()
    wrong: list[str] = []
    runs, retries, done = 0, 0, False
    while not done and runs < _TRIES:
        runs += 1
        try:
            retries, done = field.run(out), True
        except (ExecutionError, OverBudgetError, StorageError, ValueError) as error:
            proxy.kind = ""  # the same command goes on once the store is well
            if not str(error) or "Traceback" in str(error):
                wrong.append(f"no sentence: {str(error)!r}")
    if not done:
        wrong.append("the same command never succeeded")
    proxy.kind = ""
    if not wrong:
        found = field.published(out)
        wrong += [f"lost: {name}" for name in field.truth.keys() - found.keys()]
        wrong += [f"left: {name}" for name in found.keys() - field.truth.keys()]
        same = field.truth.keys() & found.keys()
        wrong += [f"other bytes: {name}" for name in same if field.truth[name] != found[name]]
        wrong += field.rows(out)
    seconds = round(time.monotonic() - started, 1)
    return Trial(number, kind, proxy.spoilt, runs, retries, sorted(wrong)[:10], seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs trials, prints what each did; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--trials", type=int, default=len(KINDS))
    parser.add_argument("--share", type=float, default=0.1, help="of the requests")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    credentials = StorageConfig(
        key=os.environ.get("AWS_ACCESS_KEY_ID", ""),
        secret=os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        region=os.environ.get("AWS_DEFAULT_REGION", ""),
    )
    proxy = FaultProxy(given.endpoint)
    done = []
    with proxy.serving():
        bucket = f"s3://{given.bucket}/{uuid.uuid4().hex[:8]}"
        field = StoreField(proxy, bucket, credentials, images=given.images)
        for number in range(given.trials):
            done.append(disturb(field, number, KINDS[number % len(KINDS)], given.share))
            trial = done[-1]
            state = "; ".join(trial.wrong) or "as it should be"
            print(
                f"{trial.number:4} {trial.kind:34} {trial.spoilt:4} spoilt {trial.runs} runs "
                f"{trial.retries:4} retries {trial.seconds:6} s  {state}",
                flush=True,
            )
    return tell_trials(done, given.json)


if __name__ == "__main__":
    sys.exit(main())
