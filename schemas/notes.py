"""Writes and reads the notes of images that were read in part: "first of 5 pages"."""

from __future__ import annotations

import re
from collections.abc import Mapping

PARTS = ("planes of a z-stack", "pages", "frames", "time points", "channels", "bands", "series")
"""What a file can have several of, of which an image row shows the first."""

_FIRST = re.compile(rf"first (?:\d+ )?of (\d+) ({'|'.join(PARTS)}|planes)")


def first_of(count: int, parts: str, *, taken: int = 1) -> str:
    """The note of an image of which the first `taken` of `count` parts were read, unasked."""
    return f"first of {count} {parts}" if taken == 1 else f"first {taken} of {count} {parts}"


def read_in_part(note: str | None) -> tuple[str, ...]:
    """What was left out of an image that nobody made a choice for, as words to count.

    Args:
        note: Of the image's row.

    Returns:
        "z-stack", or "of 2 channels", "of 12 pages" …; empty where the image was read whole.
    """
    found = _FIRST.findall(note or "")
    return tuple(
        "z-stack" if parts == PARTS[0] else f"of {count} {parts}" for count, parts in found
    )


def without_bands(note: str) -> str:
    """A note without what it says of channels and bands, for an image whose bands were chosen."""
    kept = (one for one in note.split("; ") if not re.fullmatch(_BANDS, one))
    return "; ".join(kept)


def in_part_line(counts: Mapping[str, int]) -> str:
    """One line for people: "3 images were read in part: 2 z-stacks, 1 of 2 channels; see …".

    Args:
        counts: What `read_in_part` gave → how many images; "images" → how many in all.

    Returns:
        "" where there are none.
    """
    images = counts.get("images", 0)
    if not images:
        return ""
    kinds = counts.keys() - {"images"}
    order = sorted(kinds, key=lambda kind: (kind != "z-stack", -counts[kind], kind))
    said = [
        f"{counts[kind]} {kind}{'s' if kind == 'z-stack' and counts[kind] > 1 else ''}"
        for kind in order[:_SHOWN]
    ]
    if more := sum(counts[kind] for kind in order[_SHOWN:]):
        said.append(f"{more} of other kinds")
    verb = "image was" if images == 1 else "images were"
    return f"{images} {verb} read in part: {', '.join(said)}; see images.page"


_BANDS = r"first (?:\d+ )?of \d+ (?:channels|bands)|3 bands taken as red, green, blue"
_SHOWN = 5
