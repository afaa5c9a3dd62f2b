"""Checks a dataset against the rules that its readers rely on, part by part."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.ledger.current import TABLES, stale_parts
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join

from .copies import CopyCheck
from .exports import check_exports_of
from .findings import RULES, Findings, ValidationReport, Violation
from .masks import check_masks
from .parts import check_manifest, read_checked
from .rows import ImageIndex, check_annotations, check_images

__all__ = ["RULES", "ValidationReport", "Violation", "validate"]


def validate(
    uri: str,
    storage: Storage | None = None,
    *,
    exports: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Reads the current version of a dataset, and its exports, and reports what breaks a rule.

    Holds one part in memory, and 16 bytes an image (24 more where there are label PNGs).

    Args:
        uri: Of the dataset.
        storage: File access.
        exports: Also what lies in <uri>/exports.
        progress: Called with (steps done, steps in all) after each part and each export.

    Raises:
        StorageError: The dataset cannot be reached.
        ValueError: `uri` holds no dataset of ours, or one of a newer schema version.
    """
    ledger = open_ledger(uri, storage)
    manifest, files = ledger.manifest, ledger.storage
    findings = Findings()
    index = ImageIndex()
    copies = CopyCheck(files, ledger.uri)
    images = annotations = 0
    for done, part in enumerate(manifest.parts, start=1):
        tables = read_checked(files, ledger.uri, part, manifest, findings)
        if tables is not None:
            images += len(tables[0])
            annotations += len(tables[1])
            index.add(tables[0])
            check_images(tables[0], findings)
            check_annotations(*tables, manifest, findings)
            check_masks(*tables, findings)
            copies.check(*tables, findings)
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
