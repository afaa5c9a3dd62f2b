"""Which image of the predictions is which image of the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
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

    A path that keeps the other side's extension below its own, as `a.jpg.png` does of `a.jpg`,
    belongs to that one, not to another `a.jpg.…`: our exports name images that way whose paths
    differ in the extension only.

    Raises:
        ValueError: No image is on both sides, or it cannot be told which is which.
    """
    if not truth or not predicted:
        raise ValueError(f"the {'predictions' if truth else 'ground truth'} hold no image")
    ways = _BY_NAME
    if any(item.name is None for item in (*truth, *predicted)):
        ways = {"id": lambda side, _: [item.key for item in side]}
    doubt = ""
    for how, keys in ways.items():
        true_keys, answer_keys = keys(truth, predicted), keys(predicted, truth)
        common = set(true_keys) & set(answer_keys)
        twice = _twice(common, "ground truth", truth, true_keys)
        twice = twice or _twice(common, "predictions", predicted, answer_keys)
        if twice:
            doubt = f"cannot tell which image is which by {how}: {twice}"
        elif common:
            true = dict(zip(true_keys, truth, strict=True))
            answers = list(zip(answer_keys, predicted, strict=True))
            missing = [
                item for key, item in zip(true_keys, truth, strict=True) if key not in common
            ]
            return Pairing(
                pairs=(
                    *((true[key], item) for key, item in answers if key in common),
                    *((item, None) for item in missing),
                ),
                unknown=tuple(item for key, item in answers if key not in common),
                how=how,
            )
    raise ValueError(
        doubt
        or f"no image is on both sides: the ground truth has {_examples(truth)}; "
        f"the predictions have {_examples(predicted)}"
    )


def _twice(
    common: Collection[Hashable],
    side: str,
    entries: Sequence[ImageEntry],
    keys: Sequence[Hashable],
) -> str:
    numbers = Counter(keys)
    names = [
        item.name
        for key, item in zip(keys, entries, strict=True)
        if numbers[key] > 1 and key in common
    ]
    return f"the {side} have {', '.join(map(repr, names[:3]))}" if names else ""


def _name(entry: ImageEntry) -> str:
    return entry.name or ""


def _paths(side: Sequence[ImageEntry], other: Sequence[ImageEntry]) -> list[Hashable]:
    names, stems = {_name(item) for item in other}, {_stem_path(item) for item in other}
    keys: list[Hashable] = []
    for item in side:
        stem, name = _stem_path(item), _name(item)
        keys.append((stem, True) if stem in names else (name, True) if name in stems else stem)
    return keys


def _stem_path(entry: ImageEntry) -> str:
    path = PurePosixPath(_name(entry))
    return str(path.parent / path.stem)


_BY_NAME: dict[str, Callable[[Sequence[ImageEntry], Sequence[ImageEntry]], Sequence[Hashable]]] = {
    "path": _paths,
    "file name": lambda side, _: [_name(item) for item in side],
    "stem": lambda side, _: [PurePosixPath(_name(item)).stem for item in side],
}
"""How images are told apart → keys of a side, given the other one."""


def _examples(entries: Sequence[ImageEntry]) -> str:
    shown = [repr(item.name) if item.name else f"id {item.key}" for item in entries[:3]]
    return ", ".join(shown) + (f" … ({len(entries)} images)" if len(entries) > 3 else "")
