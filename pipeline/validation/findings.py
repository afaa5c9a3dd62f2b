"""What a validation found: rules, and the ids that break them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

RULES: dict[str, str] = {
    "part-missing": "every part that the manifest names is there and is Parquet",
    "part-bytes": "a part's files have the SHA-256 and the size in the manifest",
    "part-schema": "a part's tables have exactly the published schema",
    "part-rows": "a part has as many rows as the manifest says",
    "part-removed": "every removed row that the manifest counts is named by its table and is there",
    "part-counts": "a part's statuses, errors and categories are as the manifest counts them",
    "manifest-counts": "the manifest's counts are the sums over its parts",
    "manifest-version": "the current version's copy under versions/ has the manifest's bytes",
    "image-id": "an image id is in 1…2³¹−1",
    "image-unique": "an image id belongs to one row",
    "image-name-unique": "a file name belongs to one row",
    "image-status": "a status is known; failed and skipped rows, and no others, have an error code",
    "image-size": "an image that was looked at has a width and a height",
    "image-segments": "num_segments is the number of the image's annotations",
    "image-empty": "an image is empty if and only if nothing but background was found in it",
    "image-split": "split is train, val, test or null, and null where nothing was looked at",
    "copy-parent": "a copy's parent is an original of its part, was looked at and has its split",
    "copy-file": "a copy's picture is in the dataset and has its size in bytes",
    "copy-visible": "visible_fraction is in 0…1 in copies, null elsewhere",
    "annotation-id": "an annotation id is image_id · 2²¹ + segment_id, and segment ids are ≥ 1",
    "annotation-unique": "an annotation id belongs to one row",
    "annotation-image": "an annotation belongs to an image of its part that was looked at",
    "annotation-order": "annotations follow the images' order, tasks that of the manifest in each, "
    "segment ids count 1, 2, …",
    "annotation-category": "an annotation's category is in the table, with its name and isthing",
    "annotation-crowd": "iscrowd is 0, but where a person said otherwise",
    "annotation-score": "a score is in 0…1 or null",
    "annotation-origin": "task is one of the dataset's, and run is the dataset's",
    "lock-rows": "a locked image says by whom, when and from what, and its annotations are locked",
    "mask-size": "an RLE's size is its image's [height, width]",
    "mask-rle": "an RLE can be read, its runs add up to the picture and hold a pixel",
    "mask-canonical": "an RLE is byte for byte what pycocotools writes for its mask",
    "mask-area": "area is the number of the mask's pixels",
    "mask-box": "bbox_xywh is the tight box of the mask",
    "mask-overlap": "semantic segments of an image do not overlap, nor do panoptic ones",
    "category-once": "an image has one panoptic segment a stuff category, one semantic a category",
    "export-current": "an export is finished and of the current version",
    "export-json": "an export's JSON can be read",
    "export-head": "an export's categories and info are the dataset's",
    "export-images": "an export's images are the ones that were looked at",
    "export-annotations": "an export's annotations are the ledger's",
    "export-pycocotools": "pycocotools reads the export and finds the same areas",
    "export-file-missing": "every file that an export consists of is there",
    "export-file-differs": "a file has the bytes that the ledger gives, a picture its size",
    "export-file-stray": "every file in an export's folder belongs to it",
    "export-png-missing": "every image that was looked at has its PNG",
    "export-png-stray": "every PNG belongs to an image",
    "export-png-mode": "a PNG has the image's size, and the channels and bits of its format",
    "export-png-pixels": "a PNG's pixels are the ledger's segments",
}
"""Rule → what holds in a valid dataset."""

_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that is broken.

    Attributes:
        rule: A key of `RULES`.
        meaning: What should hold.
        count: How often it does not.
        examples: The first ids or names, at most twenty.
    """

    rule: str
    meaning: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The outcome.

    Attributes:
        uri: Of the dataset.
        version: That was looked at.
        images: Rows read.
        annotations: Rows read.
        exports: Formats that were compared with the ledger.
        violations: In the order of `RULES`.
        stale: Files in images/ and annotations/ that belong to another version or to none: no
            rule is broken, but a glob counts them too.
    """

    uri: str
    version: int
    images: int
    annotations: int
    exports: tuple[str, ...]
    violations: tuple[Violation, ...]
    stale: int = 0

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return not self.violations

    def to_json(self) -> str:
        """One readable JSON object."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


class Findings:
    """Collects what breaks a rule; keeps counts and the first examples, not everything."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, rule: str, kind: str, ids: Iterable[object]) -> None:
        """Notes that each of these ids breaks the rule.

        Args:
            rule: A key of `RULES`.
            kind: What the ids are of: "image", "annotation", "part", "".
            ids: Numbers or names.

        Raises:
            ValueError: There is no such rule.
        """
        if rule not in RULES:
            raise ValueError(f"no such rule: {rule}")
        examples = self._examples.setdefault(rule, [])
        count = 0
        for item in ids:
            count += 1
            if len(examples) < _EXAMPLES:
                examples.append(f"{kind} {item}".strip())
        if count:
            self._counts[rule] = self._counts.get(rule, 0) + count

    def merge(self, other: Findings) -> None:
        """Adds what another found after this one."""
        for rule, count in other._counts.items():
            self._counts[rule] = self._counts.get(rule, 0) + count
            examples = self._examples.setdefault(rule, [])
            examples += other._examples[rule][: _EXAMPLES - len(examples)]

    def broken(self, *rules: str) -> bool:
        """Whether any of these rules is broken so far."""
        return any(rule in self._counts for rule in rules)

    def violations(self) -> tuple[Violation, ...]:
        """Everything found, in the order of `RULES`."""
        return tuple(
            Violation(rule, meaning, self._counts[rule], tuple(self._examples[rule]))
            for rule, meaning in RULES.items()
            if rule in self._counts
        )
