"""Paths and URIs as plain text: local paths have no scheme, everything else has one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from schemas.names import without_credentials
from schemas.suggest import nearest

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme(uri: str) -> str:
    """ "s3" of "s3://bucket/key"; "file" of a local path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def absolute_uri(uri: str) -> str:
    """Makes a local path absolute and drops a trailing slash; leaves other schemes alone.

    Raises:
        ValueError: The text is empty, or holds credentials, which would end up in logs and files.
    """
    if not uri:
        raise ValueError("an empty path names no file")
    if (clean := without_credentials(uri)) != uri:
        raise ValueError(
            f"{clean}: a URI holds no credentials here; they come from the environment "
            "(AWS_ACCESS_KEY_ID, …) or the [storage] section"
        )
    plain = _SCHEME.sub("", uri)
    if scheme(uri) == "file":
        return os.path.abspath(os.path.expanduser(plain))
    return f"{scheme(uri)}://{plain.rstrip('/')}"


def join(uri: str, *parts: str) -> str:
    """Appends relative parts to a URI or local path."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def leads_elsewhere(root: str, folder: str) -> bool:
    """Whether a local folder below `root`, or one between the two, is a symbolic link.

    Nothing is moved or removed through one: whoever gave a dataset must not choose what goes.
    """
    path = local_path(root)
    return path is not None and (path / folder).resolve() != path.resolve() / folder


def local_path(uri: str) -> Path | None:
    """The local path that `uri` names, None for a remote one."""
    return Path(_SCHEME.sub("", uri)) if scheme(uri) == "file" else None


def beside(uri: str) -> str:
    """'; did you mean …?' for a local path that is not there and one beside it that is."""
    path = local_path(uri)
    if path is None:
        return ""
    try:
        names = [item.name for item in os.scandir(path.parent)]
    except OSError:
        return ""
    # By the names alone: long common folders would make everything alike.
    hint = nearest(path.name, [name for name in names if not name.startswith(".")])
    return hint.replace("'", f"'{path.parent}/", 1) if hint.count("'") == 2 else hint
