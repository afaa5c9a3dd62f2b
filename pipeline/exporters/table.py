"""The formats: which there are, what each needs, and what an exporter is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.ledger.ledger import Ledger
from schemas.records import Task
from schemas.suggest import nearest

EXPORTERS: dict[str, str] = {
    "coco-instances": "pipeline.exporters.coco_instances:CocoInstances",
    "coco-panoptic": "pipeline.exporters.coco_panoptic:CocoPanoptic",
    "coco-results": "pipeline.exporters.coco_instances:CocoResults",
    "semantic-png": "pipeline.exporters.semantic_png:SemanticPng",
    "semantic-png-stuffthing": "pipeline.exporters.semantic_png:StuffThingPng",
}
"""Format → "module:class"; the class is built without arguments."""

_DEFAULTS: dict[Task, tuple[str, ...]] = {
    "instance": ("coco-instances",),
    "semantic": ("semantic-png",),
    "panoptic": ("coco-instances", "coco-panoptic", "semantic-png"),
}


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


class Exporter(Protocol):
    """One format.

    Attributes:
        tasks: What it can be made from, the best first.
        folder: Where it lies under a dataset's exports/.
        owns: The folder inside the output that holds nothing but this export's pictures: "" is
            the output itself, None means that there is no such folder.
        file: The file, relative to the output, that is replaced last.
    """

    tasks: tuple[Task, ...]
    folder: str
    owns: str | None
    file: str

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


def formats_of(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The formats that a dataset of these tasks is exported to unless told otherwise."""
    wanted = {name for task in tasks for name in _DEFAULTS[task]}
    return tuple(name for name in EXPORTERS if name in wanted)


def best_task(exporter: Exporter, tasks: Sequence[Task]) -> Task | None:
    """Which of a dataset's tasks a format is made from; None where it can be made from none."""
    return next((task for task in exporter.tasks if task in tasks), None)


def open_exporter(name: str, *, tasks: Sequence[Task]) -> Exporter:
    """The exporter of a format.

    Raises:
        ValueError: No such format, or not one for datasets of these tasks.
    """
    if name not in EXPORTERS:
        raise ValueError(
            f"unknown format {name!r}{nearest(name, EXPORTERS)}; known: {', '.join(EXPORTERS)}"
        )
    exporter = make_exporter(name)
    if best_task(exporter, tasks) is None:
        raise ValueError(
            f"format {name} needs a dataset of task {' or '.join(exporter.tasks)}, "
            f"this one's is {' and '.join(tasks)}"
        )
    return exporter


def make_exporter(name: str) -> Exporter:
    """The exporter of a key of `EXPORTERS`, whatever the dataset."""
    module, _, cls = EXPORTERS[name].partition(":")
    return getattr(importlib.import_module(module), cls)()
