"""What object stores need beyond fsspec's own calls: streaming listings, conflicts told apart.

`fs` is an fsspec file system; `attempt(action)` runs a call, tries again and explains failures.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, cast

from schemas.config.job import StorageConfig

from .errors import MissingError, StorageError
from .walk import HIDDEN, LeftOut, Page

Attempt = Callable[[Callable[[], Any]], Any]
Found = tuple[str, int, str]
"""(path relative to the root, bytes, token)."""

Ask = Callable[..., dict[str, Any]]
"""ask(prefix, **more): a page of `list_objects_v2`."""

_PAGE = 1000
_AT_ONCE = 8
"""Folders that are listed at a time."""
_AHEAD = 64
"""Pages: about 16 MB."""
_LEVELS = 3
"""Of folders that are opened to find enough of them."""


def remote_pages(
    fs: Any,
    root: str,
    *,
    recursive: bool,
    hidden: bool,
    exclude: Sequence[str],
    left_out: LeftOut | None,
    attempt: Attempt,
) -> Iterator[Page]:
    """Files under `root` as columns, in the order of their paths by code point.

    Args:
        fs: Where.
        root: A bucket or a prefix.
        recursive: Also what lies deeper.
        hidden: Also what starts with a dot.
        exclude: Prefixes to leave out, relative to the root, each ending in "/".
        left_out: Told of hidden names, once a folder.
        attempt: How calls are made.
    """
    said = ""

    def wanted(path: str) -> bool:
        nonlocal said
        at = -1 if hidden else ("/" + path).find("/.")
        if at >= 0:
            end = path.find("/", at)
            name = path if end < 0 else path[: end + 1]
            if left_out is not None and name != said:
                left_out(name, HIDDEN)
            said = name
            return False
        return not any(path.startswith(folder) for folder in exclude)

    walk = walk_s3 if is_s3(fs) else walk_remote
    found = walk(fs, root, recursive=recursive, wanted=wanted, attempt=attempt)
    while rows := list(islice(found, _PAGE)):
        yield Page(*map(list, zip(*rows, strict=True)))


def walk_s3(
    fs: Any, root: str, *, recursive: bool, wanted: Callable[[str], bool], attempt: Attempt
) -> Iterator[Found]:
    """Keys under `root`, a page at a time, in the order in which S3 lists: by code point.

    Where there are more than a page, in folders, several folders are listed at a time.
    """
    bucket, _, prefix = root.partition("://")[2].partition("/")
    prefix = prefix + "/" if prefix else ""

    def ask(under: str, **more: Any) -> dict[str, Any]:
        request = {"Bucket": bucket, "Prefix": under, "MaxKeys": _PAGE, **more}
        return attempt(lambda: fs.call_s3("list_objects_v2", **request))

    def found(items: Iterable[dict[str, Any]]) -> Iterator[Found]:
        for item in items:
            path = item["Key"][len(prefix) :]
            if path and not path.endswith("/") and wanted(path):
                yield path, item["Size"], item["ETag"].strip('"')

    page = ask(prefix, **({} if recursive else {"Delimiter": "/"}))
    keys: list[dict[str, Any]] = page.get("Contents", [])
    if not (keys or page.get("CommonPrefixes") or page.get("IsTruncated")) and prefix:
        raise MissingError(f"no such file or folder: {root}")
    yield from found(keys)
    deep = recursive and any("/" in item["Key"][len(prefix) :] for item in keys)
    if page.get("IsTruncated") and deep:
        parts = _parts(ask, prefix, keys[-1]["Key"], lambda key: wanted(key[len(prefix) :]))
        if sum(isinstance(part, str) for part in parts) > 1:
            for items in _side_by_side(ask, parts, keys[-1]["Key"]):
                yield from found(items)
            return
    while page.get("IsTruncated"):
        page = _next_page(ask, prefix, page, {} if recursive else {"Delimiter": "/"})
        yield from found(page.get("Contents", ()))


def _next_page(
    ask: Ask, prefix: str, page: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    return ask(prefix, ContinuationToken=page["NextContinuationToken"], **options)


def _parts(
    ask: Ask, prefix: str, after: str, wanted: Callable[[str], bool]
) -> list[str | dict[str, Any]]:
    """What lies under a prefix behind a key, in order: folders to list, and single objects.

    Folders are opened, level by level, until there are enough of them to list side by side; one of
    more than a page of children stays as it is.
    """
    parts: list[str | dict[str, Any]] = [prefix]
    closed: set[str] = set()
    for _ in range(_LEVELS):
        opened: list[str | dict[str, Any]] = []
        for part in parts:
            if not isinstance(part, str) or part in closed:
                opened.append(part)
                continue
            page = ask(part, Delimiter="/")
            if page.get("IsTruncated"):
                closed.add(part)
                opened.append(part)
                continue
            folders = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
            folders = [one for one in folders if one > after or after.startswith(one)]
            inside = {one: one for one in folders if one in closed or wanted(one)}
            objects = {one["Key"]: one for one in page.get("Contents", ()) if one["Key"] > after}
            opened += [both for _, both in sorted({**inside, **objects}.items())]
        parts = opened
        count = sum(isinstance(part, str) for part in parts)
        if count >= _AT_ONCE or count == len(closed):
            break
    return parts


def _side_by_side(
    ask: Ask, parts: Sequence[str | dict[str, Any]], after: str
) -> Iterator[Sequence[dict[str, Any]]]:
    """The objects of all parts, in their order; `_AT_ONCE` folders are listed at a time.

    Of a folder whose turn has not come no more than `_AHEAD` pages are kept.
    """
    enough = threading.Event()

    def first_pages(folder: str) -> tuple[list[Sequence[dict[str, Any]]], dict[str, Any]]:
        page = ask(folder, **({"StartAfter": after} if after.startswith(folder) else {}))
        pages: list[Sequence[dict[str, Any]]] = [page.get("Contents", ())]
        while page.get("IsTruncated") and len(pages) < _AHEAD and not enough.is_set():
            page = _next_page(ask, folder, page, {})
            pages.append(page.get("Contents", ()))
        return pages, page

    folders = iter([part for part in parts if isinstance(part, str)])
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="listing") as pool:
        waiting = deque(pool.submit(first_pages, one) for one in islice(folders, _AT_ONCE))
        try:
            for part in parts:
                if not isinstance(part, str):
                    yield (part,)
                    continue
                pages, page = waiting.popleft().result()
                waiting.extend(pool.submit(first_pages, one) for one in islice(folders, 1))
                yield from pages
                while page.get("IsTruncated"):
                    page = _next_page(ask, part, page, {})
                    yield page.get("Contents", ())
        finally:
            enough.set()
            for one in waiting:
                one.cancel()


def walk_remote(
    fs: Any, root: str, *, recursive: bool, wanted: Callable[[str], bool], attempt: Attempt
) -> Iterator[Found]:
    """Files under `root` of any other file system, one folder at a time, in the same order."""
    top = fs._strip_protocol(root).rstrip("/")

    def enter(folder: str) -> Iterator[Found]:
        children = {
            child["name"].rstrip("/")[len(top) + 1 :] + "/" * is_folder(child): child
            for child in attempt(lambda: fs.ls(folder, detail=True))
        }
        for path in sorted(children):
            if not wanted(path):
                continue
            child = children[path]
            if not path.endswith("/"):
                yield path, int(child.get("size") or 0), token(child)
            elif recursive:
                yield from enter(child["name"])

    yield from enter(top)


def is_s3(fs: Any) -> bool:
    """Whether `fs` is s3fs, whose own calls are used where fsspec has none."""
    return "s3" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def is_folder(info: dict[str, Any]) -> bool:
    """Whether fsspec's description of an entry is that of a folder."""
    return info["type"] == "directory"


def is_conflict(error: OSError) -> bool:
    """Whether an exclusive write found something there."""
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412


def s3_options(config: StorageConfig) -> dict[str, Any]:
    """What s3fs is opened with."""
    region = config.region or os.environ.get("AWS_REGION", "")
    return {
        "anon": config.anonymous,
        "config_kwargs": {
            # Trying again is our own business (`Storage._try`), in one place.
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "connect_timeout": 5,
            "read_timeout": 20,
            "max_pool_connections": 64,
        },
        **({"client_kwargs": {"region_name": region}} if region else {}),
        **({"endpoint_url": config.endpoint_url} if config.endpoint_url else {}),
        **({"key": config.key} if config.key else {}),
        **({"secret": config.secret} if config.secret else {}),
    }


def written(info: dict[str, Any]) -> float:
    """When the bytes were written, seconds of the epoch; 0 where the store does not say."""
    for key in ("LastModified", "mtime", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0


def token(info: dict[str, Any]) -> str:
    """What changes when the bytes may have changed: the etag, else a time, else ""."""
    for key in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "created"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


# A remote object as a seekable file: every read is one ranged request.

BLOCK = 1 << 20
"""Bytes fetched at once. A request costs about what a megabyte costs, so reading a block where
a few bytes were asked for is never more than twice too slow."""


class _Ranges(io.RawIOBase):
    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek before the start of the file: {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        data = self._fetch(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = self._fetch(self._position, max(self._size - self._position, 0))
        self._position += len(data)
        return data


def last_block(cat: Callable[[], bytes]) -> bytes:
    """The last block of an object, b"" where no range of it can be had, as of an empty one.

    Args:
        cat: Asks for it.

    Raises:
        MissingError: There is no such object.
    """
    try:
        return cat()
    except MissingError:
        raise
    except StorageError:
        return b""


def range_file(
    fetch: Callable[[int, int], bytes], size: int, *, block: int = BLOCK, tail: bytes = b""
) -> BinaryIO:
    """Opens an object of `size` bytes for reading.

    Args:
        fetch: Called as `fetch(offset, length)`; returns the bytes there.
        size: Of the whole object.
        block: Bytes fetched at once for small reads; larger reads are one request each.
        tail: Its last bytes, as far as they are there already.
    """
    first = size - len(tail)

    def have(at: int, length: int) -> bytes:
        return tail[at - first :][:length] if at >= first else fetch(at, length)

    return cast(BinaryIO, io.BufferedReader(_Ranges(have, size), block))
