"""Image ids of the copies of each picture, reserved before anything is read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.records import MAX_IMAGE_ID

_NUMBER_BITS = 10
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio


def assign_copy_ids(image_ids: npt.NDArray[np.int64], copies: int) -> npt.NDArray[np.int64]:
    """Ids in 1…2**31−1 that no picture has, one for each copy of each picture.

    An id is a hash of the picture's id and the copy's number. Where it is taken, the hash is taken
    again: copies with the lower picture id and number first. So the same set of pictures gives the
    same ids in any order, and copies never move the id of a picture.

    Args:
        image_ids: N different ids.
        copies: Of each picture, at most 1,000.

    Returns:
        N x copies.

    Raises:
        ValueError: There would be more ids than half of those that exist.
    """
    count = len(image_ids) * copies
    if len(image_ids) + count > MAX_IMAGE_ID // 2:
        raise ValueError(
            f"augment.copies: {len(image_ids)} pictures with {copies} copies each are more than "
            f"the {MAX_IMAGE_ID // 2} images that a dataset with copies may hold"
        )
    order = np.argsort(image_ids, kind="stable")
    numbers = np.arange(copies, dtype=np.uint64)
    keys = (image_ids[order].astype(np.uint64)[:, None] << np.uint64(_NUMBER_BITS)) | numbers
    keys = keys.reshape(-1)
    ids = np.zeros(count, np.int64)
    taken = image_ids[order]
    waiting = np.arange(count)
    turn = 0
    while len(waiting):
        tried = _mixed(keys[waiting] + np.full(1, turn, np.uint64) * _STEP)
        first = np.zeros(len(waiting), np.bool_)
        first[np.unique(tried, return_index=True)[1]] = True  # of the lowest key
        good = first & ~np.isin(tried, taken)
        ids[waiting[good]] = tried[good]
        taken = np.concatenate([taken, tried[good]])
        waiting = waiting[~good]
        turn += 1
    out = np.empty((len(image_ids), copies), np.int64)
    out[order] = ids.reshape(len(image_ids), copies)
    return out


def _mixed(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """splitmix64, folded into 1…2**31−1."""
    keys = keys + _STEP
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys = keys ^ (keys >> np.uint64(31))
    return (keys % np.uint64(MAX_IMAGE_ID)).astype(np.int64) + 1
