"""Checks a dataset against the rules that its readers rely on, part by part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.ledger.current import TABLES, stale_parts
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.ledger.processes import map_in_order, processors
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.manifest import Part

from .copies import CopyCheck
from .exports import check_exports_of
from .findings import RULES, Findings, ValidationReport, Violation
from .masks import check_masks
from .parts import check_manifest, read_checked
from .rows import ImageIndex, check_annotations, check_images

_PARTS_A_WORKER = 8

__all__ = ["RULES", "ValidationReport", "Violation", "validate"]


@dataclass(frozen=True, slots=True, eq=False)
class PartFindings:
    """What came of one part.

    Attributes:
        images: Rows read.
        annotations: Rows read.
        index: Ids and names of its images.
        findings: What breaks a rule.
    """

    images: int
    annotations: int
    index: ImageIndex
    findings: Findings


class PartCheck:
    """Checks parts of a dataset, each by itself; picklable.

    Args:
        ledger: The dataset.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._copies = CopyCheck(ledger.storage, ledger.uri)

    def __call__(self, part: Part) -> PartFindings:
        """Reads a part and holds it against the rules."""
        ledger, findings, index = self._ledger, Findings(), ImageIndex()
        tables = read_checked(ledger, part, findings)
        if tables is None:
            return PartFindings(0, 0, index, findings)
        index.add(tables[0])
        check_images(tables[0], findings)
        check_annotations(*tables, ledger.manifest, findings)
        check_masks(*tables, findings)
        self._copies.check(*tables, findings)
        return PartFindings(len(tables[0]), len(tables[1]), index, findings)


def validate(
    uri: str,
    storage: Storage | None = None,
    *,
    exports: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Reads the current version of a dataset, and its exports, and reports what breaks a rule.

    Holds one part in memory, and 16 bytes an image (24 more where there are label PNGs).

    Args:
        uri: Of the dataset.
        storage: File access.
        exports: Also what lies in <uri>/exports.
        workers: Processes that share the parts; 0 = one a processor. The findings do not depend
            on it.
        progress: Called with (steps done, steps in all) after each part and each export.

    Raises:
        StorageError: The dataset cannot be reached.
        ValueError: `uri` holds no dataset of ours, or one of a newer schema version.
    """
    ledger = open_ledger(uri, storage)
    manifest, files = ledger.manifest, ledger.storage
    findings = Findings()
    index = ImageIndex()
    images = annotations = 0
    # A process needs a second or two before it can begin.
    many = min(workers or processors(), max(len(manifest.parts) // _PARTS_A_WORKER, 1))
    checks = map_in_order(PartCheck(ledger), manifest.parts, workers=many, name="validating")
    for done, found in enumerate(checks, start=1):
        images += found.images
        annotations += found.annotations
        index.merge(found.index)
        findings.merge(found.findings)
        if progress is not None:
            progress(done, len(manifest.parts))
    index.check(findings)
    check_manifest(manifest, findings)
    try:
        copy = files.read(join(ledger.uri, "versions", f"{manifest.version:06d}.json"))
    except StorageError:
        copy = b""
    if copy != manifest.to_json().encode():
        findings.add("manifest-version", "version", [manifest.version])
    # Exports are read in step with the ledger: there is no step to keep with a broken one.
    sound = not findings.violations()
    checked = check_exports_of(ledger, findings) if exports and sound else ()
    return ValidationReport(
        uri=ledger.uri,
        version=manifest.version,
        images=images,
        annotations=annotations,
        exports=checked,
        violations=findings.violations(),
        stale=sum(len(stale_parts(files, ledger.uri, manifest, table)) for table in TABLES),
    )
