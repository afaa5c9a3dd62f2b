"""The short form of bench.chaos_store, and that its proxy spoils what it says."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import IncompleteRead

import pytest
from s3_server import S3Server

from bench.chaos_store import StoreField, disturb
from bench.fault_proxy import KINDS, FaultProxy


@pytest.fixture(scope="module")
def field(s3_server: S3Server) -> Iterator[StoreField]:
    proxy = FaultProxy(s3_server.endpoint, stall_s=0.5, seed=5)
    with proxy.serving():
        yield StoreField(proxy, s3_server.new_bucket(), s3_server.config, images=4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_store_changes_no_byte_of_what_is_published(field: StoreField, kind: str) -> None:
    trial = disturb(field, KINDS.index(kind), kind, 0.08)
    assert trial.wrong == []
    assert trial.spoilt > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_proxy_spoils_what_it_says(s3_server: S3Server, kind: str) -> None:
    body = bytes(range(256)) * 40
    bucket = s3_server.new_bucket(public=True).removeprefix("s3://")
    s3_server._client.put_object(Bucket=bucket, Key="a", Body=body)
    proxy = FaultProxy(s3_server.endpoint, stall_s=0.5)
    with proxy.serving():
        address = f"{proxy.endpoint}/{bucket}/a"

        def read() -> bytes:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read()

        assert read() == body
        proxy.kind, proxy.share = kind, 1.0
        if kind.startswith(("500 a", "stall")):
            started = time.monotonic()
            assert read() == body
            assert (time.monotonic() - started > 0.4) == (kind == "stall")
        elif kind.startswith("50"):
            with pytest.raises(urllib.error.HTTPError, match=kind[:3]):
                read()
        elif "own length" in kind:
            assert read() == body[: len(body) // 2]
        elif kind == "flipped byte":
            assert sum(a != b for a, b in zip(read(), body, strict=True)) == 1
        else:
            with pytest.raises((IncompleteRead, ConnectionError)):
                read()
        assert proxy.spoilt == (kind != "500 after the write")
