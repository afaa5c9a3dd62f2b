"""What a listing met beside images: files that hold them, and files that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .names import without_secrets


@dataclass(frozen=True, slots=True)
class Container:
    """How a tar, a Parquet or Arrow file, a list, or a folder that could not be opened, ended.

    Attributes:
        uri: Absolute.
        status: "ok"; "partial" where images were read and some could not be; "failed" where none
            was and something is wrong.
        reason: What is wrong, one line; "" where nothing is.
        images: Images that the listing found in it.
    """

    uri: str
    status: Literal["ok", "partial", "failed"]
    reason: str = ""
    images: int = 0

    @classmethod
    def of(cls, uri: str, images: int, reason: str = "") -> Container:
        """With the status that follows from the others."""
        uri = without_secrets(uri)
        if not reason:
            return cls(uri, "ok", "", images)
        return cls(uri, "partial" if images else "failed", reason, images)


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """Files that are no input, of one suffix and for one reason.

    Attributes:
        suffix: ".txt", "no extension" or "folder".
        reason: Why; for a kind of picture, what would help.
        files: How many.
        picture: Whether they are, by their suffix, pictures.
    """

    suffix: str
    reason: str
    files: int
    picture: bool = False
