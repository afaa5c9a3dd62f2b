"""Which image of the predictions is which image of the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .source import ImageEntry


@dataclass(frozen=True, slots=True)
class Pairing:
    """Images of both sides brought together.

    Attributes:
        pairs: (true, predicted) images, in the order of the predictions; then the true images
            that have no prediction, with None.
        unknown: Predicted images that the ground truth does not have.
        how: "id", "path", "file name" or "stem".
    """

    pairs: tuple[tuple[ImageEntry, ImageEntry | None], ...]
    unknown: tuple[ImageEntry, ...]
    how: str


def pair_images(truth: Sequence[ImageEntry], predicted: Sequence[ImageEntry]) -> Pairing:
    """Pairs images by id where a side knows ids only; else by the first of these that finds some
    and is unique: path without the extension, whole path, the file's stem.

    Raises:
        ValueError: No image is on both sides, or it cannot be told which is which.
    """
    if not truth or not predicted:
        raise ValueError(f"the {'predictions' if truth else 'ground truth'} hold no image")
    keys = _BY_NAME
    if any(item.name is None for item in (*truth, *predicted)):
        keys = {"id": lambda item: item.key}
    doubt = ""
    for how, key in keys.items():
        true, answers = {key(item): item for item in truth}, {key(item) for item in predicted}
        common = true.keys() & answers
        twice = _twice(common, truth, predicted, key)
        if twice:
            doubt = f"cannot tell which image is which by {how}: {twice}"
        elif common:
            known = [item for item in predicted if key(item) in common]
            missing = [item for item in truth if key(item) not in common]
            return Pairing(
                pairs=(*((true[key(i)], i) for i in known), *((i, None) for i in missing)),
                unknown=tuple(item for item in predicted if key(item) not in common),
                how=how,
            )
    raise ValueError(
        doubt
        or f"no image is on both sides: the ground truth has {_examples(truth)}; "
        f"the predictions have {_examples(predicted)}"
    )


def _twice(
    common: Collection[int | str],
    truth: Sequence[ImageEntry],
    predicted: Sequence[ImageEntry],
    key: Callable[[ImageEntry], int | str],
) -> str:
    for side, entries in (("ground truth", truth), ("predictions", predicted)):
        numbers = Counter(map(key, entries))
        names = [item.name for item in entries if numbers[key(item)] > 1 and key(item) in common]
        if names:
            return f"the {side} have {', '.join(map(repr, names[:3]))}"
    return ""


def _name(entry: ImageEntry) -> str:
    return entry.name or ""


_BY_NAME: dict[str, Callable[[ImageEntry], int | str]] = {
    "path": lambda item: str(PurePosixPath(_name(item)).parent / PurePosixPath(_name(item)).stem),
    "file name": _name,
    "stem": lambda item: PurePosixPath(_name(item)).stem,
}


def _examples(entries: Sequence[ImageEntry]) -> str:
    shown = [repr(item.name) if item.name else f"id {item.key}" for item in entries[:3]]
    return ", ".join(shown) + (f" … ({len(entries)} images)" if len(entries) > 3 else "")
