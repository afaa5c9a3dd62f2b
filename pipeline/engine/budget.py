"""The budget of a version: what keeps it from readers, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import OverBudgetError
from pipeline.ledger.parts import read_part
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import shrink_limit
from schemas.manifest import DatasetManifest, Part
from schemas.records import Status

SHOWN = 5
"""Failed images that the last lines name."""


@dataclass(slots=True)
class FailureBudget:
    """Judged while a run works: it stops when the budget cannot be met any more.

    Attributes:
        limit: Failed images allowed.
        failed: So far, those of shards that were done before included.
        containers: Tars, tables and lists that could not be read to their end; they count too.
    """

    limit: int
    failed: int = 0
    containers: int = 0

    def add(self, part: Part) -> None:
        """Counts a part's failed images."""
        self.failed += part.statuses.get(Status.FAILED, 0)

    @property
    def over(self) -> bool:
        """Whether no version can be published any more."""
        return self.failed + self.containers > self.limit


def over_budget(
    storage: Storage, dataset: str, budget: FailureBudget, parts: Iterable[Part], *, left: int
) -> OverBudgetError:
    """The error that says how many failed, and names the first of them.

    Args:
        storage: File access.
        dataset: Absolute URI.
        budget: That is exceeded.
        parts: All that are done, in the order of the input.
        left: Images that were not looked at any more.
    """
    early = f"; {left} images were not looked at any more" if left else ""
    beside = f" and {budget.containers} containers" if budget.containers else ""
    return OverBudgetError(
        f"{budget.failed} images{beside} failed, {budget.limit} allowed (--max-failures): "
        f"nothing is published, finished parts are kept{early}",
        first=tuple(_first(storage, dataset, parts)),
    )


def held_back(dataset: str, broken: Sequence[str]) -> OverBudgetError:
    """The error that names the limits of `[gate]` that a version breaks, and the way past them.

    Args:
        dataset: Absolute URI.
        broken: A phrase a limit.
    """
    return OverBudgetError(
        f"held back by the gate: {'; '.join(broken)}; nothing is published, finished parts are "
        f"kept (python -m jobs.promote --dataset {dataset} publishes them)"
    )


def check_shrink(max_shrink: str, standing: DatasetManifest | None, images: int) -> None:
    """Refuses an input that lost more images since the standing version than is allowed.

    A mount that is missing or a listing that was cut looks like an input that shrank.

    Args:
        max_shrink: Of the config.
        standing: The current version, None for a new dataset.
        images: In the input now.

    Raises:
        OverBudgetError: It lost more.
    """
    if standing is None:
        return
    before = standing.counts["images"] - standing.counts.get("copies", 0)
    limit = shrink_limit(max_shrink, before)
    if limit is not None and before - images > limit:
        raise OverBudgetError(
            f"the input lost {before - images} of {before} images since version "
            f"{standing.version}, {limit} allowed (--max-shrink): nothing is changed"
        )


def _first(storage: Storage, dataset: str, parts: Iterable[Part]) -> Iterable[str]:
    shown = 0
    for part in parts:
        if not part.errors:
            continue
        columns = ["file_name", "error_code", "error_message"]
        try:
            rows = read_part(storage, dataset, "images", part.name, columns).to_pylist()
        except (StorageError, ValueError):
            continue
        for row in rows:
            if row["error_code"]:
                yield f"{row['file_name']}: {row['error_code']}: {row['error_message']}"
                shown += 1
                if shown == SHOWN:
                    return
