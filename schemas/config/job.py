"""A job's configuration: one TOML file, every field also a flag or `--set key=value`.

What changes labels (`LABEL_SECTIONS`) enters the fingerprint; where and how fast a job runs
does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from schemas.manifest import SCHEMA_VERSION
from schemas.names import without_credentials
from schemas.records import TASKS, Task

from .augment import AugmentConfig, SplitConfig
from .export import ExportConfig
from .gate import GateConfig
from .history import HistoryConfig
from .images import ImagesConfig
from .model import ModelConfig, NamingConfig, RefineConfig, TilingConfig
from .preprocess import PreprocessConfig
from .prompts import ConflictsConfig, EverythingConfig, PromptsConfig
from .section import Section

LABEL_SECTIONS = (
    "model",
    "images",
    "preprocess",
    "tiling",
    "refine",
    "prompts",
    "everything",
    "conflicts",
)
_PLACEMENT = {
    "model": {"name", "revision", "allow_pickle", "device", "batch_size", "compile"},
    "prompts": {"text", "ontology", "file", "format", "exemplars"},
    "everything": {"points_per_batch"},
}
"""Keys that say where something is and how fast it runs; hashes and contents say what it is."""


_UNPUBLISHED = {
    *("output", "execution", "storage", "export", "report"),
    *("max_failures", "max_shrink", "gate", "history"),
}
"""What changes no row of the tables: changing it alone publishes no new version."""


class InputConfig(Section):
    """Where the images are."""

    uri: Annotated[
        str,
        Field(
            min_length=1, description="folder, tar, Parquet file, list or s3:// URI; '-' = stdin"
        ),
    ]
    format: Literal["auto", "folder", "webdataset", "tar", "parquet", "list"] = "auto"
    column: Annotated[
        str, Field(description="column of a table, field of a tar's samples; '' = find it")
    ] = ""
    any_suffix: Annotated[
        bool, Field(description="files whose suffix says nothing too, by their content")
    ] = False
    base64: Annotated[bool, Field(description="strings of a table are images in base64")] = False
    limit: Annotated[int, Field(ge=0, description="first N images only; 0 = all")] = 0
    sample: Annotated[
        int,
        Field(ge=0, description="N images by chance only, always the same ones; 0 = all"),
    ] = 0

    @model_validator(mode="after")
    def _one_kind_of_few(self) -> Self:
        if self.limit and self.sample:
            raise ValueError("limit and sample exclude one another: the first N, or N by chance")
        return self


class ExecutionConfig(Section):
    """Where and how wide a job runs. Never changes a label."""

    engine: Annotated[
        Literal["auto", "ray", "inline"],
        Field(
            description="auto = in one process where the work is less than the start of Ray, and "
            "no other key asks for Ray"
        ),
    ] = "auto"
    inline: Annotated[bool, Field(description="the same as engine = 'inline'")] = False
    address: Annotated[
        str, Field(description="Ray address; '' = RAY_ADDRESS, else a cluster of its own")
    ] = ""
    workers: Annotated[int, Field(ge=0, description="actors; 0 = as many as fit")] = 0
    max_workers: Annotated[
        int,
        Field(
            ge=0,
            description="an autoscaling cluster is asked for nodes until so many actors fit, and "
            "for fewer as the last shards are done; 0 = it is asked for none",
        ),
    ] = 0
    cpus_per_worker: Annotated[
        float | None,
        Field(gt=0, description="unset = 1, or a worker's share of the CPUs where it holds a GPU"),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        Field(
            ge=0,
            description="0 = CPU; unset = 1 where the cluster has GPUs, or less where one worker "
            "is seen not to fill a GPU",
        ),
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
    reproducible: Annotated[
        bool,
        Field(
            description="CPU: one instruction set and one thread in every worker, so that unlike "
            "processors come closest to the same bytes; slower"
        ),
    ] = False
    shard_timeout: Annotated[
        float,
        Field(
            ge=0,
            description="seconds after which a worker that has not finished its shard is ended; "
            "0 = from measured speed: 20 times the slowest shard, at least 15 minutes",
        ),
    ] = 0
    worker_timeout: Annotated[
        float,
        Field(ge=0, description="seconds to wait for the first worker; 0 = without end"),
    ] = 1800
    compile_cache: Annotated[
        str,
        Field(
            description="folder where the workers of a node keep what torch.compile and Triton "
            "have built, a folder a model in it; '' = where PyTorch puts it, which is temporary"
        ),
    ] = ""
    ray_logs: bool = False

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if self.inline and self.engine == "ray":
            raise ValueError("inline and engine = 'ray' exclude one another")
        if self.workers and self.max_workers:
            raise ValueError("workers and max_workers exclude one another: so many, or up to")
        return self

    @property
    def in_process(self) -> bool:
        """Whether the job asks for one process without Ray."""
        return self.inline or self.engine == "inline"

    @property
    def on_ray(self) -> bool:
        """Whether the job asks for Ray, by name or by what only Ray can give.

        A cluster, a number of workers, what each of them gets, what is done for them.
        """
        if self.in_process:
            return False
        shares = (self.cpus_per_worker, self.gpus_per_worker)
        number = self.workers or self.max_workers
        given = self.address or number or self.shard_timeout or self.reproducible
        named = self.engine == "ray" or self.read == "tasks" or self.ray_logs
        return bool(given or named) or shares != (None, None)


class StorageConfig(Section):
    """S3 access; unset values come from the environment (AWS_ACCESS_KEY_ID, …)."""

    endpoint_url: str = ""
    key: Annotated[str, Field(repr=False)] = ""
    secret: Annotated[str, Field(repr=False)] = ""
    region: str = ""
    anonymous: bool = False
    max_download: Annotated[
        int, Field(ge=1, description="bytes that one http:// or https:// picture may have")
    ] = 1 << 28

    @model_validator(mode="before")
    @classmethod
    def _no_credentials_in_the_address(cls, data: Any) -> Any:
        """`http://key:secret@host` becomes `http://host` and its key and secret, as in `mc`.

        The address is kept in job.json and named in messages; key and secret are not.
        """
        address = data.get("endpoint_url") if isinstance(data, dict) else None
        if not isinstance(address, str) or without_credentials(address) == address:
            return data
        parts = urlsplit(address)
        key, secret = unquote(parts.username or ""), unquote(parts.password or "")
        given = {"key": data.get("key") or key, "secret": data.get("secret") or secret}
        return {**data, **given, "endpoint_url": without_credentials(address)}


class ReportConfig(Section):
    """The HTML report."""

    max_images: Annotated[int, Field(ge=0, description="pictures shown; counts cover all")] = 2000


class JobConfig(Section):
    """One labelling job."""

    input: InputConfig
    output: Annotated[str, Field(min_length=1)]
    model: ModelConfig
    task: Annotated[
        tuple[Task, ...] | None,
        Field(description="one or several of semantic, instance, panoptic; unset = the model's"),
    ] = None
    max_failures: Annotated[
        str,
        Field(
            description="failed images with which a version is still published: a count, '5%', or "
            "'any' (all but every one); 'auto' = 5%, or 10 where that is more, at most half",
            pattern=r"^(any|auto|\d+|\d+(\.\d+)?%)$",
        ),
    ] = "auto"
    max_shrink: Annotated[
        str,
        Field(
            description="images that the input may have lost since the last version: a count, "
            "'20%', or 'any'",
            pattern=r"^(any|\d+|\d+(\.\d+)?%)$",
        ),
    ] = "any"
    gate: GateConfig = GateConfig()
    images: ImagesConfig = ImagesConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    tiling: TilingConfig = TilingConfig()
    refine: RefineConfig = RefineConfig()
    prompts: PromptsConfig = PromptsConfig()
    everything: EverythingConfig = EverythingConfig()
    conflicts: ConflictsConfig = ConflictsConfig()
    naming: NamingConfig = NamingConfig()
    split: SplitConfig = SplitConfig()
    augment: AugmentConfig = AugmentConfig()
    execution: ExecutionConfig = ExecutionConfig()
    storage: StorageConfig = StorageConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()
    history: HistoryConfig = HistoryConfig()

    @model_validator(mode="after")
    def _no_credentials_in_uris(self) -> Self:
        uris = {
            "input.uri": self.input.uri,
            "output": self.output,
            "gate.ground_truth": self.gate.ground_truth,
            "gate.category_map": self.gate.category_map,
        }
        for key, uri in uris.items():
            if (clean := without_credentials(uri)) != uri:
                raise ValueError(
                    f"{key}: {clean} came with credentials, which would end up in logs and files; "
                    "they belong into the environment (AWS_ACCESS_KEY_ID, …) or [storage]"
                )
        return self

    @field_validator("max_failures", "max_shrink", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("task", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """`"panoptic"`, `"semantic,instance"` or a list; kept in the order of `TASKS`."""
        if isinstance(value, str):
            value = [item.strip() for item in value.split(",")]
        if isinstance(value, list | tuple) and set(value) <= set(TASKS):
            return tuple(task for task in TASKS if task in value) or None
        return value

    @model_validator(mode="after")
    def _prompts_fit(self) -> Self:
        given = "file" if self.prompts.file else "exemplars" if self.prompts.exemplars else ""
        if given and any(item.step == "resize" for item in self.preprocess.steps):
            raise ValueError(
                f"preprocess.steps: resize and prompts.{given} exclude one another: points and "
                "boxes are in the original's pixels, and the models that take them resize by "
                "themselves"
            )
        return self

    @model_validator(mode="after")
    def _copies_of_something(self) -> Self:
        if self.augment.copies and not self.split.active and "train" not in self.augment.splits:
            raise ValueError(
                "augment.splits: without [split] every picture is in train, which is not named"
            )
        return self

    def copies_wording(self) -> str:
        """What copies and splits depend on beside the labels; "" without either."""
        data: dict[str, Any] = {}
        if self.split.active:
            data["split"] = self.split.model_dump(mode="json")
        if self.augment.copies:
            steps = [step.model_dump(mode="json") for step in self.augment.chain()]
            data["augment"] = {**self.augment.model_dump(mode="json"), "steps": steps}
        return json.dumps(data, sort_keys=True, separators=(",", ":")) if data else ""

    def label_config(
        self,
        *,
        tasks: tuple[Task, ...],
        weights_sha256: str,
        revision: str,
        categories: Sequence[Mapping[str, Any]],
        category_ids: Sequence[int] = (),
        asked: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Everything besides an image's bytes that its labels depend on.

        Args:
            tasks: What is asked of the model.
            weights_sha256: Of the weights and the files that say how to use them.
            revision: Of the weights.
            categories: `Categories.to_json` of the table that its labels are given in.
            category_ids: The category of each of the model's outputs, where it has a table.
            asked: Contents of the files of prompts.
        """
        data = self.model_dump(mode="json")
        sections = {
            name: {k: v for k, v in data[name].items() if k not in _PLACEMENT.get(name, ())}
            for name in LABEL_SECTIONS
        }
        sections["images"] = self.images.identity()
        sections["preprocess"] = self.preprocess.identity()
        return {
            "schema_version": SCHEMA_VERSION,
            "tasks": list(tasks),
            "weights_sha256": weights_sha256,
            "revision": revision,
            "categories": list(categories),
            **({"category_ids": list(category_ids)} if category_ids else {}),
            **({"asked": dict(asked)} if asked else {}),
            **sections,
        }

    def published(self) -> dict[str, Any]:
        """The part that goes into the manifest: no secrets, nothing that only says where it ran."""
        data = self.model_dump(mode="json", exclude=_UNPUBLISHED)
        data["model"] = {
            k: v for k, v in data["model"].items() if k not in ("device", "batch_size", "compile")
        }
        return data


def config_fingerprint(label_config: Mapping[str, Any]) -> str:
    """128 bits of SHA-256 over the canonical JSON of `JobConfig.label_config`, hex."""
    text = json.dumps(label_config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def failure_limit(max_failures: str, images: int) -> int:
    """How many failed images a run of `images` may have and still exit 0.

    "any" allows all but every single one: a run in which nothing worked is no success. "auto"
    allows 5 %, or 10 where that is more, but never more than half.
    """
    if max_failures == "any":
        return max(images - 1, 0)
    if max_failures == "auto":
        return min(max(images // 20, 10), images // 2)
    return _share(max_failures, images)


def shrink_limit(max_shrink: str, images: int) -> int | None:
    """How many of `images` the input may have lost; None = any number."""
    return None if max_shrink == "any" else _share(max_shrink, images)


def _share(text: str, whole: int) -> int:
    if text.endswith("%"):
        return int(whole * Decimal(text[:-1]) / 100)  # 0.57 % of 10,000 is 57, not 56
    return int(text)
