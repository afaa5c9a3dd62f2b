import pickle
from functools import partial

import cv2
import numpy as np
import pytest
from tiny_nuclei import write_tiny_nuclei

from pipeline.training.nuclei.data import (
    NEGATIVE,
    CropBatches,
    read_negatives,
    read_pictures,
    read_training,
)


def batches(folder, *, negatives=None, seed=3, restain=0.3, shares=None):
    return CropBatches(
        partial(read_training, [folder], negatives),
        shares=shares or {"fluorescence": 0.8, NEGATIVE: 0.2},
        restain=restain,
        size=64,
        batch_size=6,
        batches=100,
        seed=seed,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_nuclei(tmp_path_factory.mktemp("data") / "nuclei")


def test_a_batch_depends_on_seed_and_number_alone(folder):
    first = batches(folder)
    first[4]
    again = pickle.loads(pickle.dumps(batches(folder)))
    for key, value in first[7].items():
        np.testing.assert_array_equal(value, again[7][key])
    assert not np.array_equal(first[7]["image"], first[8]["image"])
    assert not np.array_equal(first[7]["image"], batches(folder, seed=4)[7]["image"])


def test_shapes_and_ranges(folder):
    batch = batches(folder)[0]
    assert batch["image"].shape == (6, 3, 64, 64)
    assert batch["image"].dtype == np.uint8
    assert batch["planes"].shape == (6, 4, 64, 64)
    low, high = batch["range"].T
    assert (high > low).all()
    for planes in batch["planes"]:
        assert (planes[2][planes[0] == 0] == 0).all()


def test_negatives_hold_no_nuclei(folder, tmp_path):
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((90, 120, 3), 200, np.uint8))
    assert [picture.kind for picture in read_negatives(tmp_path)] == [NEGATIVE]
    only = batches(folder, negatives=tmp_path, shares={NEGATIVE: 2.0})
    assert not only[0]["planes"][:, :3].any()


def test_some_crops_are_restained(folder):
    plain, painted = (batches(folder, restain=share)[1]["image"] for share in (0.0, 1.0))
    assert not np.array_equal(plain, painted)


def test_bad_folders_are_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"no index\.json"):
        read_pictures(tmp_path, "train")
    with pytest.raises(ValueError, match="split 'holdout'"):
        read_pictures(folder, "holdout")
    with pytest.raises(ValueError, match="of a kind with a share"):
        batches(folder, shares={"stained_colour": 1.0})[0]
