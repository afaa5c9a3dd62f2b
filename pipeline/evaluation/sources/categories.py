"""Which category of the predictions is which category of the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.suggest import nearest

# Category names: which of two data sets mean the same, and a user's own list of such pairs.

SYNONYMS = (
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("dining table", "diningtable"),
    ("motorcycle", "motorbike"),
    ("potted plant", "pottedplant"),
    ("tv", "tvmonitor", "tv monitor", "television", "television set"),
)
"""Names of one category: in COCO, then in PASCAL VOC and others."""


def canonical(name: str) -> str:
    """One name for all ways of writing it: case, spaces, "-" and "_" do not matter."""
    plain = _plain(name)
    return _CANONICAL.get(plain, plain)


def read_category_map(uri: str, storage: Storage | None = None) -> dict[str, str]:
    """A JSON object: name in the predictions → name in the ground truth.

    Raises:
        ValueError: The file holds something else.
        StorageError: It cannot be read.
    """
    uri = absolute_uri(uri)
    try:
        data = orjson.loads((storage or Storage()).read(uri))
    except ValueError as error:
        raise ValueError(f"{uri} is not JSON: {error}") from None
    if not isinstance(data, Mapping) or not all(isinstance(v, str) for v in data.values()):
        raise ValueError(f'{uri} must be one JSON object of names: {{"predicted": "true", …}}')
    return dict(data)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


_CANONICAL = {_plain(name): _plain(group[0]) for group in SYNONYMS for name in group}

AGNOSTIC = 1
"""Category id where categories are not told apart; also what folders of label maps carry."""


_BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class ScoredCategory:
    """A category as far as metrics need it.

    Attributes:
        id: Any integer: files of others also use 0.
        name: For reports.
        isthing: Countable objects, or stuff.
        is_background: The remainder of the picture.
        color: "#rrggbb" where the source has one, else "". Figures do not depend on it.
    """

    id: int
    name: str
    isthing: bool = True
    is_background: bool = False
    color: str = field(default="", compare=False)


Table = Mapping[int, ScoredCategory]


@dataclass(frozen=True, slots=True)
class CategoryMatch:
    """The common table and the way of both sides into it.

    Attributes:
        table: Id → category; empty where only the pixels of the ground truth tell.
        truth_ids: Id in the ground truth → id in the table; None = the same ids.
        predicted_ids: Id in the predictions → id in the table; None = the same ids.
        how: One line for the reader of the figures.
        unknown: Names of predicted categories that the ground truth does not have.
        unpredictable: Ids in the table of categories that the predictions do not have.
    """

    table: Table
    truth_ids: Mapping[int, int] | None
    predicted_ids: Mapping[int, int] | None
    how: str
    unknown: tuple[str, ...] = ()
    unpredictable: tuple[int, ...] = ()

    def background(self) -> int | None:
        """Id in the table of the remainder of pictures."""
        return next((item.id for item in self.table.values() if item.is_background), None)


def match_categories(
    truth: Table | None,
    predicted: Table | None,
    *,
    truth_is_one: bool = False,
    predicted_is_one: bool = False,
    ignore: bool = False,
    category_map: Mapping[str, str] | None = None,
    min_paired: float = 0.5,
) -> CategoryMatch:
    """Finds the common table.

    By id; by name where a name that both sides have stands under different ids, and where there is
    a `category_map`. Names that mean the same count as the same (`names.SYNONYMS`). A side that
    knows objects only, as label maps do, takes the one thing category of the other, and where the
    other has several, categories are not told apart.

    Args:
        truth: Categories of the ground truth, None where its pixels alone tell.
        predicted: Likewise of the predictions.
        truth_is_one: The ground truth is objects without a category.
        predicted_is_one: The predictions are objects without a category.
        ignore: Do not tell thing categories apart; stuff is left out.
        category_map: Name in the predictions → name in the ground truth; where a side has no
            names, the number in its pixels.
        min_paired: Least share of the side of fewer categories that the other must have, where no
            map says which is which.

    Raises:
        ValueError: The two sides have too few categories in common, one name stands for two of
            them, or the map names what is not there.
    """
    if ignore or truth_is_one or predicted_is_one:
        return _one(truth, predicted, truth_is_one, predicted_is_one, ignore)
    if category_map:
        truth, predicted = _numbered(truth, predicted, category_map)
    if truth is None or predicted is None:
        table = truth if truth is not None else predicted or {}
        return CategoryMatch(table, None, None, "by id")
    renamed = _renamed(truth, predicted, category_map or {})
    by_name = {canonical(item.name): item.id for item in truth.values()}
    same = {id_ for id_, name in renamed.items() if id_ in truth and _named(truth[id_], name)}
    moved = any(by_name.get(name, id_) != id_ for id_, name in renamed.items() if id_ not in same)
    if moved or category_map:
        _check_names(truth, renamed)
    if moved or category_map:
        ids = {id_: by_name[name] for id_, name in renamed.items() if name in by_name}
        how = "by name, with a category map" if category_map else "by name"
    else:
        ids = {i: i for i, item in predicted.items() if i in truth and _plausible(truth[i], item)}
        how = "by id" + _misnamed(truth, predicted, ids)
    if not ids:
        things = [[item for item in side.values() if item.isthing] for side in (truth, predicted)]
        if [len(side) for side in things] != [1, 1]:
            raise ValueError(
                "no category in common: the ground truth has "
                f"{_names(truth)}, the predictions have {_names(predicted)}"
            )
        ids = {things[1][0].id: things[0][0].id}
        how = f"the only one of each side: {things[1][0].name!r} is {things[0][0].name!r}"
    if not category_map:
        _check_share(truth, predicted, ids, min_paired)
    return CategoryMatch(
        table=truth,
        truth_ids=None,
        predicted_ids=ids,
        how=how,
        unknown=tuple(
            item.name
            for item in predicted.values()
            if item.id not in ids and not item.is_background
        ),
        unpredictable=tuple(sorted(set(truth) - set(ids.values()))),
    )


def _named(item: ScoredCategory, name: str) -> bool:
    return canonical(item.name) == name


def _check_names(truth: Table, renamed: Mapping[int, str]) -> None:
    """Raises where a name that is looked for stands under two ids of the ground truth."""
    wanted = set(renamed.values())
    seen: dict[str, int] = {}
    for item in truth.values():
        name = canonical(item.name)
        if name in wanted and name in seen:
            raise ValueError(
                f"the ground truth has {item.name!r} under the ids {seen[name]} and {item.id}: "
                "categories cannot be told apart by name"
            )
        seen[name] = item.id


def _check_share(truth: Table, predicted: Table, ids: Mapping[int, int], min_paired: float) -> None:
    """Raises where too few categories are on both sides."""
    sides = [[c for c in side.values() if not c.is_background] for side in (truth, predicted)]
    paired = len({there for there in ids.values() if not truth[there].is_background})
    if paired < min_paired * min(map(len, sides)):
        alone = [
            {c.id: c for c in sides[0] if c.id not in set(ids.values())},
            {c.id: c for c in sides[1] if c.id not in ids},
        ]
        raise ValueError(
            f"only {paired} of {len(sides[0])} categories of the ground truth and {len(sides[1])} "
            f"of the predictions are the same: the ground truth also has {_names(alone[0])}, the "
            f"predictions {_names(alone[1])}; --category-map says which is which, --min-paired "
            "how few are enough"
        )


def _misnamed(truth: Table, predicted: Table, ids: Mapping[int, int]) -> str:
    for here, there in ids.items():
        names = predicted[here].name, truth[there].name
        if canonical(names[0]) != canonical(names[1]):
            return f", though {here} is {names[0]!r} here and {names[1]!r} in the ground truth"
    return ""


def _numbered(
    truth: Table | None, predicted: Table | None, category_map: Mapping[str, str]
) -> tuple[Table, Table]:
    """Both tables; a side without one gets the numbers that the map speaks of.

    Raises:
        ValueError: They are no numbers.
    """
    sides = []
    for side, numbers, others in (
        (truth, category_map.values(), category_map.keys()),
        (predicted, category_map.keys(), category_map.values()),
    ):
        if side is not None:
            sides.append(side)
            continue
        names: dict[int, str] = {}
        for number, other in zip(numbers, others, strict=True):
            if not number.isdecimal():
                raise ValueError(
                    f"the category map names {number!r} on a side whose pixels are numbers"
                )
            names.setdefault(int(number), other)
        sides.append({id_: ScoredCategory(id_, name, *_kind(name)) for id_, name in names.items()})
    return sides[0], sides[1]


def _kind(name: str) -> tuple[bool, bool]:
    is_background = canonical(name) == _BACKGROUND
    return not is_background, is_background


def _renamed(truth: Table, predicted: Table, category_map: Mapping[str, str]) -> dict[int, str]:
    """Predicted id → canonical name, as the ground truth writes it.

    Raises:
        ValueError: The map names a category that is not there.
    """
    names = {id_: canonical(item.name) for id_, item in predicted.items()}
    here = {name: id_ for id_, name in names.items()} | {str(id_): id_ for id_ in predicted}
    there = {canonical(item.name): canonical(item.name) for item in truth.values()}
    there |= {str(id_): canonical(item.name) for id_, item in truth.items()}
    there.setdefault(_BACKGROUND, _BACKGROUND)  # which objects leave over
    for side, known, given in (
        ("predictions do", here, category_map.keys()),
        ("ground truth does", there, category_map.values()),
    ):
        for name in given:
            if canonical(name) not in known:
                raise ValueError(
                    f"the category map names {name!r}, which the {side} not have"
                    f"{nearest(canonical(name), known)}"
                )
    for name, target in category_map.items():
        names[here[canonical(name)]] = there[canonical(target)]
    return names


def _one(
    truth: Table | None,
    predicted: Table | None,
    truth_is_one: bool,
    predicted_is_one: bool,
    ignore: bool,
) -> CategoryMatch:
    named = {} if truth_is_one else dict(truth or {})
    if truth_is_one and not predicted_is_one:
        named = dict(predicted or {})
    things = [item for item in named.values() if item.isthing]
    background = [item for item in named.values() if item.is_background]
    if len(things) == 1 and not ignore:
        only = things[0]
        how = f"one category, {only.name!r}: the other side holds objects without a category"
    else:
        only = ScoredCategory(AGNOSTIC, "object")
        how = "not told apart"
        background = [item for item in background if item.id != AGNOSTIC]
    table = {item.id: item for item in (only, *background)}
    kept = {item.id: item.id for item in background}

    def ids(side: Table | None, is_one: bool) -> dict[int, int]:
        if is_one or side is None:
            return {AGNOSTIC: only.id}
        return kept | {item.id: only.id for item in side.values() if item.isthing}

    return CategoryMatch(table, ids(truth, truth_is_one), ids(predicted, predicted_is_one), how)


def _plausible(truth: ScoredCategory, predicted: ScoredCategory) -> bool:
    # A file of objects may number its second kind as a model numbers the background.
    return not (predicted.is_background and truth.isthing) or truth.name == predicted.name


def _names(table: Table, limit: int = 5) -> str:
    shown = [f"{item.id} {item.name!r}" for item in list(table.values())[:limit]]
    more = f" and {len(table) - limit} more" if len(table) > limit else ""
    return ", ".join(shown) + more if shown else "none"
