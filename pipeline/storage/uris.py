"""Paths and URIs as plain text: local paths have no scheme, everything else has one."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/?#\s'\"]*@")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def scheme(uri: str) -> str:
    """ "s3" of "s3://bucket/key"; "file" of a local path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def absolute_uri(uri: str) -> str:
    """Makes a local path absolute and drops a trailing slash; leaves other schemes alone.

    Raises:
        ValueError: The text is empty.
    """
    if not uri:
        raise ValueError("an empty path names no file")
    plain = _SCHEME.sub("", uri)
    if scheme(uri) == "file":
        return os.path.abspath(os.path.expanduser(plain))
    return f"{scheme(uri)}://{plain.rstrip('/')}"


def join(uri: str, *parts: str) -> str:
    """Appends relative parts to a URI or local path."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def below(folder: str, name: object) -> str:
    """The URI of a name that was read from a file, in its folder: never one outside.

    Every path that stands in a dataset, a stamp, a prompt file, an archive or a checkpoint goes
    through here: whoever wrote the file must not choose what is read, written or deleted elsewhere.

    Args:
        folder: URI or local path.
        name: Relative, "/"-separated; a folder may end in "/".

    Raises:
        ValueError: It is no text, empty, absolute, or has a part "", "." or "..".
    """
    if not is_below(name):
        raise ValueError(f"{printable(str(name))!r} is no name of a file below {folder}")
    return join(folder, str(name))


def is_below(name: object) -> bool:
    """Whether `below` takes this name."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return not {"", ".", ".."} & {*name.removesuffix("/").split("/")}


def printable(text: str) -> str:
    """Text with control characters escaped: a name must not move the cursor of a terminal.

    C0 and C1 controls, line and paragraph separators and the marks that turn the direction of
    writing become \\x1b, \\u202e, …
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_credentials(text: str) -> str:
    """A URI, or text with URIs in it, without `user:secret@`, which boto and HTTP take there."""
    return _CREDENTIALS.sub(r"\1", text)


def local_path(uri: str) -> Path | None:
    """The local path that `uri` names, None for a remote one."""
    return Path(_SCHEME.sub("", uri)) if scheme(uri) == "file" else None
