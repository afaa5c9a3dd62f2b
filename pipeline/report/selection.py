"""Which images the report shows, decided while the dataset streams by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipeline.copy_rows import parents_of


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """An image that failed or was skipped.

    Attributes:
        image_id: ≥ 1.
        file_name: Path under the input root.
        status: "failed" or "skipped".
        code: Stable word.
        message: One line.
    """

    image_id: int
    file_name: str
    status: str
    code: str
    message: str


class Selection:
    """Every so-many-th labelled image, and the unlabelled ones up to a limit shared fairly by code.

    The choice depends on the order of the input alone.

    Args:
        labelled: Images with a segmentation (ok or empty) that will come.
        max_images: How many of them to choose.
        error_counts: code → images that will come with it.
        max_unlabelled: How many of those to keep.
    """

    def __init__(
        self,
        *,
        labelled: int,
        max_images: int,
        error_counts: Mapping[str, int],
        max_unlabelled: int = 1000,
    ) -> None:
        self._labelled = labelled
        self._wanted = min(max_images, labelled)
        self._seen = 0
        self._left = Counter(_shares(error_counts, max_unlabelled))
        self.chosen: dict[str, int] = {}  # file name → image id, in input order
        self.originals: set[str] = set()  # those of them that lie in the input
        self.unlabelled: list[Unlabelled] = []

    def add(self, images: pa.Table) -> None:
        """Looks at one part's image rows."""
        columns = ("image_id", "file_name", "status", "error_code", "error_message")
        known = (images[column].to_pylist() for column in columns)
        for image_id, name, status, code, message, parent in zip(
            *known, parents_of(images).to_pylist(), strict=True
        ):
            if status in ("ok", "empty"):
                self._seen += 1
                # As in Bresenham's line: even steps, exact in integers.
                if self._seen * self._wanted // self._labelled > (
                    (self._seen - 1) * self._wanted // self._labelled
                ):
                    self.chosen[name] = image_id
                    if parent is None:
                        self.originals.add(name)
            elif self._left[code] > 0:
                self._left[code] -= 1
                self.unlabelled.append(Unlabelled(image_id, name, status, code, message or ""))


def _shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Splits `limit` so that no code goes without because another one is frequent."""
    shares: dict[str, int] = {}
    for place, (code, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        shares[code] = min(count, (limit - sum(shares.values())) // (len(counts) - place))
    return shares
