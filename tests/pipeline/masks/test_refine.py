"""The refiner against the same steps in pixels, and what holds after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.masks import codec
from pipeline.masks.refine import Refiner, loosest_limits
from schemas.categories import Categories, Category
from schemas.config.model import ModelConfig, RefineConfig
from schemas.records import ErrorCode, Failure, Segment, Segmentation, Task, answer

CELL = Category(1, "cell", True, "#ff0000")
SKY = Category(7, "blue sky", False, "#0000ff")
GROUND = Category(2, "ground", False, "#000000", is_background=True)
WITH_GROUND = Categories((CELL, GROUND, SKY))
WITHOUT = Categories((CELL, SKY))

Mask = npt.NDArray[np.bool_]


def refiner(
    table: Categories = WITH_GROUND,
    *tasks: Task,
    min_score: float = 0.0,
    min_area: int | None = None,
    **refine: Any,
) -> Refiner:
    model = ModelConfig(name="m", min_score=min_score, min_area=min_area)
    config = RefineConfig.parse(refine)
    return Refiner(model, config, table, tasks or ("panoptic",))


def segment(mask: Any, category: int = 1, score: float | None = None, **more: Any) -> Segment:
    (region,) = codec.regions(np.asarray(mask).astype(np.uint8))
    return Segment(category, region.counts, region.area, region.bbox_xywh, score, **more)


def picture(text: str) -> npt.NDArray[np.int32]:
    """A label map from lines of digits, "." = nobody's."""
    rows = [line.strip() for line in text.strip().splitlines()]
    return np.array([[int(c) if c != "." else 0 for c in row] for row in rows], np.int32)


def found_in(label_map: npt.NDArray[np.int32], *categories: int) -> Segmentation:
    """Label n is of categories[n − 1]."""
    segments = [segment(label_map == n, category) for n, category in enumerate(categories, 1)]
    return Segmentation(*label_map.shape, tuple(segments))


def drawn(found: Segmentation) -> npt.NDArray[np.int32]:
    """Segment n of a disjoint answer as label n."""
    label_map = np.zeros((found.height, found.width), np.int32)
    for number, one in enumerate(found.segments, start=1):
        label_map[codec.decode(one.counts, *label_map.shape) == 1] = number
    return label_map


def shown(found: Segmentation) -> str:
    rows = ["".join(str(value) if value else "." for value in row) for row in drawn(found).tolist()]
    return "\n".join(rows)


def lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


# Each step by itself


def test_nothing_set_is_nothing_done_and_nothing_read() -> None:
    idle = refiner()
    assert not idle.active
    found = Segmentation(4, 4, (Segment(1, b"no RLE at all", 3, (0, 0, 2, 2)),))
    assert idle.refine(found) is found
    limited = refiner(WITHOUT, min_score=0.5, min_area=3)
    assert limited.active
    assert limited.refine(found).segments == found.segments  # limits alone decode no mask


def test_scores_areas_and_their_own_for_a_category() -> None:
    weak, sure, unsure = (segment(np.ones((2, 3)), score=value) for value in (0.2, 0.9, None))
    sky = segment(np.ones((2, 3)), 7, 0.2)
    found = Segmentation(2, 3, (weak, sure, unsure, sky))
    assert refiner(WITHOUT, "instance", min_score=0.5).refine(found).segments == (sure, unsure)
    own = refiner(WITHOUT, "instance", min_score=0.5, categories={"blue sky": {"min_score": 0.1}})
    assert own.refine(found).segments == (sure, unsure, sky)
    large = refiner(
        WITHOUT, "instance", min_area=7, categories={"cell": {"min_area": 6, "min_score": 0.9}}
    )
    assert large.refine(found).segments == (sure, unsure)


def test_the_best_of_each_category_stay_in_their_order() -> None:
    scores = (0.3, 0.9, 0.9, None, 0.5)
    cells = [segment(np.ones((1, 1)), score=value) for value in scores]
    skies = [segment(np.ones((1, 1)), 7, value) for value in (0.1, 0.2)]
    found = Segmentation(1, 1, (*cells, *skies))
    best = refiner(WITHOUT, "instance", max_segments=2)
    assert best.refine(found).segments == (cells[1], cells[3], *skies)  # no score: certain
    own = refiner(WITHOUT, "instance", max_segments=1, categories={"cell": {"max_segments": 0}})
    assert own.refine(found).segments == (*cells, skies[1])


PIECES = """
    11...2
    11..2.
    .....2
    1.2...
"""


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    found = found_in(picture(PIECES), 1, 1)
    assert shown(refiner(WITHOUT, min_island=3).refine(found)) == lines("""
        11...2
        11..2.
        .....2
        ......
    """)
    assert shown(refiner(WITHOUT, min_island=4).refine(found)) == lines("""
        11....
        11....
        ......
        ......
    """)
    assert refiner(WITHOUT, min_island=5).refine(found).segments == ()


HOLES = """
    .1....111
    1.1...1.1
    .1..1.11.
    ...1.11..
    111.1....
    ..1......
"""


def test_holes_are_enclosed_by_edges_or_corners_but_not_by_the_picture() -> None:
    found = found_in(picture(HOLES), 1)
    assert shown(refiner(WITHOUT, fill_holes=1).refine(found)) == lines("""
        .1....111
        111...111
        .1..1.11.
        ...1111..
        111.1....
        ..1......
    """)


NESTED = """
    11111111
    1......1
    1.2222.1
    1.2..2.1
    1.2222.1
    1......1
    11111111
"""


def test_a_hole_is_filled_with_nobody_s_pixels_and_the_smaller_one_first() -> None:
    found = found_in(picture(NESTED), 1, 1)
    assert shown(refiner(WITHOUT, fill_holes=29).refine(found)) == lines("""
        11111111
        1......1
        1.2222.1
        1.2222.1
        1.2222.1
        1......1
        11111111
    """)
    assert shown(refiner(WITHOUT, fill_holes=30).refine(found)) == lines("""
        11111111
        11111111
        11222211
        11222211
        11222211
        11111111
        11111111
    """)
    apart = refiner(WITHOUT, "instance", fill_holes=30).refine(found).segments
    assert [one.area for one in apart] == [56, 12]  # instances may overlap: the hole is all inside


def test_the_background_takes_what_is_freed_and_gives_what_is_filled() -> None:
    found = found_in(
        picture("""
        1111..3333
        1221..3232
        1221..3333
        1111.42222
    """),
        1,
        2,
        1,
        1,
    )
    # The crumb goes, both holes of 1 and 3 are filled, nobody's pixels stay nobody's.
    refined = refiner(min_area=2, fill_holes=4).refine(found)
    assert shown(refined) == lines("""
        1111..3333
        1111..3332
        1111..3333
        1111.22222
    """)
    assert [one.category_id for one in refined.segments] == [1, 2, 1]


def test_a_background_that_was_not_there_comes_last() -> None:
    cell = segment([[1, 1, 0]], score=0.9, task="panoptic")
    crumb = segment([[0, 0, 1]], score=0.1, task="panoptic")
    found = Segmentation(1, 3, (crumb, cell))
    refined = refiner(WITH_GROUND, "semantic", "panoptic", min_score=0.5).refine(found)
    assert refined.segments == (
        cell,
        replace(crumb, category_id=GROUND.id, score=None),
    )
    full = found_in(picture("122\n111\n111"), 1, GROUND.id)
    whole = refiner(min_area=9).refine(full).segments
    assert [(one.category_id, one.area) for one in whole] == [(GROUND.id, 9)]


def test_a_background_without_a_pixel_left_is_gone() -> None:
    refined = refiner(fill_holes=1).refine(found_in(picture("111\n121\n111"), 1, GROUND.id))
    assert [(one.category_id, one.area) for one in refined.segments] == [(1, 9)]


def test_what_is_dropped_first_makes_room_for_filling() -> None:
    speckled = found_in(picture("11111\n12131\n11111"), 1, SKY.id, 1)
    (whole,) = refiner(WITHOUT, min_area=2, fill_holes=1).refine(speckled).segments
    assert (whole.area, whole.bbox_xywh) == (15, (0, 0, 5, 3))


def test_background_and_crowds_pass_no_limit() -> None:
    label_map = picture("1.2\n...\n2.3")
    ground, sky, cell = found_in(label_map, GROUND.id, SKY.id, CELL.id).segments
    crowd = replace(sky, iscrowd=True, score=0.0)
    found = Segmentation(3, 3, (replace(ground, score=0.0), crowd, cell))
    strict = refiner(min_score=0.9, min_area=9, min_island=9, fill_holes=9)
    left = strict.refine(found).segments
    assert left[1] == crowd
    assert [(one.category_id, one.area) for one in left] == [(GROUND.id, 2), (SKY.id, 2)]


def test_a_crowd_s_pixels_are_somebody_s() -> None:
    label_map = picture("111\n121\n111")
    ring, dot = found_in(label_map, 1, 1).segments
    crowd = replace(dot, iscrowd=True)
    found = Segmentation(3, 3, (ring, crowd))
    assert refiner(WITHOUT, fill_holes=9).refine(found).segments == (ring, crowd)


def test_each_task_is_refined_by_itself() -> None:
    cell, sky = segment([[1, 0, 0]], 1, 0.4), segment([[0, 1, 1]], 7, 0.9)
    several = answer(
        1,
        3,
        {"semantic": [cell, sky], "instance": [cell, cell], "panoptic": [sky]},
    )
    refined = refiner(WITH_GROUND, "semantic", "instance", "panoptic", min_score=0.5)
    assert [(one.task, one.category_id, one.area) for one in refined.refine(several).segments] == [
        *[("semantic", 7, 2), ("semantic", 2, 1), ("panoptic", 7, 2)],
    ]


def test_failures_pass_through() -> None:
    failed = Segmentation(3, 3, failure=Failure(ErrorCode.MODEL_ERROR, "m"))
    assert refiner(min_area=2).refine(failed) is failed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cel"], "no category 'cel', only cell, blue sky; did you mean 'cell'?"),
        (["ground"], "'ground' is the background, which takes what is left over"),
    ],
)
def test_unknown_categories_are_named(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r"^refine\.categories: ") as caught:
        refiner(categories={name: {} for name in names})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_table_is_not_listed_whole() -> None:
    many = Categories(tuple(Category(n, f"c{n}", True, "#000000") for n in range(1, 151)))
    with pytest.raises(ValueError, match=r"c19, c20, … \(150 in all\); did you mean"):
        refiner(many, categories={"c151": {"min_area": 1}})


def test_a_mask_of_another_picture_is_refused() -> None:
    found = Segmentation(9, 9, (segment(np.ones((2, 3))),))
    with pytest.raises(ValueError, match="malformed RLE for 9x9 pixels"):
        refiner(min_island=2).refine(found)


def test_the_model_gets_the_lowest_limits() -> None:
    model = ModelConfig(name="m", min_score=0.5, min_area=20)
    own = RefineConfig.parse({"categories": {"a": {"min_score": 0.2}, "b": {"min_area": 30}}})
    assert loosest_limits(model, own) == model.model_copy(update={"min_score": 0.2})
    lower = RefineConfig.parse({"categories": {"a": {"min_area": 3, "min_score": 0.9}}})
    assert loosest_limits(model, lower) == model.model_copy(update={"min_area": 3})
    assert loosest_limits(ModelConfig(name="m"), lower) == ModelConfig(name="m")


# All steps at once, against pixels


@dataclass(frozen=True)
class Case:
    found: Segmentation
    task: Task
    categories: Categories
    options: dict[str, Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 16))
    count = draw(st.integers(1, 5))
    categories = draw(st.sampled_from([WITH_GROUND, WITHOUT]))
    task: Task = draw(st.sampled_from(["panoptic", "instance"]))
    coarse = rng.integers(0, count + 1, (-(-height // 2), -(-width // 2)))
    label_map = np.kron(coarse, np.ones((2, 2), int))[:height, :width]
    noise = rng.random(label_map.shape) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    label_map = np.where(noise, rng.integers(0, count + 1, label_map.shape), label_map)
    segments: list[Segment] = []
    for number in range(1, count + 1):
        mask = label_map == number
        if task == "instance":
            mask |= rng.random(mask.shape) < 0.3
        if mask.any():
            score = rng.choice([None, 0.2, 0.5, 0.9])
            segments.append(segment(mask, int(rng.choice([1, 7])), score))
    rest = label_map == 0
    if task == "panoptic" and categories is WITH_GROUND and draw(st.booleans()):
        if draw(st.booleans()):
            rest &= rng.random(rest.shape) < 0.7  # the others stay nobody's
        if rest.any():
            segments.insert(int(rng.integers(len(segments) + 1)), segment(rest, GROUND.id))
    options = {
        "min_score": draw(st.sampled_from([0.0, 0.4])),
        "min_area": draw(st.sampled_from([None, 4])),
        "min_island": draw(st.sampled_from([0, 2, 5])),
        "fill_holes": draw(st.sampled_from([0, 1, 4, 30])),
        "max_segments": draw(st.sampled_from([0, 1])),
        "categories": draw(
            st.sampled_from([{}, {"cell": {"min_area": 9}}, {"blue sky": {"max_segments": 2}}])
        ),
    }
    return Case(Segmentation(height, width, tuple(segments)), task, categories, options)


def in_pixels(case: Case) -> list[tuple[int, Mask]]:
    """The documented steps, one after the other, on whole masks."""
    options, size = case.options, (case.found.height, case.found.width)
    own = {1: options["categories"].get("cell", {}), 7: options["categories"].get("blue sky", {})}
    whole = [codec.decode(one.counts, *size).astype(bool) for one in case.found.segments]
    ids = [one.category_id for one in case.found.segments]
    before = np.any([np.zeros(size, bool), *whole], axis=0)
    free = [n for n, id_ in enumerate(ids) if id_ != GROUND.id]

    def score(n: int) -> float:
        value = case.found.segments[n].score
        return 1.0 if value is None else value

    alive = [n for n in free if score(n) >= options["min_score"]]
    for n in alive:
        numbers, count = ndimage.label(whole[n], np.ones((3, 3)))  # pyright: ignore
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)
        whole[n] &= (sizes >= options["min_island"])[numbers]
    least = {id_: own[id_].get("min_area", options["min_area"] or 1) for id_ in own}
    alive = [n for n in alive if whole[n].sum() >= max(1, least[ids[n]])]
    for id_, limits in own.items():
        most = limits.get("max_segments", options["max_segments"])
        ranked = sorted((n for n in alive if ids[n] == id_), key=lambda n: -score(n))
        alive = [n for n in alive if not most or n not in ranked[most:]]
    holes: list[tuple[int, int, Mask]] = []
    for n in alive:
        numbers, count = ndimage.label(~np.pad(whole[n], 1))  # pyright: ignore
        for number in range(1, count + 1):
            hole = (numbers == number)[1:-1, 1:-1]
            inside = np.zeros(size, bool)
            inside[1:-1, 1:-1] = True
            if numbers[0, 0] != number and hole.sum() <= options["fill_holes"]:
                if (hole & ~inside).any():
                    continue  # the picture's edge encloses nothing
                holes.append((int(hole.sum()), n, hole))
    owned = np.any([np.zeros(size, bool), *(whole[n] for n in alive)], axis=0)
    for _, n, hole in sorted(holes, key=lambda item: item[:2]):
        if case.task == "instance":
            whole[n] |= hole
        else:
            whole[n] |= hole & ~owned
            owned |= hole
    result = [(ids[n], whole[n]) for n in alive]
    if case.task == "panoptic" and case.categories is WITH_GROUND:
        rest = before & ~np.any([np.zeros(size, bool), *(mask for _, mask in result)], axis=0)
        if rest.any():
            result.append((GROUND.id, rest))
    elif GROUND.id in ids:
        result.append((GROUND.id, whole[ids.index(GROUND.id)]))
    return result


@settings(max_examples=400, deadline=None)
@given(cases())
def test_the_steps_are_those_in_pixels(case: Case) -> None:
    refined = refiner(case.categories, case.task, **case.options).refine(case.found)
    size = case.found.height, case.found.width
    found = [
        (one.category_id, codec.decode(one.counts, *size).astype(bool)) for one in refined.segments
    ]
    due = in_pixels(case)
    key = [id_ for id_, _ in found if id_ != GROUND.id]
    assert key == [id_ for id_, _ in due if id_ != GROUND.id]
    for (id_, mask), (_, expected) in zip(
        sorted(found, key=lambda item: item[0] == GROUND.id), due, strict=True
    ):
        assert np.array_equal(mask, expected), id_


@settings(max_examples=200, deadline=None)
@given(cases())
def test_the_laws_hold_afterwards(case: Case) -> None:
    tool = refiner(case.categories, case.task, **case.options)
    refined = tool.refine(case.found)
    total = np.zeros((case.found.height, case.found.width), int)
    for one in refined.segments:
        mask = codec.decode(one.counts, *total.shape)
        (region,) = codec.regions(mask)
        assert (one.counts, one.area, one.bbox_xywh) == (
            *(region.counts, region.area, region.bbox_xywh),
        )
        total += mask
    if case.task == "panoptic":
        assert total.max(initial=0) <= 1
    if not case.options["fill_holes"]:  # filling may join pieces, and so change what is small
        assert tool.refine(refined) == refined
