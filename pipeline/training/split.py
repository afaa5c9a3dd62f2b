"""Which examples are learned from and which are kept to validate on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .labelled import Pair


def split_pairs(
    pairs: Sequence[Pair], *, val: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of pictures to learn from, and of pictures to validate on.

    Where the dataset assigned splits, these hold; what is "test" is used for neither. Else a hash
    of each picture's group decides, so that a picture's side does not depend on the others and
    copies stay with their parent. Copies are never validated on.

    Args:
        pairs: Of all pictures.
        val: Share of the groups to validate on.
        seed: Of the hash.

    Raises:
        ValueError: One side is empty.
    """
    if any(pair.split for pair in pairs):
        sides = [pair.split for pair in pairs]
    else:
        place = {pair.group: _place(pair.group, seed) for pair in pairs}
        lowest = min(place, key=lambda group: place[group]) if place else ""
        chosen = {group for group, at in place.items() if at < val}
        if len(chosen) == len(place):
            chosen.discard(max(place, key=lambda group: place[group], default=""))
        # In a small dataset no picture may fall below the share.
        chosen |= {lowest} if len(place) > 1 else set()
        sides = ["val" if pair.group in chosen else "train" for pair in pairs]
    numbered = list(enumerate(zip(sides, pairs, strict=True)))
    train = tuple(i for i, (side, _) in numbered if side == "train")
    held = tuple(i for i, (side, pair) in numbered if side == "val" and not pair.is_copy)
    if not train or not held:
        raise ValueError(
            f"{len(train)} pictures to learn from and {len(held)} to validate on: both are needed"
        )
    return train, held


def _place(group: str, seed: int) -> float:
    """A number in 0…1 that follows from the group alone."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
