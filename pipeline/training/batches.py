"""Batches of crops: batch number i is a pure function of the seed and i."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.augment.chain import AugmentChain
from schemas.config.augment import AugmentConfig

from .examples import IGNORE, Examples, ExamplesPlan, IndexMap

Pixels = npt.NDArray[np.uint8]


class Batches:
    """An endless, reproducible stream for torch's DataLoader.

    Processes need no shared state, and a run that was killed goes on with the batch that would
    have come next. Every crop has a number of its own, so that n workers see together what one
    would see.

    Args:
        plan: What to draw from; opened by each process that draws.
        crop: Side of a crop, pixels.
        batch_size: Crops a batch, of all workers.
        batches: Length of the stream.
        augment: Steps that change crops.
        augmented: Share of the crops that they change.
        shares: Of the crops, one a place; empty = by pictures.
        seed: Of everything.
        rank: Of this worker, from 0.
        workers: How many share a batch.
    """

    def __init__(
        self,
        plan: ExamplesPlan,
        *,
        crop: int,
        batch_size: int,
        batches: int,
        augment: AugmentConfig,
        augmented: float,
        shares: Sequence[float] = (),
        seed: int = 0,
        rank: int = 0,
        workers: int = 1,
    ) -> None:
        self._plan, self._crop, self._batches, self._seed = plan, crop, batches, seed
        self._batch_size, self._rank, self._workers = batch_size, rank, workers
        self._augment, self._augmented, self._shares = augment, augmented, tuple(shares)
        self._turn: tuple[int, npt.NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> dict[str, npt.NDArray]:
        """This worker's part: image Bx3xSxS uint8, label BxSxS int16 with `IGNORE`."""
        own = self._batch_size // self._workers
        first = index * self._batch_size + self._rank * own
        crops = [self._draw(number) for number in range(first, first + own)]
        return {
            "image": np.stack([crop[0] for crop in crops]).transpose(0, 3, 1, 2),
            "label": np.stack([crop[1] for crop in crops]),
        }

    @cached_property
    def _examples(self) -> Examples:
        cv2.setNumThreads(1)
        return self._plan.open()

    @cached_property
    def _chain(self) -> AugmentChain:
        return AugmentChain(self._augment)

    @cached_property
    def _by_place(self) -> list[list[int]]:
        """Numbers of the examples of each place."""
        lists: list[list[int]] = [[] for _ in self._plan.places]
        for number, (place, _) in enumerate(self._plan.numbers):
            lists[place].append(number)
        return lists

    def _draw(self, number: int) -> tuple[Pixels, IndexMap]:
        rng = np.random.default_rng((self._seed, 0, number))
        pixels, label_map = self._examples[self._which(number, rng)]
        if rng.random() < self._augmented:
            drawn = self._chain.draw(rng, label_map.shape)
            pixels, label_map = drawn.picture(pixels), drawn.labels(label_map, IGNORE)
        return cut(pixels, label_map, self._crop, rng)

    def _which(self, number: int, rng: np.random.Generator) -> int:
        """Each picture once a round, the rounds in different orders; or a place by its share."""
        if self._shares:
            odds = np.array(self._shares) / sum(self._shares)
            own = self._by_place[int(rng.choice(len(odds), p=odds))]
            return own[int(rng.integers(len(own)))]
        turn, at = divmod(number, len(self._plan.numbers))
        return int(self._order(turn)[at])

    def _order(self, turn: int) -> npt.NDArray[np.int64]:
        """The order of a round; the last one is kept."""
        if turn != self._turn[0]:
            rng = np.random.default_rng((self._seed, 1, turn))
            self._turn = turn, rng.permutation(len(self._plan.numbers))
        return self._turn[1]


def cut(
    pixels: Pixels, label_map: IndexMap, size: int, rng: np.random.Generator
) -> tuple[Pixels, IndexMap]:
    """A square from a random place; a picture that is too small is continued by its mirror image,
    whose pixels are ignored.

    Args:
        pixels: HxWx3.
        label_map: HxW.
        size: Side of the square.
        rng: Source of all randomness.
    """
    short = [max(size - side, 0) for side in label_map.shape]
    if any(short):
        top, left = (int(rng.integers(space + 1)) for space in short)
        sides = (top, short[0] - top, left, short[1] - left)
        pixels = np.asarray(cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_REFLECT), np.uint8)
        label_map = np.pad(
            label_map, ((sides[0], sides[1]), (sides[2], sides[3])), constant_values=IGNORE
        )
    y, x = (int(rng.integers(side - size + 1)) for side in label_map.shape)
    return pixels[y : y + size, x : x + size], label_map[y : y + size, x : x + size]
