"""What a new version must be like before readers see it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .section import Section

Least = Annotated[float | None, Field(ge=0, le=1)]
Most = Annotated[float | None, Field(ge=0)]


class GateConfig(Section):
    """Limits that a version is held to before it is published; unset ones hold nothing.

    `min_…` are figures of `jobs.evaluate` on a gold set, `max_…` compare with the standing version.
    """

    ground_truth: Annotated[
        str,
        Field(
            description="gold set: COCO JSON, folder of maps or dataset, as in jobs.evaluate; "
            "needed by min_ap, min_pq, min_miou, min_matching"
        ),
    ] = ""
    ground_truth_kind: Annotated[
        str, Field(description="as in jobs.evaluate --ground-truth-kind")
    ] = "auto"
    category_map: Annotated[
        str, Field(description="JSON file: name in the labels → name in the gold set")
    ] = ""
    min_ap: Annotated[Least, Field(description="COCO AP of at most 100 predictions")] = None
    min_pq: Annotated[Least, Field(description="panoptic quality, all categories")] = None
    min_miou: Annotated[Least, Field(description="mean IoU of categories on either side")] = None
    min_matching: Annotated[
        Least, Field(description="matching accuracy, mean over IoU 0.50…0.95")
    ] = None
    max_count_change: Annotated[
        Most, Field(description="of segments a picture looked at, a share of the standing mean")
    ] = None
    max_area_change: Annotated[
        Most, Field(description="of the segments' mean area, a share of the standing mean")
    ] = None
    max_score_change: Annotated[
        Most, Field(description="of the segments' mean score, a share of the standing mean")
    ] = None
    max_share_change: Annotated[
        Most, Field(le=1, description="of any category's share of the segments, points of 0…1")
    ] = None
    max_area_psi: Annotated[
        Most, Field(description="population stability index of areas; 0.25 is a shift")
    ] = None
    max_score_psi: Annotated[
        Most, Field(description="population stability index of scores; 0.25 is a shift")
    ] = None

    @model_validator(mode="after")
    def _gold_set_and_its_limits(self) -> Self:
        wanted = [f"min_{name}" for name in self.least()]
        if wanted and not self.ground_truth:
            raise ValueError(f"{', '.join(wanted)} without ground_truth: nothing to measure on")
        if self.ground_truth and not wanted:
            raise ValueError(
                "ground_truth without a limit: name min_ap, min_pq, min_miou or min_matching"
            )
        return self

    def least(self) -> dict[str, float]:
        """Metric of `jobs.evaluate` → what its figure must reach."""
        given = {
            "ap": self.min_ap,
            "pq": self.min_pq,
            "miou": self.min_miou,
            "matching": self.min_matching,
        }
        return {name: limit for name, limit in given.items() if limit is not None}

    def most(self) -> dict[str, float]:
        """Key of a limit on drift → its value."""
        keys = [name for name in type(self).model_fields if name.startswith("max_")]
        return {name: limit for name in keys if (limit := getattr(self, name)) is not None}

    @property
    def active(self) -> bool:
        """Whether anything is held to a limit."""
        return bool(self.least() or self.most())
