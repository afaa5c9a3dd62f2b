"""What a reader is told beside where to look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Of every reader; each uses what concerns it.

    Attributes:
        format: Name of the input format, a key of `READERS`.
        column: Column of a table, or field of a tar's samples; "" = find it.
        base64: Strings of a table are images in base64.
        is_picture: Whether a file's first bytes are those of a picture, where files without a
            known suffix are wanted too; pickles.
        kept: URI of a folder for the indexes of tars that were listed before, "" = keep none.
    """

    format: str = ""
    column: str = ""
    base64: bool = False
    is_picture: Callable[[bytes], bool] | None = None
    kept: str = ""
