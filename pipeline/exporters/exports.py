"""Exports of a dataset: write them, know which version they are of, clear away old ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from pipeline.ledger.ledger import Ledger, read_manifest
from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.swap import Place, current_folder, rebuilt
from pipeline.storage.uris import absolute_uri, join, local_path
from schemas.config.export import ExportConfig
from schemas.manifest import DatasetManifest
from schemas.names import below

from .names import warn_of_names
from .table import (
    EXPORTERS,
    Artifact,
    Exporter,
    Renewable,
    Report,
    Standing,
    best_task,
    formats_of,
    make_exporter,
    open_exporter,
    options_of,
    suffixes_of,
)

# Which version of a dataset the files in a folder of exports were made from.


@dataclass(frozen=True, slots=True)
class ExportStamp:
    """What lies in a folder of exports; its file is exports.json.

    Attributes:
        datasets: format → SHA-256 of the manifest that it was made from and `EXPORT_VERSION`;
            "" while it is being written.
        artifacts: format → what it consists of, paths relative to the stamp.
        options: format → the keys of [export] that it was made with, where it has any.
        versions: format → number of the dataset's version, 0 where it is not known.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, storage: Storage, out: str) -> ExportStamp | None:
        """The stamp in this folder, None where there is none or a damaged one.

        What it names is removed later, so a stamp that names a file outside its folder is damaged.
        """
        try:
            data = json.loads(storage.read(join(out, "exports.json")))
            found = {
                name: tuple(Artifact(**artifact) for artifact in item["artifacts"])
                for name, item in data["formats"].items()
            }
            for artifact in chain.from_iterable(found.values()):
                if artifact.path != "./":
                    below(out, artifact.path)
            return cls(
                {name: str(item["dataset"]) for name, item in data["formats"].items()},
                found,
                {name: dict(item.get("options", {})) for name, item in data["formats"].items()},
                {name: int(item.get("version", 0)) for name, item in data["formats"].items()},
            )
        except (MissingError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(self, storage: Storage, out: str) -> None:
        """Replaces the stamp in this folder."""
        formats: dict[str, Any] = {
            name: {
                "dataset": self.datasets[name],
                "artifacts": [asdict(item) for item in self.artifacts[name]],
                **({"version": number} if (number := self.versions.get(name, 0)) else {}),
                **({"options": dict(own)} if (own := self.options.get(name)) else {}),
            }
            for name in sorted(self.datasets)
        }
        text = json.dumps({"formats": formats}, indent=1) + "\n"
        storage.write(join(out, "exports.json"), text.encode())


EXPORT_VERSION = 3
"""Raised when the files of a format change: exports of another version count as out of date."""


def export_all(
    ledger: Ledger,
    out: str | None = None,
    *,
    formats: Sequence[str] = (),
    config: ExportConfig | None = None,
) -> list[Artifact]:
    """Brings a dataset's folder of exports up to the ledger's version.

    The folder is replaced as a whole (`storage.swap`): a reader never finds one format of this
    version beside another of the last.

    What an earlier call wrote and this one does not is removed. Where the dataset holds several
    tasks, each format is made from the one that suits it best.

    Args:
        ledger: The dataset.
        out: The folder; <dataset>/exports if None.
        formats: Which; the ones that the task yields if empty.
        config: How; its `formats` are not asked.

    Returns:
        What was written, paths relative to `out`.

    Raises:
        StorageError: `out` cannot be written.
        ValueError: An unknown format, one that the task does not yield, or a damaged ledger.
    """
    out = absolute_uri(out) if out else join(ledger.uri, "exports")
    exporters = _exporters(ledger, formats, config)
    chosen = {
        name: options_of(exporter, config or ExportConfig()) for name, exporter in exporters.items()
    }
    made_of = [f"{name} {_identity(ledger.manifest, own)}" for name, own in chosen.items()]
    digest = hashlib.sha256(" ".join(made_of).encode()).hexdigest()
    version = f"{ledger.manifest.version:06d}-{digest[:12]}"
    ours = {item for name in EXPORTERS for item in _folders(make_exporter(name))}
    with rebuilt(ledger.storage, out, version=version, ours=ours) as place:
        artifacts = _export_into(ledger, place, exporters, chosen)
    if local_path(out) is None:
        _remove_unversioned(ledger.storage, out)
    warn_of_names(ledger, exporters.values())
    return artifacts


def _remove_unversioned(storage: Storage, out: str) -> None:
    """What an earlier program wrote beside the prefixes, where it would be taken for current."""
    old = ExportStamp.read(storage, out)
    if old is None:
        return
    for name, items in old.artifacts.items():
        for item in items:
            if item.path in _made_by(name):
                suffixes = suffixes_of(name)
                _remove(storage, below(out, item.path), suffixes, item.path.endswith("/"))
    storage.remove(join(out, "exports.json"))


def _folders(exporter: Exporter) -> set[str]:
    """Folders that a format writes to, relative to that of all exports."""
    inside = f"{exporter.folder}/{exporter.owns}" if exporter.owns else exporter.folder
    return {exporter.folder, inside}


def _export_into(
    ledger: Ledger,
    place: Place,
    exporters: Mapping[str, Exporter],
    chosen: Mapping[str, Mapping[str, Any]],
) -> list[Artifact]:
    storage, out = ledger.storage, place.uri
    shown = ExportStamp.read(storage, place.standing) if place.standing else None
    shown = shown or ExportStamp()
    old = shown if place.standing == out else ExportStamp()  # a new prefix begins empty
    # From here until the end the stamp promises nothing, but it still knows what there is.
    begun = dict.fromkeys({**old.datasets, **exporters}, "")
    known = {name: old.artifacts.get(name, ()) for name in begun}
    ExportStamp(begun, known).write(storage, out)
    written: dict[str, list[Artifact]] = {}
    for name, exporter in exporters.items():
        suited, folder = _suited(ledger, exporter), join(out, exporter.folder)
        if isinstance(exporter, Renewable):
            before = _made_of(ledger, exporter, shown, name)
            made = exporter.renew(suited, folder, before and Standing(before, place.keep))
        else:
            made = exporter.export(suited, folder)
        written[name] = [
            Artifact(_under(exporter.folder, item.path), item.kind, item.count) for item in made
        ]
    kept = {item.path for items in written.values() for item in items}
    for name, items in known.items():
        for item in items:
            if name not in written and item.path not in kept and item.path in _made_by(name):
                suffixes = suffixes_of(name)
                _remove(storage, below(out, item.path), suffixes, item.path.endswith("/"))
    done = {name: _identity(ledger.manifest, chosen[name]) for name in written}
    versions = dict.fromkeys(written, ledger.manifest.version)
    ExportStamp(done, written, chosen, versions).write(storage, out)
    return [item for items in written.values() for item in items]


def _made_of(ledger: Ledger, exporter: Exporter, old: ExportStamp, name: str) -> Ledger | None:
    """The version that an export of this format shows, if it is kept and surely that one."""
    number = old.versions.get(name, 0)
    if not number:
        return None
    try:
        uri = join(ledger.uri, "versions", f"{number:06d}.json")
        manifest = read_manifest(ledger.storage, uri)
    except MissingError:
        return None
    if old.datasets[name] != _identity(manifest, old.options.get(name, {})):
        return None
    before = Ledger(ledger.uri, manifest, ledger.storage)
    return None if manifest.tasks != ledger.manifest.tasks else _suited(before, exporter)


def exports_current(
    ledger: Ledger,
    out: str | None = None,
    formats: Sequence[str] = (),
    config: ExportConfig | None = None,
) -> bool:
    """Whether `export_all` with the same arguments would change nothing.

    Raises:
        ValueError: An unknown format, or one that the task does not yield.
    """
    out = current_folder(ledger.storage, absolute_uri(out) if out else join(ledger.uri, "exports"))
    wanted = {
        name: _identity(ledger.manifest, options_of(exporter, config or ExportConfig()))
        for name, exporter in _exporters(ledger, formats, config).items()
    }
    stamp = ExportStamp.read(ledger.storage, out)
    return (
        stamp is not None
        and dict(stamp.datasets) == wanted
        and all(
            ledger.storage.exists(join(out, item.path))
            for items in stamp.artifacts.values()
            for item in items
            # On an object store all files of a folder may lie in earlier prefixes.
            if item.count and (local_path(out) is not None or not item.path.endswith("/"))
        )
    )


def check_exports(ledger: Ledger, report: Report, out: str | None = None) -> tuple[str, ...]:
    """Reads a dataset's exports back and reports what is not as in the ledger.

    Args:
        ledger: A sound one.
        report: Takes the rule that is broken and one line about it.
        out: The folder of exports; <dataset>/exports if None.

    Returns:
        The formats that were compared: there, finished, and of the ledger's version.
    """
    out = current_folder(ledger.storage, absolute_uri(out) if out else join(ledger.uri, "exports"))
    storage = ledger.storage
    stamp = ExportStamp.read(storage, out) or ExportStamp()
    checked: list[str] = []
    for name in EXPORTERS:
        options = stamp.options.get(name, {})
        try:
            exporter = make_exporter(name, ExportConfig.parse(options))
        except ValueError as error:
            report("export-current", f"{name}: {error}")
            continue
        folder = join(out, exporter.folder)
        path = f"{exporter.folder}/{exporter.file}"
        there = storage.exists(join(out, path))
        if not there and name not in stamp.datasets:
            continue
        if stamp.datasets.get(name) != _identity(ledger.manifest, options):
            report("export-current", f"{path}: unfinished or of another version")
            continue
        checked.append(name)
        try:
            exporter.check(_suited(ledger, exporter), folder, report)
        except (MissingError, ValueError) as error:
            report("export-json", f"{path}: {error}")
    return tuple(checked)


def export(
    ledger: Ledger, name: str, out: str, *, config: ExportConfig | None = None
) -> list[Artifact]:
    """Writes one format straight into a folder of the caller's.

    A format with pictures takes a folder for itself, in which pictures that belong to no image
    are removed; so that folder must be new, empty, or one that this function filled before.

    Args:
        ledger: The dataset, or the view of one of its tasks.
        name: The format.
        out: The folder.
        config: How; its `formats` are not asked.

    Returns:
        What was written, paths relative to `out`.

    Raises:
        StorageError: `out` cannot be written.
        ValueError: An unknown format, one that the task does not yield, a folder that holds
            something else, or a damaged ledger.
    """
    out = absolute_uri(out)
    exporter = open_exporter(name, tasks=ledger.manifest.tasks, config=config)
    storage = ledger.storage
    old = ExportStamp.read(storage, out) or ExportStamp()
    _check_owned(storage, out, exporter, name, old)
    rest = {key: value for key, value in old.datasets.items() if key != name}
    others = {key: old.artifacts[key] for key in rest}
    options = {key: old.options[key] for key in rest if key in old.options}
    ExportStamp({**rest, name: ""}, {**others, name: ()}, options).write(storage, out)
    made = exporter.export(_suited(ledger, exporter), out)
    options[name] = options_of(exporter, config or ExportConfig())
    done = {**rest, name: _identity(ledger.manifest, options[name])}
    ExportStamp(done, {**others, name: made}, options).write(storage, out)
    warn_of_names(ledger, [exporter])
    return made


def _exporters(
    ledger: Ledger, formats: Sequence[str], config: ExportConfig | None
) -> dict[str, Exporter]:
    tasks = ledger.manifest.tasks
    wanted = formats or formats_of(tasks)
    return {name: open_exporter(name, tasks=tasks, config=config) for name in wanted}


def _suited(ledger: Ledger, exporter: Exporter) -> Ledger:
    """The dataset as a format wants it: of one task."""
    task = best_task(exporter, ledger.manifest.tasks)
    return ledger if task is None else ledger.view(task)


def _identity(manifest: DatasetManifest, options: Mapping[str, Any]) -> str:
    text = f"{EXPORT_VERSION}\n{json.dumps(dict(options), sort_keys=True)}\n{manifest.to_json()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _check_owned(
    storage: Storage, out: str, exporter: Exporter, name: str, stamp: ExportStamp
) -> None:
    if exporter.owns is None:
        return
    others = [key for key in stamp.datasets if key != name]
    folder = join(out, exporter.owns)
    if name in stamp.datasets and (exporter.owns or not others):
        return
    if storage.is_dir(folder) and next(storage.list(folder, hidden=True), None) is not None:
        raise ValueError(
            f"{folder} is not empty and holds no {name} export of its own; "
            "name a new folder: this format keeps one to itself"
        )


def _under(folder: str, path: str) -> str:
    return f"{folder}/" if path == "./" else f"{folder}/{path}"


def _made_by(name: str) -> set[str]:
    """Paths that a format writes: a stamp says what is there, not what may be removed."""
    if name not in EXPORTERS:
        return set()
    exporter = make_exporter(name)
    owned = (
        set() if exporter.owns is None else {_under(exporter.folder, f"{exporter.owns or '.'}/")}
    )
    return {_under(exporter.folder, exporter.file), *owned}


def _remove(storage: Storage, uri: str, suffixes: tuple[str, ...], folder: bool) -> None:
    if not folder:
        storage.remove(uri)
    elif storage.is_dir(uri):
        for entry in storage.list(uri, hidden=True):
            if entry.path.endswith(suffixes):
                storage.remove(entry.uri)
