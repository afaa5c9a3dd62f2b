"""Objects painted to be compared with labelled pixels, against painting pixel by pixel."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import box, compared_in, of_masks, pixels_of

from pipeline.evaluation.metrics.panoptic_quality import PanopticQuality
from pipeline.evaluation.metrics.semantic import SemanticIou
from pipeline.evaluation.metrics.stack import stack
from pipeline.evaluation.metrics.views import (
    UNKNOWN,
    objects_view,
    pixels_view,
    regions_view,
    unknown_named,
)
from pipeline.evaluation.sources.categories import ScoredCategory, match_categories
from pipeline.evaluation.sources.source import make_segments, segments_of_map

SHAPE = (8, 11)
TRUE = {1: "person", 2: "airplane", 3: "pizza"}
FOUND = {9: "background", 1: "aeroplane", 2: "sky", 15: "person"}
TO_TRUE = {15: 1, 1: 2}


@dataclass
class Side:
    """A source as far as views look at it."""

    task: str
    names: dict[int, str] | None
    kind: str = "dataset"

    @property
    def categories(self):
        if self.names is None:
            return None
        return {
            id_: ScoredCategory(id_, name, name not in ("background", "sky"), name == "background")
            for id_, name in self.names.items()
        }


def view_of(truth, predicted, unknown=None, make=pixels_view, **more):
    match = match_categories(truth.categories, predicted.categories, **more)
    return make(match, truth, predicted, unknown)


def random_objects(rng, categories, crowds=0.2):
    """Masks that may overlap, their categories, and whether they are crowds."""
    count = rng.integers(0, 6)
    masks = [rng.random(SHAPE) < rng.choice([0.1, 0.5, 0.9]) for _ in range(count)]
    masks = [mask for mask in masks if mask.any()]
    ids = rng.choice(list(categories), len(masks)).tolist()
    return masks, ids, (rng.random(len(masks)) < crowds).tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, *UNKNOWN]))
def test_true_objects_against_predicted_pixels(seed, unknown):
    rng = np.random.default_rng(seed)
    masks, ids, crowds = random_objects(rng, TRUE)
    found = rng.choice([0, *FOUND], SHAPE)  # 0: no prediction
    truth, predicted = Side("instance", TRUE), Side("semantic", FOUND)
    view = view_of(truth, predicted, unknown)
    (rest,) = (id_ for id_, item in view.table.items() if item.is_background)

    expected = np.full(SHAPE, rest)
    order = sorted(range(len(masks)), key=lambda i: (not crowds[i], -masks[i].sum(), i))
    for i in order:  # crowds at the bottom, the larger first
        category = -1 if crowds[i] else ids[i]
        if ids[i] == 3 and not crowds[i]:
            category = {None: rest, "background": rest, "void": -1, "missed": 3}[unknown]
        expected[masks[i]] = category
    answer = np.where(found == 0, rest, found)
    for here in FOUND:
        answer[found == here] = TO_TRUE.get(here, rest)

    side = of_masks(masks, ids, iscrowd=crowds) if masks else make_segments(*SHAPE)
    image = compared_in(view, side, segments_of_map(found, {i: i for i in FOUND}))
    (true_pixels,) = pixels_of(image.truth, [SHAPE])
    assert np.array_equal(true_pixels, np.where(expected == -1, 0, expected))
    (pixels,) = pixels_of(image.predicted, [SHAPE])
    assert np.array_equal(pixels, answer)

    metric = SemanticIou(view.table)
    metric.add(image)
    figures, labelled = metric.figures(), expected != -1
    if labelled.any():
        right = (expected == answer)[labelled]
        assert figures.overall["pixel_accuracy"] == right.mean()
        assert figures.overall["pixels"] == labelled.sum()


@given(st.integers(0, 2**32 - 1))
def test_predicted_objects_against_true_pixels(seed):
    rng = np.random.default_rng(seed)
    masks, ids, _ = random_objects(rng, (15, 1))
    scores = (rng.integers(0, 4, len(masks)) / 4).tolist()
    names = {7: "void", 5: "person", 8: "airplane", 2: "road"}
    labels = rng.choice([0, 5, 8, 2], SHAPE)
    truth, predicted = Side("semantic", names), Side("instance", {15: "person", 1: "aeroplane"})
    view = view_of(truth, predicted)
    (rest,) = (id_ for id_, item in view.table.items() if item.is_background)
    expected = np.full(SHAPE, rest)
    for i in sorted(range(len(masks)), key=lambda i: (scores[i], -masks[i].sum(), i)):
        expected[masks[i]] = {15: 5, 1: 8}[ids[i]]
    side = of_masks(masks, ids, scores=scores) if masks else make_segments(*SHAPE)
    image = compared_in(view, segments_of_map(labels, {5: 5, 8: 8, 2: 2}), side)
    (pixels,) = pixels_of(image.predicted, [SHAPE])
    assert np.array_equal(pixels, expected)
    (true_pixels,) = pixels_of(image.truth, [SHAPE])
    assert np.array_equal(true_pixels, np.where(labels == 2, rest, labels))  # 0 stays unlabelled


def test_who_did_not_look_has_not_found_background():
    view = view_of(Side("instance", TRUE), Side("semantic", FOUND))
    nobody = make_segments(20, 20, answered=False)
    image = compared_in(view, of_masks([box(0, 0, 5, 5)], [1]), nobody)
    assert len(image.predicted) == 0
    assert len(compared_in(view, of_masks([box(0, 0, 5, 5)]), make_segments(20, 20)).predicted) == 1


@pytest.mark.parametrize(
    ("unknown", "categories", "pixels"),
    [(None, {1, 2, 3}, 75), ("missed", {1, 2, 3}, 75), ("background", {0, 1, 2}, 75),
     ("void", {1, 2}, 50)],
)  # fmt: skip
def test_unknown_categories_of_a_picture_that_is_wholly_labelled(unknown, categories, pixels):
    names = {1: "person", 2: "airplane", 3: "sky"}
    view = view_of(Side("panoptic", names), Side("semantic", FOUND | {2: "grass"}), unknown)
    assert set(view.table) == categories
    truth = of_masks([box(0, 0, 5, 5), box(5, 0, 5, 5), box(0, 5, 5, 5)], [1, 2, 3])
    image = compared_in(view, truth, of_masks([box(0, 0, 20, 20)], [9]))
    assert image.truth_areas.sum() == pixels
    assert (len(image.predicted) == 1) == (unknown == "background")


def test_unknown_categories_cannot_be_a_background_that_is_not_there():
    sides = Side("semantic", {1: "road", 2: "sky"}), Side("semantic", {1: "road", 3: "grass"})
    with pytest.raises(ValueError, match="no category is the background"):
        view_of(*sides, "background")
    with pytest.raises(ValueError, match="unknown_categories is 'miss'; did you mean 'missed'"):
        unknown_named("miss")


def test_maps_of_numbers_are_background_where_the_objects_do_not_speak_of_them():
    view = view_of(Side("semantic", None, "semantic"), Side("instance", {5: "cat"}))
    truth = of_masks([box(0, 0, 5, 5), box(5, 0, 5, 5)], [5, 77])
    image = compared_in(view, truth, of_masks([box(0, 0, 5, 5)], [5]))
    assert image.truth.category_ids.tolist() == [5, 0]
    assert image.predicted.category_ids.tolist() == [5, 0]


def test_results_do_not_tell_what_could_have_been_found():
    truth, results = (
        Side("semantic", {1: "cat", 2: "dog"}),
        Side("instance", {1: "1"}, "coco-results"),
    )
    missed = view_of(truth, results)
    assert set(missed.table) == {0, 1, 2}
    assert set(view_of(truth, results, "void").table) == {0, 1}


def test_objects_of_unknown_categories_leave_the_average_where_asked_to():
    truth, predicted = Side("instance", TRUE), Side("instance", {15: "person", 1: "aeroplane"})
    assert set(view_of(truth, predicted, make=objects_view).table) == {1, 2, 3}
    for unknown in ("background", "void"):
        assert set(view_of(truth, predicted, unknown, objects_view).table) == {1, 2}


def test_regions_are_parted_and_of_one_kind():
    names = {1: "person", 2: "car", 3: "sky"}
    for one, other, kept in (
        ("panoptic", "panoptic", {1, 2, 3}),
        ("instance", "panoptic", {1, 2}),
        ("panoptic", "semantic", {3}),
        ("semantic", "semantic", {1, 2, 3}),
    ):
        view = view_of(Side(one, names), Side(other, names), make=regions_view)
        assert set(view.table) == kept
        assert view.unlabelled == (one != "instance")
    view = view_of(Side("instance", names), Side("instance", names), make=regions_view)
    found = of_masks([box(0, 0, 10, 10), box(0, 0, 10, 6)], [1, 1], scores=[0.9, 0.5])
    image = compared_in(view, of_masks([box(0, 0, 10, 10), box(0, 12, 4, 4)], [1, 1]), found)
    assert image.predicted_areas.tolist() == [100]  # the second lies wholly under the first
    metric = PanopticQuality(view.table, unlabelled=view.unlabelled)
    metric.add(image)
    assert metric.figures().per_category[1] == {
        **{"pq": 1 / 1.5, "sq": 1, "rq": 1 / 1.5},
        **{"tp": 1, "fp": 0, "fn": 1},
    }


def test_what_no_true_object_covers_is_empty_not_unlabelled():
    names = {1: "person"}
    truth, found = of_masks([box(0, 0, 10, 10)]), of_masks([box(0, 0, 15, 10), box(0, 15, 5, 5)])
    for task, expected in (("instance", (1, 1, 100 / 150)), ("panoptic", (1, 0, 1))):
        view = view_of(Side(task, names), Side("panoptic", names), make=regions_view)
        metric = PanopticQuality(view.table, unlabelled=view.unlabelled)
        metric.add(compared_in(view, truth, found))
        row = metric.figures().per_category[1]
        assert (row["tp"], row["fp"], row["sq"]) == expected


def test_several_images_keep_apart():
    view = view_of(Side("instance", TRUE), Side("semantic", FOUND))
    sides = [of_masks([box(k, 0, 5, 5)], [1]) for k in range(3)]
    whole = view.truth(stack(sides, ["a", "b", "c"]))
    for number, (start, end) in enumerate(pairwise(whole.offset.tolist())):
        runs = (whole.starts >= start) & (whole.ends <= end)
        assert set(whole.image[whole.owner[runs]]) == {number}
    assert whole.areas().sum() == 3 * 400
