"""The manifest: what a published version of a dataset consists of; and the receipt of one shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .categories import Categories

SCHEMA_VERSION = 2
"""Of the Parquet tables and the manifest. Readers refuse a newer one."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shard's pair of Parquet files: images/<name>.parquet and annotations/<name>.parquet.

    Attributes:
        name: "<shard>-<fingerprint>", a function of the shard's images and the config alone.
        images: Rows of the images file.
        annotations: Rows of the annotations file.
        statuses: status → images.
        errors: error code → images.
        categories: category id (as text, JSON's only key type) → annotations.
        images_sha256: Of the images file.
        annotations_sha256: Of the annotations file.
        size: Bytes of both files.
    """

    name: str
    images: int
    annotations: int
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    categories: Mapping[str, int]
    images_sha256: str
    annotations_sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """What a worker returns for a shard, also kept as receipts/<shard>-<token>.json.

    Attributes:
        shard: Shard id.
        token: Fingerprint of the shard's listing (names, sizes, tokens, ids) and the config.
        run: The config fingerprint.
        part: The files it wrote.
        computed: Images the model looked at.
        reused: Images whose labels were copied from an earlier part.
        seconds: Wall time, information only.
    """

    shard: str
    token: str
    run: str
    part: Part
    computed: int
    reused: int
    seconds: float

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardReceipt:
        """The inverse of `to_json`.

        Raises:
            ValueError: Not a receipt.
        """
        try:
            data = json.loads(text)
            return cls(**{**data, "part": Part(**data["part"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a shard receipt: {error}") from error


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """A published version. Holds no clock and no random name: same inputs, same bytes.

    Attributes:
        schema_version: `SCHEMA_VERSION` of the writer.
        version: 1, 2, …; also its file under versions/.
        input: Absolute URI of the images.
        task: "semantic", "instance" or "panoptic".
        model: name, family, revision, weights_sha256, licence.
        categories: The category table, `Categories.to_json`.
        config: The resolved job config without secrets and placement.
        config_fingerprint: Of everything labels depend on but the image bytes; the `run` column.
        packages: Versions of the packages that labels depend on.
        counts: images, annotations, ok, empty, failed, skipped.
        category_counts: category id as text → annotations.
        error_counts: error code → images.
        parts: In the order of the input.
    """

    schema_version: int
    version: int
    input: str
    task: str
    model: Mapping[str, Any]
    categories: list[dict[str, Any]]
    config: Mapping[str, Any]
    config_fingerprint: str
    packages: Mapping[str, str]
    counts: Mapping[str, int]
    category_counts: Mapping[str, int]
    error_counts: Mapping[str, int]
    parts: tuple[Part, ...]

    def category_table(self) -> Categories:
        """The categories as objects."""
        return Categories.from_json(self.categories)

    def same_dataset(self, other: DatasetManifest) -> bool:
        """Whether both say the same but for the version number."""
        skip = {"version"}
        return all(
            getattr(self, item.name) == getattr(other, item.name)
            for item in fields(self)
            if item.name not in skip
        )

    def to_json(self) -> str:
        """Readable, stable JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> DatasetManifest:
        """The inverse of `to_json`.

        Raises:
            ValueError: Not a manifest, or written by a newer schema version.
        """
        try:
            data = json.loads(text)
            version = int(data["schema_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not a maskmill manifest: {error}") from error
        if version > SCHEMA_VERSION:
            raise ValueError(
                f"the dataset has schema version {version}, this program knows up to "
                f"{SCHEMA_VERSION}: install a newer maskmill to read it"
            )
        try:
            return cls(**{**data, "parts": tuple(Part(**part) for part in data["parts"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a maskmill manifest: {error}") from error
