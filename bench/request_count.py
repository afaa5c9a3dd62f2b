"""Counts the requests that this process sends to an S3 service, by kind, and their bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiobotocore.httpsession import AIOHTTPSession

KINDS = ("LIST", "HEAD", "GET", "PUT", "COPY", "DELETE")


@contextmanager
def requests_counted() -> Iterator[Counter[str]]:
    """Every request on the wire while the block lasts, those of a second try too.

    Yields:
        kind → requests; "listed", "received" and "sent" → bytes of listings, of objects that
        were read, and of objects that were written.
    """
    counts = Counter[str]()
    real = AIOHTTPSession.send

    async def send(self: Any, request: Any) -> Any:
        answer = await real(self, request)
        kind = _kind(request.method, request.url, {name.lower() for name in request.headers})
        counts[kind] += 1
        if kind == "LIST":
            counts["listed"] += len(await answer.content)
        elif kind == "GET":
            counts["received"] += int(answer.headers.get("content-length", 0))
        elif kind == "PUT":
            counts["sent"] += int(request.headers.get("Content-Length", 0))
        return answer

    AIOHTTPSession.send = send  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        AIOHTTPSession.send = real  # type: ignore[method-assign]


def _kind(method: str, url: str, headers: set[str]) -> str:
    asked = parse_qs(urlsplit(url).query, keep_blank_values=True)
    if method == "GET" and ("list-type" in asked or "prefix" in asked or "uploads" in asked):
        return "LIST"
    if method == "POST":
        return "DELETE" if "delete" in asked else "PUT"
    if method == "PUT" and "x-amz-copy-source" in headers:
        return "COPY"
    return method
