"""What became of the pictures from one version to another; parts that both name are not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.manifest import Part
from schemas.records import Status
from schemas.rows import ImageRow

from .ledger import Ledger
from .views import PARENT, without_copies

LISTED = 20
"""Names of each kind that a diff lists."""
_COLUMNS = ("file_name", "sha256", "fingerprint", "status", "num_segments", PARENT)


@dataclass(frozen=True, slots=True)
class ImagesDiff:
    """Pictures by what became of them; copies are not counted.

    Attributes:
        before: Version number.
        after: Version number.
        counts: `added`, `gone`, `moved` (the same bytes under a new name), `changed` (other bytes
            under the same name), `recomputed` (the same bytes, other labels or another status),
            `unchanged`, `failed_now`, `failed_no_more`.
        names: The first names of each kind.
    """

    before: int
    after: int
    counts: dict[str, int]
    names: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        found = self.counts
        moved = f", {found['moved']} under new names" if found["moved"] else ""
        return (
            f"since version {self.before}: +{found['added']} −{found['gone']} pictures, "
            f"{found['changed'] + found['recomputed']} recomputed, "
            f"{found['unchanged']} unchanged{moved}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "before": self.before,
            "after": self.after,
            "counts": self.counts,
            "names": self.names,
        }


def carried_parts(before: Ledger, after: Ledger) -> frozenset[str]:
    """Names of the parts of `after` all of whose images `before` has in the same part."""
    old = {part.name: part for part in before.manifest.parts}
    return frozenset(
        part.name
        for part in after.manifest.parts
        if part.name in old
        and np.isin(before.removed_of(old[part.name]), after.removed_of(part)).all()
    )


def diff_images(before: Ledger, after: Ledger) -> ImagesDiff:
    """Compares two versions by the names and bytes of their pictures.

    Holds the rows of the parts that only one of them names, or has removed rows in.

    Raises:
        StorageError: A part cannot be read.
        ValueError: A part is damaged.
    """
    shared = carried_parts(before, after)
    same_run = before.manifest.config_fingerprint == after.manifest.config_fingerprint
    gone = {p.name: after.removed_of(p) for p in after.manifest.parts if p.name in shared}
    old = _rows(before, before.manifest.parts, gone)
    new = _rows(after, [p for p in after.manifest.parts if p.name not in shared], {})
    kinds: dict[str, list[str]] = {
        kind: []
        for kind in (
            "added",
            "gone",
            "moved",
            "changed",
            "recomputed",
            "failed_now",
            "failed_no_more",
        )
    }
    unchanged = sum(p.images - p.copies for p in after.manifest.parts if p.name in shared)
    left: Counter[str | None] = Counter(
        row["sha256"] for name, row in old.items() if name not in new and row["sha256"]
    )
    for name, row in new.items():
        was = old.get(name)
        failed = row["status"] == str(Status.FAILED)
        if was is None:
            if left[row["sha256"]] > 0:
                left[row["sha256"]] -= 1
                kinds["moved"].append(name)
            else:
                kinds["added"].append(name)
        elif was["sha256"] != row["sha256"]:
            kinds["changed"].append(name)
        elif _labels(was, same_run=same_run) != _labels(row, same_run=same_run):
            kinds["recomputed"].append(name)
        else:
            unchanged += 1
        failed_before = was is not None and was["status"] == str(Status.FAILED)
        if failed and not failed_before:
            kinds["failed_now"].append(name)
        if failed_before and not failed:
            kinds["failed_no_more"].append(name)
    moved = Counter(new[name]["sha256"] for name in kinds["moved"])
    for name, row in old.items():
        if name in new:
            continue
        if moved[row["sha256"]] > 0:
            moved[row["sha256"]] -= 1
        else:
            kinds["gone"].append(name)
    return ImagesDiff(
        before.manifest.version,
        after.manifest.version,
        {**{kind: len(names) for kind, names in kinds.items()}, "unchanged": unchanged},
        {kind: sorted(names)[:LISTED] for kind, names in kinds.items() if names},
    )


def _labels(row: ImageRow, *, same_run: bool) -> tuple[Any, ...]:
    """What differs where labels were made anew; fingerprints are those of the run's config."""
    return (row["status"], row["num_segments"], row["fingerprint"] if not same_run else "")


def _rows(
    ledger: Ledger, parts: Iterable[Part], only: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, ImageRow]:
    """File name → row; of the parts in `only` the images with these ids alone."""
    found: dict[str, ImageRow] = {}
    for part in parts:
        wanted = only.get(part.name)
        if wanted is not None and len(wanted) == part.removed:
            continue  # what is removed now was removed before
        columns = [
            name for name in _COLUMNS if name != PARENT or ledger.manifest.schema_version > 2
        ]
        table = without_copies(ledger.images_of(part, ["image_id", *columns]))
        if wanted is not None:
            table = table.filter(pa.array(np.isin(table["image_id"].to_numpy(), wanted)))
        found |= {row["file_name"]: row for row in table.to_pylist()}
    return found
