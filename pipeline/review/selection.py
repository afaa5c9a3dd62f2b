"""Selection: the pictures that are worth a person's time, as a small dataset of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.evaluation.pairs import pair_images
from pipeline.evaluation.sources.categories import match_categories
from pipeline.evaluation.sources.dataset import LedgerSource
from pipeline.ledger.ledger import Ledger, open_ledger, publish
from pipeline.ledger.locks import is_locked
from pipeline.ledger.parts import rows_by_image, write_part
from pipeline.ledger.views import is_copy
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import Part, totals
from schemas.records import Status

from .trust import EVIDENCE, Floats, agreement_with, picture_trust, segment_trust

FILE = "selection.json"
"""Beside the files for the tool: which pictures were given out, why, and their bytes' SHA-256."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that could be looked at.

    Attributes:
        image_id: In the dataset.
        file_name: Likewise.
        sha256: Of its bytes, "" where the dataset does not know.
        trust: 0…1, None where nothing is known.
        segments: How many it has.
    """

    image_id: int
    file_name: str
    sha256: str
    trust: float | None
    segments: int


def candidates(ledger: Ledger, others: Sequence[Ledger] = ()) -> Iterator[Candidate]:
    """Every picture that was looked at by a model and not by a person yet, with its trust.

    Args:
        ledger: The dataset, of one task.
        others: Further datasets of the same pictures.

    Raises:
        ValueError: The others have nothing in common with it.
        StorageError: A part cannot be read.
    """
    compared = [_Other(ledger, other) for other in others]
    own = LedgerSource(ledger)
    for part in ledger.manifest.parts:
        images = ledger.images_of(part)
        locked = is_locked(images)
        annotations = ledger.annotations_of(part, ("image_id", *EVIDENCE))
        owner = annotations["image_id"].to_numpy()
        for row, done in zip(images.to_pylist(), locked, strict=True):
            if done or is_copy(row) or row["status"] not in (Status.OK, Status.EMPTY):
                continue
            id_ = row["image_id"]
            table = annotations.filter(pa.array(owner == id_))
            segments = own.read(id_) if compared else None
            agreement = [] if segments is None else [one.of(id_, segments) for one in compared]
            trust = picture_trust(segment_trust(table, agreement))
            yield Candidate(id_, row["file_name"], row["sha256"] or "", trust, len(table))


class _Other:
    """Another dataset of the same pictures."""

    def __init__(self, ledger: Ledger, other: Ledger) -> None:
        here = LedgerSource(ledger)
        self._source = LedgerSource(other, ledger.manifest.task)
        match = match_categories(here.categories, self._source.categories)
        self._ids = dict(match.predicted_ids or {})
        pairing = pair_images(here.entries(), self._source.entries())
        self._keys = {
            true.key: answer.key
            for true, answer in pairing.pairs
            if answer is not None and not answer.failed
        }

    def of(self, image_id: int, segments: Any) -> Floats:
        """Agreement of a picture's segments with it."""
        if image_id not in self._keys:
            return np.full(len(segments), np.nan)
        found = self._source.read(self._keys[image_id])
        return agreement_with(segments, found, self._ids, str(image_id))


def choose_candidates(
    found: Sequence[Candidate], *, worst: str, random: str, seed: int
) -> list[tuple[Candidate, str]]:
    """The pictures of least trust, and some by chance.

    Args:
        found: Candidates.
        worst: "5%" of them, or a number.
        random: Likewise, of those that are left; what is found in them says what was missed.
        seed: Of the chance. The same picture falls to it whatever the others are.

    Returns:
        Pictures with "worst" or "random", the worst first.

    Raises:
        ValueError: No share and no number.
    """
    known = sorted(
        (item for item in found if item.trust is not None),
        key=lambda item: (item.trust or 0.0, item.file_name),
    )
    first = known[: _number(worst, len(found), "worst")]
    taken = {item.image_id for item in first}
    left = [item for item in found if item.image_id not in taken]
    left.sort(key=lambda item: _chance(item.file_name, seed))
    return [
        *((item, "worst") for item in first),
        *((item, "random") for item in left[: _number(random, len(found), "random")]),
    ]


def write_selection(
    ledger: Ledger, chosen: Sequence[tuple[Candidate, str]], output: str, storage: Storage
) -> Ledger:
    """Writes the chosen pictures' labels as a dataset, `selection.json` beside them.

    Args:
        ledger: The dataset.
        chosen: Some of its pictures.
        output: Absolute URI of an empty or new folder.
        storage: File access.

    Returns:
        The small dataset, ready for any exporter; it lies in <output>/dataset.

    Raises:
        ValueError: Nothing was chosen.
        StorageError: It cannot be written.
    """
    if not chosen:
        raise ValueError("no picture is left to look at: all are locked, or none was labelled")
    wanted = {item.image_id for item, _ in chosen}
    uri = join(output, "dataset")
    background = frozenset(item.id for item in ledger.categories if item.is_background)
    manifest = ledger.manifest
    parts: list[Part] = []
    for part in manifest.parts:
        images = [row for row in ledger.images_of(part).to_pylist() if row["image_id"] in wanted]
        if not images:
            continue
        segments = rows_by_image(ledger.annotations_of(part))
        rows = [item for row in images for item in segments.get(row["image_id"], [])]
        parts.append(
            write_part(
                storage,
                uri,
                shard=part.name.rpartition("-")[0],
                run=manifest.config_fingerprint,
                images=images,
                annotations=rows,
                background=background,
                tasks=manifest.tasks,
            )
        )
    counts = totals(parts, manifest.categories)
    small = replace(manifest, version=1, parts=tuple(parts), removed={}, **counts)
    data = {
        "dataset": ledger.uri,
        "version": manifest.version,
        "images": [
            {
                "file_name": item.file_name,
                "image_id": item.image_id,
                "sha256": item.sha256,
                "trust": None if item.trust is None else round(item.trust, 6),
                "chosen": why,
            }
            for item, why in chosen
        ],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    storage.write(join(output, FILE), text.encode())
    return Ledger(uri, publish(storage, uri, small), storage)


def read_given(uri: str, storage: Storage) -> dict[str, str]:
    """File name → SHA-256 of what was given out, from a `selection.json`.

    Raises:
        ValueError: It is none.
        StorageError: It cannot be read.
    """
    try:
        data = json.loads(storage.read(uri))
        return {item["file_name"]: item["sha256"] for item in data["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{uri} is no selection of jobs.review: {error!r}") from None


def open_others(uris: Sequence[str], storage: Storage) -> list[Ledger]:
    """Further datasets of the same pictures."""
    return [open_ledger(uri, storage) for uri in uris]


def _number(text: str, of: int, name: str) -> int:
    """ "5%" of a number, rounded up, or a number."""
    digits = text.removesuffix("%")
    try:
        value = float(digits) if text.endswith("%") else int(digits)
    except ValueError:
        value = -1.0
    if value < 0 or (text.endswith("%") and value > 100):
        raise ValueError(f"--{name} wants a share like 5% or a number of pictures, got {text!r}")
    return int(np.ceil(of * value / 100)) if text.endswith("%") else min(int(value), of)


def _chance(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
