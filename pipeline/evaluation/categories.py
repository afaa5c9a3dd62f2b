"""Which category of the predictions is which category of the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

AGNOSTIC = 1
"""Category id where categories are not told apart; also what folders of label maps carry."""


@dataclass(frozen=True, slots=True)
class ScoredCategory:
    """A category as far as metrics need it.

    Attributes:
        id: Any integer: files of others also use 0.
        name: For reports.
        isthing: Countable objects, or stuff.
        is_background: The remainder of the picture.
    """

    id: int
    name: str
    isthing: bool = True
    is_background: bool = False


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
    """

    table: Table
    truth_ids: Mapping[int, int] | None
    predicted_ids: Mapping[int, int] | None
    how: str
    unknown: tuple[str, ...] = ()


def match_categories(
    truth: Table | None,
    predicted: Table | None,
    *,
    truth_is_one: bool = False,
    predicted_is_one: bool = False,
    ignore: bool = False,
) -> CategoryMatch:
    """Finds the common table.

    By id; by name where a name that both sides have stands under different ids. A side that knows
    objects only, as label maps do, takes the one thing category of the other, and where the other
    has several, categories are not told apart.

    Args:
        truth: Categories of the ground truth, None where its pixels alone tell.
        predicted: Likewise of the predictions.
        truth_is_one: The ground truth is objects without a category.
        predicted_is_one: The predictions are objects without a category.
        ignore: Do not tell thing categories apart; stuff is left out.

    Raises:
        ValueError: The two sides have no category in common.
    """
    if ignore or truth_is_one or predicted_is_one:
        return _one(truth, predicted, truth_is_one, predicted_is_one, ignore)
    if truth is None or predicted is None:
        table = truth if truth is not None else predicted or {}
        return CategoryMatch(table, None, None, "by id")
    by_name = {item.name: item.id for item in truth.values()}
    moved = any(by_name.get(item.name, item.id) != item.id for item in predicted.values())
    if moved:
        ids = {item.id: by_name[item.name] for item in predicted.values() if item.name in by_name}
    else:
        ids = {i: i for i, item in predicted.items() if i in truth and _plausible(truth[i], item)}
    how = "by name" if moved else "by id"
    if not ids:
        things = [[item for item in side.values() if item.isthing] for side in (truth, predicted)]
        if [len(side) for side in things] != [1, 1]:
            raise ValueError(
                "no category in common: the ground truth has "
                f"{_names(truth)}, the predictions have {_names(predicted)}"
            )
        ids = {things[1][0].id: things[0][0].id}
        how = f"the only one of each side: {things[1][0].name!r} is {things[0][0].name!r}"
    unknown = tuple(
        item.name for item in predicted.values() if item.id not in ids and not item.is_background
    )
    return CategoryMatch(truth, None, ids, how, unknown)


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
        background = []
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
    return ", ".join(shown) + (f" and {len(table) - limit} more" if len(table) > limit else "")
