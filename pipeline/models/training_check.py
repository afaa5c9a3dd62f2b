"""Validation: whole pictures through the net and the decoder, matched with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from .training_data import Picture
from .training_score import NO_MATCHES, Matches, match
from .unet_decode import Decoding, decode_nuclei
from .unet_maps import predict_maps
from .unet_net import UNet

Floats = npt.NDArray[np.float32]


def picture_maps(net: UNet, pictures: Sequence[Picture], device: str) -> list[Floats]:
    """3xHxW float32 maps of each picture: interior, touch, distance, all in 0…1."""
    fused = net.fused(device)
    return [predict_maps(fused, picture.levels[0], device) for picture in pictures]


def score_maps(
    maps: Sequence[Floats], pictures: Sequence[Picture], decoding: Decoding
) -> dict[str, Matches]:
    """Pooled matches: kind → counts, and "all"."""

    def one(index: int) -> Matches:
        found, _ = decode_nuclei(maps[index], decoding)
        return match(found, pictures[index].label_map)

    pooled: dict[str, Matches] = {"all": NO_MATCHES}
    with ThreadPoolExecutor() as pool:
        results = pool.map(one, range(len(pictures)))
        for picture, matches in zip(pictures, results, strict=True):
            pooled["all"] += matches
            pooled[picture.kind] = pooled.get(picture.kind, NO_MATCHES) + matches
    return pooled
