"""Bodies of a store against what its listing said of them."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable

from .errors import StorageError

_WAITS_S = (0.2, 1.0, 3.0)
_MD5 = re.compile(r"[0-9a-f]{32}")


def listed_body(
    fetch: Callable[[bool], bytes], uri: str, *, size: int, etag: str, patient: bool
) -> bytes:
    """A body of the size, and where the etag can be an MD5 of the content, that a listing said.

    Caches and gateways cut bodies and call them whole, or flip a bit. Two equal bodies are
    believed: then the etag is no MD5, as with server-side encryption.

    Args:
        fetch: Asks for the body; told whether it is asked again.
        uri: Of the file, for messages.
        size: Bytes.
        etag: "" = unknown.
        patient: Whether asking again may help.

    Raises:
        StorageError: No such body came.
    """
    data = fetch(False)
    seen: set[bytes] = set()
    for delay in _WAITS_S if patient else ():
        if _sound(data, size, etag, seen):
            return data
        time.sleep(delay * random.uniform(0.5, 1.5))
        data = fetch(True)
    if len(data) != size:
        raise StorageError(
            f"{len(data)} of {size} bytes came: {uri} (it has changed since it was listed, or "
            "was cut on its way)"
        )
    if patient and not _sound(data, size, etag, seen):
        raise StorageError(f"every body that came was another one, none as listed: {uri}")
    return data


def _sound(data: bytes, size: int, etag: str, seen: set[bytes]) -> bool:
    if len(data) != size:
        return False
    if not _MD5.fullmatch(etag):
        return True
    return is_listed(hashlib.md5(data, usedforsecurity=False).digest(), etag, seen)


def is_listed(md5: bytes, etag: str, seen: set[bytes]) -> bool:
    """Whether a body is the one that an etag tells of, or comes a second time.

    Args:
        md5: Of the body.
        etag: Of the listing; what can be no MD5 says nothing.
        seen: MD5s of the bodies that came before; gets this one.
    """
    if not _MD5.fullmatch(etag) or md5.hex() == etag or md5 in seen:
        return True
    seen.add(md5)
    return False
