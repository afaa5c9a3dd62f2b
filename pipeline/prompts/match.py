"""Match: which picture of the input each name in a file of prompts means.

A name means the picture with which it shares the longest end of the path, both ways: prompts of
`a/x.jpg` are for `photos/a/x.jpg` and not for `photos/b/x.jpg`. Extensions may differ. What fits
two equally well fits neither.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SHOWN = 3
_EXTENSION = re.compile(
    r"\.(jpe?g|jfif|png|webp|tiff?|bmp|gif|avif|heic|jp2|ppm|pgm|npy|dcm)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class NameMatch:
    """Names of pictures and names of a file, brought together.

    Attributes:
        keys: Picture → the file's name for it, where the two are not the same.
        absent: Names of the file without a picture, in the file's order.
        doubtful: Name of the file → the pictures that it fits equally well.
    """

    keys: dict[str, str]
    absent: tuple[str, ...]
    doubtful: dict[str, tuple[str, ...]]


def clean(name: str) -> str:
    """A path with "/" and without a leading "./"."""
    return name.replace("\\", "/").removeprefix("./")


def match_names(pictures: Iterable[str], names: Sequence[str]) -> NameMatch:
    """Finds the pictures that a file's names mean.

    Args:
        pictures: File names of the input's images.
        names: Of the file, cleaned.
    """
    exact = set(names)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_stem[_stem(name)].append(name)
    found: dict[str, str] = {}
    taken: set[str] = set()
    claims: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for picture in pictures:
        name = clean(picture)
        if name in exact:
            taken.add(name)
            if name != picture:
                found[picture] = name
        elif candidates := by_stem.get(_stem(name)):
            ranks = sorted(((_rank(name, other), other) for other in candidates), reverse=True)
            if len(ranks) == 1 or ranks[0][0] > ranks[1][0]:
                claims[ranks[0][1]].append((ranks[0][0], picture))
    doubtful: dict[str, tuple[str, ...]] = {}
    for name, claim in claims.items():
        if name in taken:
            continue  # a picture of exactly this name is there
        best = max(rank for rank, _ in claim)
        owners = [picture for rank, picture in claim if rank == best]
        if len(owners) == 1:
            found[owners[0]] = name
            taken.add(name)
        else:
            doubtful[name] = tuple(sorted(owners))
    absent = tuple(name for name in dict.fromkeys(names) if name not in taken | doubtful.keys())
    return NameMatch(found, absent, doubtful)


def check_match(
    match: NameMatch, *, uri: str, names: int, pictures: Sequence[str], least: float
) -> None:
    """Complains where a file of prompts is not of these pictures.

    Args:
        match: Of the file with the input.
        uri: Of the file.
        names: How many pictures it names.
        pictures: File names of the input.
        least: Share of the file's pictures that must be there; 0 = any one of them.

    Raises:
        ValueError: A name fits several pictures, or too few names fit one; shows both sides.
    """
    for name, owners in match.doubtful.items():
        raise ValueError(
            f"prompts.file: {name!r} of {uri} fits {_list(owners)} equally well; name pictures by "
            "as much of the path as tells them apart"
        )
    there = names - len(match.absent)
    if there and there >= least * names:
        return
    how = "none" if not there else f"{there} only"
    raise ValueError(
        f"prompts.file: of the {names} pictures that {uri} names, {how} is in the input: the file "
        f"names {_list(match.absent)}, the input holds {_list(pictures)}"
        + (f"; prompts.min_matched = {least:g} asks for more" if there else "")
    )


def _stem(name: str) -> str:
    """ "img.v2" of "a/img.v2.jpg", and of "a/img.v2": YOLO's names have no extension."""
    return _EXTENSION.sub("", name.rpartition("/")[2])


def _rank(one: str, two: str) -> int:
    """Twice the folders that both paths end in, and one more for the same extension."""
    *folders, last = one.split("/")
    *others, also = two.split("/")
    common = 0
    for a, b in zip(reversed(folders), reversed(others), strict=False):
        if a != b:
            break
        common += 1
    return 2 * common + (last == also)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
