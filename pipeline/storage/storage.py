"""All file access: local paths, s3:// and what else fsspec reaches, behind one small class."""

from __future__ import annotations

import io
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from schemas.config.job import StorageConfig

from . import local as local_files
from . import remote
from .bodies import listed_body
from .errors import MissingError, StorageError, explain, is_transient
from .remote import range_file
from .uris import absolute_uri, join, local_path, scheme
from .walk import LeftOut, Page, local_token, walk_folder
from .web import download, size_and_token

T = TypeVar("T")

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_FIRST_CONTACT_S = (0.3, 1.0)
_LATER_S = (0.3, 1.0, 3.0, 9.0, 27.0)
_TOTAL_S = 120.0
"""A call that has taken so long is not tried again, whatever attempts are left."""
_log = logging.getLogger(__name__)
_filesystems: dict[tuple[int, str, StorageConfig], Any] = {}
_answered: set[tuple[str, StorageConfig]] = set()
_lock = threading.Lock()
_retried = [0]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that a listing found.

    Attributes:
        uri: Absolute.
        path: Relative to the listed root, "/"-separated.
        size: Bytes, −1 where unknown (a link that leads nowhere).
        token: Changes when the bytes may have changed: etag, or mtime in ns of a local file.
    """

    uri: str
    path: str
    size: int
    token: str


class Storage:
    """File access of one process. Pickles as its config; safe to use from many threads.

    Every method raises `StorageError` (`MissingError` where nothing is there) with one line.
    Transient failures are tried again: for a second or two where the store has never answered
    (an address that is wrong stays wrong), for most of a minute where it has.
    """

    def __init__(self, config: StorageConfig | None = None) -> None:
        self.config = config or StorageConfig()

    def __repr__(self) -> str:
        return f"Storage({self.config!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.config)

    @staticmethod
    def retries() -> int:
        """Calls of this process that were tried again so far, of all its storages."""
        return _retried[0]

    def modified(self, uri: str) -> float:
        """When a file was last written, seconds of the epoch; 0 where the store does not say."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, path.stat).st_mtime
        return remote.written(self._try(uri, lambda: self._filesystem(uri).info(uri)))

    def read(
        self,
        uri: str,
        *,
        offset: int = 0,
        length: int | None = None,
        size: int | None = None,
        etag: str = "",
    ) -> bytes:
        """The bytes of a file, or up to `length` of them from `offset`.

        Args:
            uri: Of the file.
            offset: First byte.
            length: At most; None = to the end.
            size: Bytes that must come, as a listing told; None = any number. Caches and gateways
                cut bodies and call them whole: a remote one of another size is tried again.
            etag: Of the listing, with `size`: where it can be an MD5 and is another, the body is
                asked for again too. Two equal bodies are believed: then it is no MD5, as with
                server-side encryption.
        """
        if size is None:
            return self._read(uri, offset, length)
        remote_file = local_path(uri) is None

        def fetch(again: bool) -> bytes:
            if again:
                _log.warning("a body that the listing does not know, trying again: %s", uri)
                _retried[0] += 1
            return self._read(uri, offset, length)

        return listed_body(fetch, uri, size=size, etag=etag, patient=remote_file)

    def _read(self, uri: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        if (path := local_path(uri)) is not None:
            return self._try(uri, lambda: local_files.read(path, offset, length))
        if _is_web(uri):
            limit = self.config.max_download
            return self._try(uri, lambda: download(uri, offset=offset, length=length, limit=limit))
        fs = self._filesystem(uri)
        if offset == 0 and length is None:
            # One request: s3fs would ask for the size first to fetch parts in parallel.
            extra = {"max_concurrency": 1} if remote.is_s3(fs) else {}
            return self._try(uri, lambda: fs.cat_file(uri, **extra))
        end = None if length is None else offset + length
        return self._try(uri, lambda: fs.cat_file(uri, start=offset, end=end))

    def open(self, uri: str, *, from_end: bool = False) -> BinaryIO:
        """A seekable file for reading; a remote one fetches ranges, each tried again by itself.

        Args:
            uri: Of the file.
            from_end: Begin with a block of the end, as readers of Parquet do: one request for all
                of a small object, whose size is not asked for.
        """
        if (path := local_path(uri)) is not None:
            return self._try(uri, lambda: path.open("rb"))
        tail = b""
        if from_end and not _is_web(uri):
            fs = self._filesystem(uri)
            cat = partial(fs.cat_file, uri, start=-remote.BLOCK)
            tail = remote.last_block(lambda: self._try(uri, cat))
            if 0 < len(tail) < remote.BLOCK:
                return io.BytesIO(tail)
        if (size := self.info(uri).size) < 0:  # a web server that does not tell
            return io.BytesIO(self.read(uri))
        return range_file(
            lambda at, n: self.read(uri, offset=at, length=n, size=n), size, tail=tail
        )

    def write(self, uri: str, data: bytes) -> None:
        """Puts `data` there in one step, replacing what was; makes parent folders."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, lambda: local_files.write(path, data))
        fs = self._filesystem(uri)
        return self._try(uri, lambda: _discard(fs.pipe_file(uri, data)))

    def create(self, uri: str, data: bytes) -> bool:
        """Like `write`, but only where nothing is: of many writers exactly one gets True."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, lambda: local_files.create(path, data))
        fs = self._filesystem(uri)
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                fs.pipe_file(uri, data, mode="create")
            except OSError as error:
                if not remote.is_conflict(error):
                    raise
                # Our own first attempt may have arrived though its answer was lost.
                return attempts > 1 and fs.cat_file(uri) == data
            return True

        return self._try(uri, attempt)

    def put_file(self, local: Path, uri: str) -> None:
        """Moves a finished local file to `uri` in one step; `local` is gone afterwards."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, lambda: local_files.publish_file(local, path))
        fs = self._filesystem(uri)
        self._try(uri, lambda: _discard(fs.put_file(str(local), uri)))
        return local.unlink()

    def move(self, uri: str, target: str) -> None:
        """Moves one file to another place of the same storage, replacing what is there.

        In an object store a copy, then a removal: a kill between the two leaves both.
        """
        if (path := local_path(uri)) is not None and (new := local_path(target)) is not None:
            return self._try(uri, lambda: local_files.publish_file(path, new))
        fs = self._filesystem(uri)
        self._try(uri, lambda: _discard(fs.copy(uri, target)))
        return self.remove(uri)

    def info(self, uri: str) -> Entry:
        """Size and token of one file; `path` is its name."""
        name = uri.rstrip("/").rpartition("/")[2]
        if (path := local_path(uri)) is not None:
            stat = self._try(uri, path.stat)
            return Entry(uri, name, stat.st_size, local_token(stat.st_mtime_ns))
        if _is_web(uri):
            return Entry(uri, name, *self._try(uri, lambda: size_and_token(uri)))
        found = self._try(uri, lambda: self._filesystem(uri).info(uri))
        if remote.is_folder(found):
            raise StorageError(f"this is a folder, not a file: {uri}")
        return Entry(uri, name, int(found.get("size") or 0), remote.token(found))

    def list(
        self,
        root: str,
        *,
        recursive: bool = True,
        exclude: Sequence[str] = (),
        hidden: bool = False,
    ) -> Iterator[Entry]:
        """Files under a folder in the order of their paths (by code point), one at a time.

        Args:
            root: A folder, a bucket or a prefix.
            recursive: Also what lies in sub-folders.
            exclude: URIs of sub-folders to leave out.
            hidden: Also files and folders whose name starts with a dot.
        """
        root = absolute_uri(root)
        for page in self.pages(root, recursive=recursive, exclude=exclude, hidden=hidden):
            for path, size, token in zip(*page, strict=True):
                yield Entry(join(root, path), path, size, token)

    def pages(
        self,
        root: str,
        *,
        recursive: bool = True,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        left_out: LeftOut | None = None,
    ) -> Iterator[Page]:
        """The files that `list` gives, as columns.

        Args:
            root: A folder, a bucket or a prefix.
            recursive: Also what lies in sub-folders.
            exclude: URIs of sub-folders to leave out.
            hidden: Also files and folders whose name starts with a dot.
            left_out: Told of what is passed over (see `walk_folder`). Without it a local folder
                that may not be read is an error.
        """
        root = absolute_uri(root)
        inside = [u[len(root) + 1 :] + "/" for u in map(absolute_uri, exclude) if _under(u, root)]
        if (path := local_path(root)) is not None:
            return self._pages_local(path, recursive, hidden, inside, left_out)
        return remote.remote_pages(
            self._filesystem(root),
            root,
            recursive=recursive,
            hidden=hidden,
            exclude=inside,
            left_out=left_out,
            attempt=lambda action: self._try(root, action),
        )

    def exists(self, uri: str) -> bool:
        """Whether a file or folder is there."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, path.exists)
        return _is_web(uri) or self._found(uri) is not None  # the web is asked when it is read

    def is_dir(self, uri: str) -> bool:
        """Whether a folder is there; in an object store, a prefix that some key has."""
        if (path := local_path(uri)) is not None:
            return self._try(uri, path.is_dir)
        found = None if _is_web(uri) else self._found(uri)
        return found is not None and remote.is_folder(found)

    def _found(self, uri: str) -> dict[str, Any] | None:
        try:
            return self._try(uri, lambda: self._filesystem(uri).info(uri))
        except MissingError:
            return None

    def remove(self, uri: str, *, missing_ok: bool = True) -> None:
        """Removes one file."""
        try:
            if (path := local_path(uri)) is not None:
                self._try(uri, path.unlink)
            else:
                fs = self._filesystem(uri)
                if not missing_ok:
                    self.info(uri)  # S3 deletes what is not there without a word
                self._try(uri, lambda: fs.rm_file(uri))
        except MissingError:
            if not missing_ok:
                raise

    def check_writable(self, root: str) -> None:
        """Writes and removes a small file under `root`; raises `StorageError` if it cannot."""
        probe = join(root, f".write-test-{os.getpid()}-{threading.get_ident()}")
        try:
            self.write(probe, b"maskmill may remove this\n")
            self.remove(probe)
        except StorageError as error:
            reason = explain(error.__cause__ or error, root, self._endpoint())
            raise StorageError(f"cannot write: {reason}") from error

    def _filesystem(self, uri: str) -> Any:
        key = (os.getpid(), scheme(uri), self.config)
        with _lock:
            if key not in _filesystems:
                _filesystems[key] = _connect(scheme(uri), self.config)
            return _filesystems[key]

    def _try(self, uri: str, action: Callable[[], T]) -> T:
        started = time.monotonic()
        for attempt in count():
            try:
                result = action()
            except Exception as error:
                delays = _LATER_S if self._has_answered(uri) else _FIRST_CONTACT_S
                if not is_transient(error):
                    _answered.add((scheme(uri), self.config))
                elif attempt < len(delays) and time.monotonic() - started < _TOTAL_S:
                    # Many workers meet a busy store at once: they must not come back at once.
                    delay = delays[attempt] * random.uniform(0.5, 1.5)
                    why = explain(error, uri, self._endpoint())
                    _log.warning("trying again in %.1f s: %s", delay, why)
                    _retried[0] += 1
                    time.sleep(delay)
                    continue
                raise explain(error, uri, self._endpoint()) from error
            _answered.add((scheme(uri), self.config))
            return result
        raise AssertionError("count() never ends")

    def _has_answered(self, uri: str) -> bool:
        return (scheme(uri), self.config) in _answered

    def _endpoint(self) -> str:
        named = (self.config.endpoint_url, *map(os.environ.get, _ENDPOINT_VARIABLES))
        return next(filter(None, named), "")

    def _pages_local(
        self,
        root: Path,
        recursive: bool,
        hidden: bool,
        exclude: Sequence[str],
        left_out: LeftOut | None,
    ) -> Iterator[Page]:
        # Not through `_try`: a generator that has raised would look like one that has ended.
        try:
            yield from walk_folder(
                root, recursive=recursive, hidden=hidden, exclude=exclude, left_out=left_out
            )
        except OSError as error:
            raise explain(error, str(error.filename or root).rstrip("/")) from error


def _connect(protocol: str, config: StorageConfig) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        options |= remote.s3_options(config)
    try:
        cls = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise StorageError(f"{protocol}:// needs another package: {error}") from error
    except ValueError as error:
        raise StorageError(f"{protocol}:// is no file system that fsspec knows") from error
    fs = cls(**options)
    if remote.is_s3(fs):
        fs.retries = 1
    return fs


def _is_web(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def _under(uri: str, root: str) -> bool:
    return uri.startswith(root + "/")


def _discard(_: Any) -> None:
    return None
