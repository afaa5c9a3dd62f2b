"""How often categories occur, and what each weighs in the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from schemas.categories import Categories
from schemas.semantic_train_config import Balance
from schemas.suggest import nearest

from .paint import IndexMap

MOST = 1000
"""Pictures looked at; of more, so many spread evenly."""


def count_pixels(
    maps: Iterable[IndexMap], categories: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels of each category, and learnable pixels of all pictures in which it occurs.

    Args:
        maps: HxW indices, negative = ignored.
        categories: How many there are.
    """
    pixels = np.zeros(categories, np.int64)
    around = np.zeros(categories, np.int64)
    for label_map in maps:
        counts = np.bincount(label_map[label_map >= 0].ravel(), minlength=categories)
        pixels += counts
        around += np.where(counts > 0, counts.sum(), 0)
    return pixels, around


def weights_of(
    balance: Balance | Mapping[str, float],
    categories: Categories,
    pixels: npt.NDArray[np.int64],
    around: npt.NDArray[np.int64],
    *,
    most: float,
) -> tuple[float, ...]:
    """Weight of each category in the loss.

    "inverse-frequency": 1 / (n f), f the share of pixels, n the categories that occur: the mean
    over pixels is 1. "median-frequency": median(f) / f, f the share in pictures that show the
    category (Eigen and Fergus, ICCV 2015). A category that does not occur weighs 1. Weights of
    frequencies are held to 1 / `most`…`most`.

    Args:
        balance: Which rule; or name → weight, 1 for names that are not there.
        categories: In the order of the indices.
        pixels: Of `count_pixels`.
        around: Of `count_pixels`.
        most: See above.

    Raises:
        ValueError: A name that is no category's.
    """
    names = [item.name for item in categories]
    if not isinstance(balance, str):
        for name in balance:
            if name not in names:
                raise ValueError(
                    f"category_weights: no category is called {name!r}{nearest(name, names)}; "
                    f"known: {', '.join(names)}"
                )
        return tuple(float(balance.get(name, 1.0)) for name in names)
    occurs = pixels > 0
    weights = np.ones(len(names))
    if balance != "none" and occurs.any():
        if balance == "median-frequency":
            share = pixels[occurs] / around[occurs]
            found = np.median(share) / share
        else:
            found = pixels.sum() / (occurs.sum() * pixels[occurs])
        weights[occurs] = np.clip(found, 1 / most, most)
    return tuple(round(float(weight), 6) for weight in weights)
