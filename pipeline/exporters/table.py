"""The formats: which there are, what each needs, and what an exporter is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.ledger.ledger import Ledger
from schemas.config.export import ExportConfig
from schemas.records import Task
from schemas.suggest import nearest

EXPORTERS: dict[str, str] = {
    "coco-instances": "pipeline.exporters.coco_instances:CocoInstances",
    "coco-panoptic": "pipeline.exporters.coco_panoptic:CocoPanoptic",
    "coco-results": "pipeline.exporters.coco_instances:CocoResults",
    "semantic-png": "pipeline.exporters.semantic_png:SemanticPng",
    "semantic-png-stuffthing": "pipeline.exporters.semantic_png:StuffThingPng",
    "coco-polygons": "pipeline.exporters.coco_polygons:CocoPolygons",
    "coco-flat": "pipeline.exporters.coco_polygons:CocoFlat",
    "csv": "pipeline.exporters.csv_table:CsvTable",
    "label-studio": "pipeline.exporters.label_studio:LabelStudio",
    "cvat": "pipeline.exporters.cvat:Cvat",
    "geojson": "pipeline.exporters.geojson:GeoJson",
    "webdataset": "pipeline.exporters.webdataset:WebDataset",
    "hf": "pipeline.exporters.hf:HuggingFace",
    "voc": "pipeline.exporters.maps:VocMaps",
    "cityscapes": "pipeline.exporters.maps:CityscapesMaps",
    "ade20k": "pipeline.exporters.maps:Ade20kMaps",
    "overlays": "pipeline.exporters.overlays:Overlays",
    "yolo-seg": "pipeline.exporters.yolo:YoloSeg",
    "yolo-detect": "pipeline.exporters.yolo:YoloDetect",
}
"""Format → "module:class"; the class is built with those keys of [export] that it names."""

_DEFAULTS: dict[Task, tuple[str, ...]] = {
    "instance": ("coco-instances",),
    "semantic": ("semantic-png",),
    "panoptic": ("coco-instances", "coco-panoptic", "semantic-png"),
}


SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".txt", ".tar", ".parquet", ".geojson", ".xml")
"""Of the files in folders that exports own; nothing else in them is ever removed."""

Report = Callable[[str, str], None]
"""Takes the name of a broken rule (export-…) and one line: which entry, and how."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or a folder of files that an export wrote.

    Attributes:
        path: Relative to the export's folder; a folder ends in "/", the folder itself is "./".
        kind: The format.
        count: Annotations in a file, pictures in a folder.
    """

    path: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Traits:
    """What a format keeps of a dataset; docs/formats.md and the contract's tests go by it.

    Attributes:
        masks: What a reader gets back of a mask: "exact" to the pixel, "polygons" (exact in
            pycocotools at tolerance 0, at the edges' mercy elsewhere), "boxes", "mapped" to the
            categories of another data set, or "painted" over a picture.
        things_only: Stuff is left out.
        label_pngs: PNGs of labels an image.
        pictures: The input's pictures are carried along, so they must still be there.
        names: Images are known by their `file_name`, which narrow readers break on.
    """

    masks: Literal["exact", "polygons", "boxes", "mapped", "painted"] = "exact"
    things_only: bool = False
    label_pngs: int = 0
    pictures: bool = False
    names: bool = False


class Exporter(Protocol):
    """One format.

    Attributes:
        tasks: What it can be made from, the best first.
        folder: Where it lies under a dataset's exports/.
        owns: The folder inside the output that holds nothing but this export's pictures: "" is
            the output itself, None means that there is no such folder.
        file: The file, relative to the output, that is replaced last.
        options: Keys of [export] that change its files; the class is built with them.
        traits: What it keeps.
    """

    tasks: tuple[Task, ...]
    folder: str
    owns: str | None
    file: str
    options: tuple[str, ...]
    traits: Traits

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes the whole dataset in this format, part by part.

        The ledger holds one task, one of `tasks`: where a dataset holds several, its view.

        Every file is replaced atomically, the one that names the others last. Same ledger, same
        bytes.

        Raises:
            StorageError: The output cannot be written.
            ValueError: The ledger breaks its own rules.
        """
        ...

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Reads back what `export` wrote and reports what is not as in the ledger.

        Args:
            ledger: A sound one: of these, masks and order are not checked here.
            out: Where it lies.
            report: Called for each difference.

        Raises:
            ValueError: A file is damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """An export of an earlier version, of the same task and made in the same way.

    Attributes:
        ledger: The version.
        keep: Called with the URI that a file of the new export would have: whether it stays as it
            was in this one. False: it must be written.
    """

    ledger: Ledger
    keep: Callable[[str], bool]


@runtime_checkable
class Renewable(Protocol):
    """A format that leaves files of images alone whose rows are what they were."""

    def renew(self, ledger: Ledger, out: str, before: Standing | None) -> list[Artifact]:
        """As `Exporter.export`, but for the files that can be kept.

        Args:
            ledger: See `Exporter.export`.
            out: The folder.
            before: What it takes the place of; None = write all anew.
        """
        ...


def formats_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The formats that a dataset of these tasks is exported to unless told otherwise."""
    wanted = {name for task in tasks for name in _DEFAULTS[task]}
    return tuple(name for name in EXPORTERS if name in wanted)


def best_task(exporter: Exporter, tasks: Sequence[Task]) -> Task | None:
    """Which of a dataset's tasks a format is made from; None where it can be made from none."""
    return next((task for task in exporter.tasks if task in tasks), None)


def open_exporter(
    name: str, *, tasks: Sequence[Task], config: ExportConfig | None = None
) -> Exporter:
    """The exporter of a format, set up by [export].

    Raises:
        ValueError: No such format, or not one for datasets of these tasks.
    """
    if name not in EXPORTERS:
        raise ValueError(
            f"unknown format {name!r}{nearest(name, EXPORTERS)}; known: {', '.join(EXPORTERS)}"
        )
    exporter = make_exporter(name, config)
    if best_task(exporter, tasks) is None:
        raise ValueError(
            f"format {name} needs a dataset of task {' or '.join(exporter.tasks)}, "
            f"this one's is {' and '.join(tasks)}"
        )
    return exporter


def make_exporter(name: str, config: ExportConfig | None = None) -> Exporter:
    """The exporter of a key of `EXPORTERS`, whatever the dataset."""
    module, _, cls = EXPORTERS[name].partition(":")
    made = getattr(importlib.import_module(module), cls)
    return made(**options_of(made, config or ExportConfig()))


def options_of(exporter: Exporter | type[Exporter], config: ExportConfig) -> dict[str, Any]:
    """Key of [export] → value, for those that change this exporter's files."""
    return {key: getattr(config, key) for key in exporter.options}


def suffixes_of(name: str) -> tuple[str, ...]:
    """What a format's files in a folder of its own may end in; the rest there is somebody's."""
    plain = name not in EXPORTERS or make_exporter(name).traits.label_pngs
    return (".png",) if plain else SUFFIXES
