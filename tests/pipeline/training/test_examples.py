"""Examples: real pictures and maps, pixel by pixel; and what is said of bad ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_scenes import UNLABELLED, scene, write_scenes

from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.training.categories import chosen_table, joined_table
from pipeline.training.data import LabelLocation, LabelSource
from pipeline.training.examples import IGNORE, ExamplesPlan
from schemas.categories import Categories


def plan_of(place: LabelLocation, categories: Categories | None = None) -> ExamplesPlan:
    labelled = LabelSource(place, Storage())
    return ExamplesPlan(
        places=(place,),
        numbers=tuple((0, i) for i in range(len(labelled.pairs))),
        names=tuple(pair.record.file_name for pair in labelled.pairs),
        rests=("ignore",),
        categories=categories or joined_table([("", labelled.source.categories or {})]),
    )


def test_pictures_and_maps_come_as_they_are(tmp_path: Path):
    plan = plan_of(write_scenes(tmp_path, 3))
    examples = plan.open()
    assert len(examples) == 3
    for number in range(3):
        pixels, label_map = examples[number]
        expected, values = scene(number)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(label_map, np.where(values == UNLABELLED, -1, values - 1.0))
    maps = list(examples.some_maps(2))
    np.testing.assert_array_equal(maps[1], examples[1][1])


def test_real_maps_survive_the_way_through_segments(shared_data: Path):
    folder = shared_data / "camvid" / "val"
    place = LabelLocation(
        str(folder / "labels"), str(folder / "images"), void=(11,), pixel_offset=1
    )
    plan = plan_of(place, chosen_table("camvid-11"))
    for number, (_, label_map) in enumerate(plan.open()):
        if number == 3:
            break
        path = folder / "labels" / plan.names[number]
        values = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.int16)
        np.testing.assert_array_equal(label_map, np.where(values == 11, IGNORE, values))


def test_what_fits_is_kept(tmp_path: Path):
    place = write_scenes(tmp_path, 2)
    one = 64 * 80 * 5
    examples = replace(plan_of(place), cache_bytes=one).open()
    kept, other = examples[0], examples[1]
    for path in Path(place.pictures).iterdir():
        path.write_bytes(b"")
    assert examples[0] is kept
    assert other[0].shape == (64, 80, 3)
    with pytest.raises(StorageError, match=r"0 of \d+ bytes came: .*1\.png"):
        examples[1]


def test_sizes_must_agree_and_categories_be_known(tmp_path: Path):
    place = write_scenes(tmp_path, 1)
    plan = plan_of(place)
    short = Categories(plan.categories.items[:2])
    with pytest.raises(ValueError, match=r"labels of 0\.png: category 40 is not in the table"):
        replace(plan, categories=short).open()[0]
    cv2.imwrite(str(tmp_path / "labels" / "0.png"), np.ones((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"0\.png has 80x64 pixels, its labels 6x5"):
        plan.open()[0]


def test_a_folder_that_changed_is_noticed(tmp_path: Path):
    place = write_scenes(tmp_path, 2)
    plan = plan_of(place)
    (tmp_path / "images" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png has gone or moved"):
        plan.open()
