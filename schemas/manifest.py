"""The manifest: what a published version of a dataset consists of; and the receipt of one shard."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .categories import Categories
from .records import TASKS, Status, Task

SCHEMA_VERSION = 4
"""Of the Parquet tables and the manifest. Readers refuse a newer one."""


_NAME = re.compile(r"[0-9A-Za-z_-]+")
"""Of parts and shards: they become file names, and a file says them."""


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """What a part holds of one of several tasks.

    Attributes:
        annotations: Its rows of the annotations file.
        statuses: status → images, as if only this task had been asked for.
        categories: category id as text → its annotations.
    """

    annotations: int
    statuses: Mapping[str, int]
    categories: Mapping[str, int]


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
        tasks: task → its share of the counts; empty where the dataset has one task.
        copies: Rows of the images file that are copies of others.
        prompts: outcome → prompts of a file of prompts.
        in_part: What was left out of images that nobody made a choice for ("z-stack", "of 2
            channels") → images; "images" → how many these are.
        removed: Images of the file that this version does not have in it: the table of removed
            rows says which. All counts above are of the others; hashes and size of the files.
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
    tasks: Mapping[Task, TaskCounts] = field(default_factory=dict)
    copies: int = 0
    prompts: Mapping[str, int] = field(default_factory=dict)
    in_part: Mapping[str, int] = field(default_factory=dict)
    removed: int = 0

    def view(self, task: Task) -> Part:
        """The part as if it held this task alone."""
        own = self.tasks[task]
        return replace(
            self,
            annotations=own.annotations,
            statuses=own.statuses,
            categories=own.categories,
            tasks={},
        )

    @classmethod
    def of(cls, data: Any) -> Part:
        """From plain data, as `plain` gives it.

        Raises:
            ValueError: Not a part, or one whose name is no file name.
        """
        part = _checked(cls, data)
        if not _NAME.fullmatch(part.name):
            raise ValueError(f"{part.name!r} is no name of a part")
        return part

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON; says nothing of one task, no copies or prompts."""
        data = asdict(self)
        for key in ("tasks", "copies", "prompts", "in_part", "removed"):
            if not data[key]:
                del data[key]
        return data


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
        busy: Of it, seconds in which the model was at work; information only.
        waited: Of it, seconds in which the worker waited for pictures; information only.
        gpu: Of it, seconds in which the worker's GPU computed; None = not measured.
        memory: Share of the GPU's memory that the worker held at once; information only.
        told: What the worker decided and a person should read, "" = nothing.
        once_more: Pictures of an object store that could not be decoded: the next run looks at
            them once more, as a store may have sent them damaged.
        retries: Calls of the store that were tried again, information only.
    """

    shard: str
    token: str
    run: str
    part: Part
    computed: int
    reused: int
    seconds: float
    once_more: int = 0
    retries: int = 0
    busy: float = 0.0
    waited: float = 0.0
    gpu: float | None = None
    memory: float = 0.0
    told: str = ""

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({**asdict(self), "part": self.part.plain()}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ShardReceipt:
        """The inverse of `to_json`.

        Raises:
            ValueError: Not a receipt.
        """
        try:
            receipt = _checked(cls, _parsed(text))
            Part.of(receipt.part.plain())
        except ValueError as error:
            raise ValueError(f"not a shard receipt: {error}") from error
        if not _NAME.fullmatch(receipt.shard) or not _NAME.fullmatch(receipt.token):
            raise ValueError("not a shard receipt: shard and token are no names")
        return receipt


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """A published version. Holds no clock and no random name: same inputs, same bytes.

    Attributes:
        schema_version: `SCHEMA_VERSION` of the writer.
        version: 1, 2, …; also its file under versions/.
        input: Absolute URI of the images.
        tasks: One or several of semantic, instance and panoptic, in the order of `TASKS`.
        model: name, family, revision, weights_sha256, licence.
        categories: The category table, `Categories.to_json`.
        config: The resolved job config without secrets and placement.
        config_fingerprint: Of everything labels depend on but the image bytes; the `run` column.
        packages: Versions of the packages that labels depend on.
        counts: images, annotations, ok, empty, failed, skipped; copies, of the images, if any.
        category_counts: category id as text → annotations.
        error_counts: error code → images.
        parts: In the order of the input.
        prompt_counts: outcome → prompts of a file of prompts, and `absent_images`, which it names
            and the input lacks.
        containers: `table`, the path of the Parquet file that has a row a tar, table or list of
            the input; how many of them are ok, partial and failed. Empty where there are none.
        left_out: Files of the input that are no images: suffix, reason, files, picture.
        removed: `table`, the path of the Parquet file that names the images of parts that this
            version does not have in them, and how many `rows` it has. Empty where there are none.
    """

    schema_version: int
    version: int
    input: str
    tasks: tuple[Task, ...]
    model: Mapping[str, Any]
    categories: list[dict[str, Any]]
    config: Mapping[str, Any]
    config_fingerprint: str
    packages: Mapping[str, str]
    counts: Mapping[str, int]
    category_counts: Mapping[str, int]
    error_counts: Mapping[str, int]
    parts: tuple[Part, ...]
    prompt_counts: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[Mapping[str, Any], ...] = ()
    removed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def faulty_containers(self) -> int:
        """Tars, tables and lists that could not be read, or not to their end."""
        return self.containers.get("partial", 0) + self.containers.get("failed", 0)

    def category_table(self) -> Categories:
        """The categories as objects."""
        return Categories.from_json(self.categories)

    @property
    def objects(self) -> int:
        """Annotations but those of background: what a headline counts."""
        rest = (str(item["id"]) for item in self.categories if item.get("is_background"))
        return self.counts["annotations"] - sum(self.category_counts.get(key, 0) for key in rest)

    @property
    def task(self) -> Task:
        """The only task.

        Raises:
            ValueError: There are several: which one is meant? (`view`)
        """
        task, *more = self.tasks
        if more:
            raise ValueError(f"the dataset holds several tasks: {', '.join(self.tasks)}")
        return task

    @property
    def in_part(self) -> Counter[str]:
        """Sum of the parts' counts of what was read in part."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.in_part)
        return total

    def view(self, task: Task) -> DatasetManifest:
        """The manifest as if the dataset held this task alone.

        Raises:
            ValueError: It does not hold it.
        """
        if task not in self.tasks:
            raise ValueError(f"the dataset holds no {task} labels, only {', '.join(self.tasks)}")
        if self.tasks == (task,):
            return self
        parts = [part.view(task) for part in self.parts]
        return replace(self, tasks=(task,), parts=tuple(parts), **totals(parts, self.categories))

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
        data = {**asdict(self), "parts": [part.plain() for part in self.parts]}
        if not self.prompt_counts:
            del data["prompt_counts"]
        for key in ("containers", "left_out", "removed"):  # unknown to earlier versions
            if not data[key]:
                del data[key]
        if self.schema_version == 1:  # as its writer wrote it: digests are taken of this text
            (data["task"],) = data.pop("tasks")
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> DatasetManifest:
        """The inverse of `to_json`, also for schema version 1, which knew one `task`.

        Raises:
            ValueError: Not a manifest, or written by a newer schema version.
        """
        try:
            data = _parsed(text)
            version = int(data["schema_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"not a maskmill manifest: {error}") from error
        if version > SCHEMA_VERSION:
            raise ValueError(
                f"the dataset has schema version {version}, this program knows up to "
                f"{SCHEMA_VERSION}: install a newer maskmill to read it"
            )
        try:
            tasks = [data.pop("task")] if version == 1 else data["tasks"]
            if not tasks or list(tasks) != [task for task in TASKS if task in tasks]:
                raise TypeError(f"tasks {tasks}, not some of {', '.join(TASKS)} in this order")
            parts = tuple(Part.of(part) for part in data["parts"])
            left_out = tuple(data.get("left_out", ()))
            plain = {**data, "tasks": tuple(tasks), "parts": parts, "left_out": left_out}
            manifest = _checked(cls, plain)
            manifest.category_table()
            lacking = {"images", "annotations", "ok", "empty", "failed"} - manifest.counts.keys()
            if lacking:
                raise KeyError(f"counts lacks {', '.join(sorted(lacking))}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a maskmill manifest: {error}") from error
        return manifest


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _checked(kind: type[Any], data: Any) -> Any:
    """`data` as an object of this class, every field of its type.

    Raises:
        ValueError: A key is missing, unknown, or of another type; names the first.
    """
    if isinstance(data, Mapping) and (strange := data.keys() - {one.name for one in fields(kind)}):
        raise ValueError(f"unknown key {sorted(map(str, strange))[0]!r}")
    try:
        return _adapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def totals(parts: Iterable[Part], categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest's counts, category_counts and error_counts: sums over its parts.

    Args:
        parts: All of them.
        categories: `Categories.to_json`; each is counted, also where nothing is of it.
    """
    images = annotations = copies = 0
    statuses: Counter[str] = Counter({str(status): 0 for status in Status})
    errors: Counter[str] = Counter()
    per_category: Counter[str] = Counter({str(item["id"]): 0 for item in categories})
    for part in parts:
        images += part.images
        annotations += part.annotations
        copies += part.copies
        statuses.update(part.statuses)
        errors.update(part.errors)
        per_category.update(part.categories)
    return {
        "counts": {
            "images": images,
            "annotations": annotations,
            **({"copies": copies} if copies else {}),
            **statuses,
        },
        "category_counts": dict(per_category),
        "error_counts": dict(errors),
    }
