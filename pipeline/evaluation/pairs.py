"""Which image of the predictions is which image of the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath

from pipeline.evaluation.sources.fields import same_key
from pipeline.evaluation.sources.source import ImageEntry
from schemas.suggest import nearest

Pair = tuple[ImageEntry, ImageEntry | None]
"""A true image and its prediction."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Images of both sides brought together.

    Attributes:
        pairs: (true, predicted) images, in the order of the predictions; then the true images
            that have no prediction, with None.
        unknown: Predicted images that the ground truth does not have.
        how: "id", "path", "file name" or "stem".
    """

    pairs: tuple[Pair, ...]
    unknown: tuple[ImageEntry, ...]
    how: str


PAIR_BY = ("path", "name", "stem", "id")
"""How images of both sides can be told to be the same: path without the extension, whole path, the
file's stem, the id in a file."""


def pair_images(
    truth: Sequence[ImageEntry],
    predicted: Sequence[ImageEntry],
    *,
    by: str = "",
    min_paired: float = 0.5,
) -> Pairing:
    """Pairs images by id where a side knows ids only; else by the first of `PAIR_BY` but the id
    that pairs enough and leaves no doubt.

    A path that keeps the other side's extension below its own, as `a.jpg.png` does of `a.jpg`,
    belongs to that one, not to another `a.jpg.…`: our exports name images that way whose paths
    differ in the extension only.

    Args:
        truth: Images of the ground truth.
        predicted: Images of the predictions.
        by: One of `PAIR_BY`, "" = find it. If it is named and none but the ground truth lists an
            image twice, each of the two is compared with the one prediction.
        min_paired: Least share of the smaller side that must find a partner.

    Raises:
        ValueError: Too few images are on both sides, or it cannot be told which is which.
    """
    if not truth or not predicted:
        raise ValueError(
            f"{'the predictions hold' if truth else 'the ground truth holds'} no image"
        )
    if by and by not in PAIR_BY:
        raise ValueError(f"unknown pair_by {by!r}{nearest(by, PAIR_BY)}; known: {PAIR_BY}")
    nameless = any(item.name is None for item in (*truth, *predicted))
    if nameless and by not in ("", "id"):
        raise ValueError(f"images cannot be paired by {by}: a side has ids alone")
    ways = [by] if by else ["id"] if nameless else [way for way in PAIR_BY if way != "id"]
    doubt, few = "", ""
    for how in ways:
        keys = _KEYS[how]
        true_keys, answer_keys = keys(truth, predicted), keys(predicted, truth)
        common = set(true_keys) & set(answer_keys)
        twice = "" if by else _twice(common, "ground truth", truth, true_keys, how)
        twice = twice or _twice(common, "predictions", predicted, answer_keys, how)
        if twice:
            doubt = doubt or twice
        elif len(common) >= max(min_paired * min(len(set(true_keys)), len(predicted)), 1):
            return _paired(truth, predicted, true_keys, answer_keys, how)
        elif common:
            few = few or (
                f"only {len(common)} of {len(truth)} images of the ground truth and "
                f"{len(predicted)} of the predictions are the same by {how}: "
                + _sides(truth, predicted, true_keys, answer_keys)
                + "; --pair-by says what makes them the same, --min-paired how few are enough"
            )
    examples = f"the ground truth has {_examples(truth)}; the predictions have "
    raise ValueError(doubt or few or f"no image is on both sides: {examples}{_examples(predicted)}")


def _paired(
    truth: Sequence[ImageEntry],
    predicted: Sequence[ImageEntry],
    true_keys: Sequence[Hashable],
    answer_keys: Sequence[Hashable],
    how: str,
) -> Pairing:
    true: dict[Hashable, list[ImageEntry]] = {}
    for key, item in zip(true_keys, truth, strict=True):
        true.setdefault(key, []).append(item)
    answers = list(zip(answer_keys, predicted, strict=True))
    known = set(answer_keys)
    missing = [item for key, item in zip(true_keys, truth, strict=True) if key not in known]
    return Pairing(
        pairs=(
            *((own, item) for key, item in answers for own in true.get(key, ())),
            *((item, None) for item in missing),
        ),
        unknown=tuple(item for key, item in answers if key not in true),
        how={"name": "file name"}.get(how, how),
    )


def _sides(
    truth: Sequence[ImageEntry],
    predicted: Sequence[ImageEntry],
    true_keys: Sequence[Hashable],
    answer_keys: Sequence[Hashable],
) -> str:
    """Examples of the images of both sides that are not on the other."""
    alone = [
        _examples([item for key, item in zip(keys, side, strict=True) if key not in others])
        for side, keys, others in (
            (truth, true_keys, set(answer_keys)),
            (predicted, answer_keys, set(true_keys)),
        )
    ]
    return f"the ground truth also has {alone[0] or 'none'}, the predictions {alone[1] or 'none'}"


def _twice(
    common: Collection[Hashable],
    side: str,
    entries: Sequence[ImageEntry],
    keys: Sequence[Hashable],
    how: str,
) -> str:
    """What is wrong where a side has two images of one key that the other side also has."""
    numbers = Counter(keys)
    doubled = [
        (key, item)
        for key, item in zip(keys, entries, strict=True)
        if numbers[key] > 1 and key in common
    ]
    if not doubled:
        return ""
    own = [item for key, item in doubled if key == doubled[0][0]]
    if own[0].name is not None and len({item.name for item in own}) == 1:
        ids = " and ".join(str(item.key) for item in own)
        ways = "--pair-by id pairs images by these ids"
        if side == "ground truth":
            ways += ", --pair-by path compares each of them with the one prediction"
        return f"the {side} lists {own[0].name!r} under the ids {ids}: {ways}"
    names = ", ".join(repr(item.name) for _, item in doubled[:3])
    how = {"name": "file name"}.get(how, how)
    return f"cannot tell which image is which by {how}: the {side} have {names}"


def _name(entry: ImageEntry) -> str:
    """With the separators of everybody but Windows, without `file://`, `./` and `../`."""
    return normpath((entry.name or "").replace("\\", "/").removeprefix("file://"))


def _paths(side: Sequence[ImageEntry], other: Sequence[ImageEntry]) -> list[Hashable]:
    names, stems = {_name(item) for item in other}, {_stem_path(item) for item in other}
    keys: list[Hashable] = []
    for item in side:
        stem, name = _stem_path(item), _name(item)
        keys.append((stem, True) if stem in names else (name, True) if name in stems else stem)
    return keys


def _names(side: Sequence[ImageEntry], other: Sequence[ImageEntry]) -> list[Hashable]:
    """Whole names; as they are written where two would be one with everybody's separators."""
    plain = [[_name(item) for item in entries] for entries in (side, other)]
    if all(len(set(names)) == len(names) for names in plain):
        return [*plain[0]]
    return [item.name or "" for item in side]


def _stem_path(entry: ImageEntry) -> str:
    path = PurePosixPath(_name(entry))
    return str(path.parent / path.stem)


_KEYS: dict[str, Callable[[Sequence[ImageEntry], Sequence[ImageEntry]], Sequence[Hashable]]] = {
    "path": _paths,
    "name": _names,
    "stem": lambda side, _: [PurePosixPath(_name(item)).stem for item in side],
    "id": lambda side, _: [same_key(item.key) for item in side],
}
"""How images are told apart → keys of a side, given the other one."""


def _examples(entries: Sequence[ImageEntry]) -> str:
    shown = [repr(item.name) if item.name else f"id {item.key}" for item in entries[:3]]
    return ", ".join(shown) + (f" … ({len(entries)} images)" if len(entries) > 3 else "")
