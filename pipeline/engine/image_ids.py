"""Ids of images and of their copies: they follow from the names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.readers.listing import strings
from schemas.records import MAX_IMAGE_ID


def assign_image_ids(file_names: Iterable[str] | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Ids in 1…2**31−1 that follow from the file names alone.

    An id is a hash of the name. Names that meet on one id are put in the order of (hash, name) and
    moved up to the next free id, so the same set of names gives the same ids in any order.

    Raises:
        ValueError: A name occurs twice, or there are more names than ids.
    """
    names: Any = (
        file_names
        if isinstance(file_names, pa.ChunkedArray)
        else pa.chunked_array([strings(list(file_names))], type=pa.string())
    )
    if len(names) > MAX_IMAGE_ID:
        raise ValueError(f"{len(names)} images; a dataset holds at most {MAX_IMAGE_ID}")
    hashes = _hashes(names)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    del hashes
    clash = np.flatnonzero(ordered[1:] == ordered[:-1])
    for first in sorted(set(clash.tolist())):
        if first and ordered[first - 1] == ordered[first]:
            continue
        last = int(np.searchsorted(ordered, ordered[first], side="right"))
        group = sorted(order[first:last].tolist(), key=lambda i: names[i].as_py())
        for one, two in pairwise(group):
            if names[one] == names[two]:
                raise ValueError(f"two input images have the name {names[one].as_py()!r}")
        order[first:last] = group
    steps = np.arange(len(names), dtype=np.int64)
    ordered -= steps
    probed = np.maximum.accumulate(ordered, out=ordered)
    probed += steps
    del steps
    over = int(np.searchsorted(probed, MAX_IMAGE_ID))
    if over < len(probed):
        # Pushed past the top: these few take the lowest ids that nobody has.
        taken = set(probed[:over].tolist())
        free = (i for i in range(MAX_IMAGE_ID) if i not in taken)
        probed[over:] = [next(free) for _ in range(len(probed) - over)]
    ids = np.empty(len(names), np.int64)
    ids[order] = probed + 1
    return ids


def _hashes(names: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A 63-bit-safe hash of each name: blake2b of 8 bytes, big endian, modulo 2**31 − 1."""
    found = [np.zeros(0, np.int64)]
    for chunk in names.chunks:
        listed = chunk.to_pylist()
        digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in listed]
        hashes = np.frombuffer(b"".join(digests), ">u8") % np.uint64(MAX_IMAGE_ID)
        found.append(hashes.astype(np.int64))
    return np.concatenate(found)


# Image ids of the copies of each picture, reserved before anything is read.

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
    if not copies:
        return np.empty((len(image_ids), 0), np.int64)
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
