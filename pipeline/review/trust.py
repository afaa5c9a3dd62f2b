"""Trust in segments and pictures: how far what is known of a segment speaks for it.

The trust of a segment is the geometric mean of the evidence that there is,

    trust = (e₁ · e₂ · … · eₙ)^(1/n),

each 0…1: the model's `score`; `tta_agreement`, the agreement of flipped and scaled views;
`stability_score` and `predicted_iou` of SAM; and, where other datasets of the same pictures are
given, for each the IoU of the segment with the one segment there of the same category that overlaps
it most (0 where none does): what another model, or the same one behind another preprocessing, makes
of it. A segment without any evidence has none.

The trust of a picture is the mean of the lower fifth of its segments' (at least one): a picture
with a few bad segments among many good ones is worth the time as one is with few in all. Stuff and
background count as much as things. A picture without a segment has no trust; such are chosen by
chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.metrics.overlay import ComparedImage, overlay
from pipeline.evaluation.metrics.stack import stack
from pipeline.evaluation.sources.source import Segments

Floats = npt.NDArray[np.float64]

EVIDENCE = ("score", "tta_agreement", "stability_score", "predicted_iou")
"""Columns of the annotations that speak for a segment."""

LOWER = 0.2
"""Share of a picture's segments that its trust is the mean of."""


def segment_trust(annotations: pa.Table, agreement: Sequence[Floats] = ()) -> Floats:
    """The trust of segments.

    Args:
        annotations: n rows with the columns `EVIDENCE`, of which some may be missing.
        agreement: For each further dataset n values 0…1, NaN where it does not know the picture.

    Returns:
        n values 0…1, NaN where nothing is known.
    """
    known = [
        annotations[name].to_numpy().astype(np.float64)
        for name in EVIDENCE
        if name in annotations.column_names
    ]
    columns = np.array([*known, *agreement]).reshape(-1, len(annotations))
    there = ~np.isnan(columns)
    logs = np.log(np.clip(np.where(there, columns, 1), 1e-6, 1))
    number = there.sum(0)
    means = np.exp(logs.sum(0) / np.maximum(number, 1))
    return np.where(number > 0, means, np.nan)


def picture_trust(trust: Floats) -> float | None:
    """The trust of a picture, from that of its segments; None where nothing is known."""
    known = np.sort(trust[~np.isnan(trust)])
    if not len(known):
        return None
    return float(known[: max(int(np.ceil(LOWER * len(known))), 1)].mean())


def agreement_with(
    own: Segments, other: Segments, categories: Mapping[int, int], name: str
) -> Floats:
    """IoU of each segment with the one of the other dataset that overlaps it most.

    Args:
        own: n segments.
        other: Those of the same picture in the other dataset.
        categories: Category id there → here; others are no partners.
        name: Of the picture, for messages.

    Returns:
        n values 0…1; NaN where the other does not know the picture, or has another size of it.
    """
    if not other.answered or (other.height, other.width) != (own.height, own.width):
        return np.full(len(own), np.nan)
    image = ComparedImage(name, name, own.height, own.width)
    sides = [stack([side], [name]) for side in (own, other)]
    pairs = overlay([image], sides[0], sides[1].in_terms_of(categories))
    g, d = pairs.truth_index, pairs.predicted_index
    same = pairs.truth.category_ids[g] == pairs.predicted.category_ids[d]
    best = np.zeros(len(own))
    np.maximum.at(best, g[same], pairs.iou()[same])
    return best
