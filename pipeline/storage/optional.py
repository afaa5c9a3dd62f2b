"""Files and folders that need not be there: asked for once, not first whether they exist."""

from __future__ import annotations

from .errors import MissingError
from .storage import Entry, Storage


def files_in(
    storage: Storage, folder: str, *, hidden: bool = False, recursive: bool = True
) -> list[Entry]:
    """The files of a folder, none where it is missing.

    Args:
        storage: File access.
        folder: URI.
        hidden: Also what starts with a dot.
        recursive: Also what lies in sub-folders.
    """
    try:
        return list(storage.list(folder, hidden=hidden, recursive=recursive))
    except MissingError:
        return []


def read_if_there(storage: Storage, uri: str) -> bytes | None:
    """The bytes of a file, None where it is missing."""
    try:
        return storage.read(uri)
    except MissingError:
        return None
