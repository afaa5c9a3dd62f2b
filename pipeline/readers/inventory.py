"""What a listing met beside images: containers and how they ended, files that were left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from schemas.containers import Container, LeftOut

from .kinds import extension, names_picture, why_not

APPLE_DOUBLE = "AppleDouble"
NAMED_TWICE = "named twice"
OTHER_FIELD = "another field of its sample"
WEBDATASET = "WebDataset's own"

_AS_MEANT = {APPLE_DOUBLE, OTHER_FIELD, NAMED_TWICE, WEBDATASET}
"""Reasons for which no picture is lost."""
_SUFFIX = re.compile(r"\.(tar\.)?(?!\d+$)[a-z0-9_+~-]{1,10}")


class Inventory:
    """Grows while a reader lists, and is whole when the listing has ended.

    Attributes:
        containers: Tars, Parquet files, lists and closed folders, in the order of the listing.
    """

    def __init__(self) -> None:
        self.containers: list[Container] = []
        self._left_out: Counter[tuple[str, str]] = Counter()

    @property
    def left_out(self) -> list[LeftOut]:
        """Pictures first, then by suffix."""
        found = [
            LeftOut(suffix, reason, files, names_picture(suffix) and reason not in _AS_MEANT)
            for (suffix, reason), files in self._left_out.items()
        ]
        return sorted(found, key=lambda item: (not item.picture, item))

    @property
    def faults(self) -> list[Container]:
        """Containers that could not be read, or not to their end."""
        return [container for container in self.containers if container.status != "ok"]

    def clear(self) -> None:
        """Forgets everything."""
        self.containers.clear()
        self._left_out.clear()

    def leave(self, path: str, reason: str = "") -> None:
        """Notes a file that is no input; without a reason its suffix is the reason."""
        suffix = extension(path)
        if suffix not in ("folder", "no extension") and not _SUFFIX.fullmatch(suffix):
            suffix = "other suffixes"  # numbers, sentences: as many as files
        if reason == "hidden" and path.rpartition("/")[2].startswith("._"):
            reason = APPLE_DOUBLE
        self._left_out[suffix, reason or why_not(suffix)[0]] += 1

    def leave_all(self, counted: Mapping[tuple[str, str], int]) -> None:
        """Notes (suffix, reason) → files."""
        for key, files in counted.items():
            self._left_out[key] += files

    def describe(self, most: int = 5) -> str:
        """What was found instead of images, for an error: "2 .txt, 1 no extension"."""
        names: Counter[str] = Counter()
        for (suffix, _), files in self._left_out.items():
            names[suffix] += files
        return ", ".join(f"{files} {name}" for name, files in names.most_common(most))


def summary(faults: Iterable[str], most: int = 3) -> str:
    """Several faults of one container as one line."""
    told = list(faults)
    more = f"; and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + more
