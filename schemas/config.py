"""A job's configuration: one TOML file, every field also a flag or `--set key=value`.

What changes labels (`LABEL_SECTIONS`) enters the fingerprint; where and how fast a job runs
does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from .manifest import SCHEMA_VERSION
from .records import Task
from .suggest import nearest

LABEL_SECTIONS = ("model", "images")
_PLACEMENT = {"model": {"name", "device", "batch_size"}, "images": set[str]()}


_UNPUBLISHED = {"output", "execution", "storage", "export", "report", "max_failures"}
"""What changes no row of the tables: changing it alone publishes no new version."""


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Validates plain data (a parsed TOML file with flags laid over it).

        Raises:
            ValueError: One line per problem, naming the key, the nearest valid key and the
                allowed values.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ValueError("\n".join(_explain(cls, item) for item in error.errors())) from None


class InputConfig(Section):
    """Where the images are."""

    uri: Annotated[str, Field(min_length=1, description="folder, tar, Parquet file or s3:// URI")]
    format: Literal["auto", "folder", "webdataset", "parquet"] = "auto"
    column: Annotated[str, Field(description="Parquet column; '' = find it")] = ""
    limit: Annotated[int, Field(ge=0, description="first N images only; 0 = all")] = 0


class ImagesConfig(Section):
    """How bytes become pixels."""

    max_pixels: Annotated[int, Field(ge=1, description="larger pictures fail as too_large")] = (
        500_000_000
    )
    stretch_16bit: Annotated[
        Literal["percentile", "full"],
        Field(description="16-bit → 8-bit: the 0.1…99.9 percentiles of the picture, or 0…65535"),
    ] = "percentile"


class ModelConfig(Section):
    """Which model, and its thresholds."""

    name: Annotated[str, Field(min_length=1, description="short name or checkpoint folder")]
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="interior probability; the model's own if unset"),
    ] = None
    min_score: Annotated[float, Field(ge=0, le=1, description="segments below are dropped")] = 0.0
    min_area: Annotated[
        int | None, Field(ge=1, description="smaller segments are dropped, in pixels")
    ] = None
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N")
    ] = "auto"
    batch_size: Annotated[int, Field(ge=1, description="pictures a forward pass at most")] = 8


class ExecutionConfig(Section):
    """Where and how wide a job runs. Never changes a label."""

    inline: Annotated[bool, Field(description="no Ray: one process, for debugging")] = False
    address: Annotated[
        str, Field(description="Ray address; '' = RAY_ADDRESS, else a cluster of its own")
    ] = ""
    workers: Annotated[int, Field(ge=0, description="actors; 0 = as many as fit")] = 0
    cpus_per_worker: Annotated[
        float | None,
        Field(gt=0, description="unset = 1, or a worker's share of the CPUs where it holds a GPU"),
    ] = None
    gpus_per_worker: Annotated[
        float | None, Field(ge=0, description="0 = CPU; unset = 1 where the cluster has GPUs")
    ] = None
    read: Annotated[
        Literal["actor", "tasks"],
        Field(description="who reads: threads beside the model, or Ray tasks on other nodes"),
    ] = "actor"
    prefetch: Annotated[int, Field(ge=1, description="pictures read ahead in a worker")] = 16
    shard_size: Annotated[int, Field(ge=0, description="images a shard, mean; 0 = by size")] = 0
    max_crashes: Annotated[
        int,
        Field(ge=1, description="worker deaths before a shard is searched for its poison image"),
    ] = 3
    ray_logs: bool = False


class StorageConfig(Section):
    """S3 access; unset values come from the environment (AWS_ACCESS_KEY_ID, …)."""

    endpoint_url: str = ""
    key: str = ""
    secret: Annotated[str, Field(repr=False)] = ""
    region: str = ""
    anonymous: bool = False


class ReportConfig(Section):
    """The HTML report."""

    max_images: Annotated[int, Field(ge=0, description="pictures shown; counts cover all")] = 2000


class ExportConfig(Section):
    """What is written beside the Parquet."""

    formats: Annotated[tuple[str, ...], Field(description="empty = all that the task yields")] = ()


class JobConfig(Section):
    """One labelling job."""

    input: InputConfig
    output: Annotated[str, Field(min_length=1)]
    model: ModelConfig
    task: Task | None = None
    max_failures: Annotated[
        str,
        Field(
            description="failed images allowed: a count, '5%', or 'any' (all but every one)",
            pattern=r"^(any|\d+|\d+(\.\d+)?%)$",
        ),
    ] = "any"
    images: ImagesConfig = ImagesConfig()
    execution: ExecutionConfig = ExecutionConfig()
    storage: StorageConfig = StorageConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("max_failures", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def label_config(self, *, task: Task, weights_sha256: str, revision: str) -> dict[str, Any]:
        """Everything besides an image's bytes that its labels depend on."""
        data = self.model_dump(mode="json")
        sections = {
            name: {k: v for k, v in data[name].items() if k not in _PLACEMENT[name]}
            for name in LABEL_SECTIONS
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "task": task,
            "weights_sha256": weights_sha256,
            "revision": revision,
            **sections,
        }

    def published(self) -> dict[str, Any]:
        """The part that goes into the manifest: no secrets, nothing that only says where it ran."""
        data = self.model_dump(mode="json", exclude=_UNPUBLISHED)
        data["model"] = {
            k: v for k, v in data["model"].items() if k not in ("device", "batch_size")
        }
        return data


def config_fingerprint(label_config: Mapping[str, Any]) -> str:
    """128 bits of SHA-256 over the canonical JSON of `JobConfig.label_config`, hex."""
    text = json.dumps(label_config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def failure_limit(max_failures: str, images: int) -> int:
    """How many failed images a run of `images` may have and still exit 0.

    "any" allows all but every single one: a run in which nothing worked is no success.
    """
    if max_failures == "any":
        return max(images - 1, 0)
    if max_failures.endswith("%"):
        return int(images * Decimal(max_failures[:-1]) / 100)  # 0.57 % of 10,000 is 57, not 56
    return int(max_failures)


def _explain(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key, kind, value = ".".join(path), error["type"], error.get("input")
    field = _deepest_field(model, path)
    if kind == "extra_forbidden":
        keys = _keys(field.annotation if field else model)
        return f"unknown key {key!r}{nearest(path[-1], keys)}; allowed: {', '.join(keys)}"
    if kind == "missing":
        return f"{key}: missing"
    if kind == "model_type":
        keys = _keys(field.annotation if field else model)
        return f"{key}: must be a section with some of the keys {', '.join(keys)}"
    message = re.sub(r"^(Input|String|Value error,) ?", "", error["msg"])
    if kind == "string_pattern_mismatch":
        message = "not in an allowed form"
    hint = about = ""
    expected = (error.get("ctx") or {}).get("expected", "")
    if isinstance(value, str) and expected:
        hint = nearest(value, re.findall(r"'([^']+)'", expected))
    if field is not None and field.description:
        about = f" ({field.description})"
    got = f", got {value!r}" if field is None or field.repr else ""  # never a secret
    return f"{key}: {message}{got}{hint}{about}"


def _deepest_field(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    found: FieldInfo | None = None
    section: Any = model
    for part in path:
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            break
        field = fields[part]
        found, section = field, field.annotation
    return found


def _keys(section: Any) -> list[str]:
    return list(section.model_fields)
