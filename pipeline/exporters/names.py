"""Names that narrow readers break on: counted once an export, said in one line; names in XML."""

from __future__ import annotations

import hashlib
import logging
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.ledger.ledger import Ledger

from .coco_parts import looked_at
from .json_write import compute
from .table import Exporter

CARRIES_ALL = "coco-flat"
"""The format whose pictures have plain names of their own and lie upright beside the JSON."""

_INSIDE_FILES = r"\.(tar|tar\.gz|tgz|tar\.bz2|tar\.xz|tar\.zst|parquet)/"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_log = logging.getLogger(__name__)


def xml_name(name: str) -> str:
    """A name as XML can hold it: no reference stands for control characters, so they become "�"."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", name)


@dataclass(frozen=True, slots=True)
class NarrowNames:
    """How many images have a name or a file that some readers of a `file_name` break on.

    Attributes:
        same_stem: Differ from another in their suffix alone: one label file for both.
        dots: A dot in the stem, where readers cut a name at the first one.
        windows: A backslash or a colon, which mean folders and drives on Windows.
        turned: Stored turned: readers that pass over EXIF lay masks across.
        inside: Members of tars and rows of Parquet files: no path that can be opened.
    """

    same_stem: int
    dots: int
    windows: int
    turned: int
    inside: int


def narrow_names(ledger: Ledger) -> NarrowNames:
    """Counts over the images that were looked at; 8 bytes an image."""
    stems = array("Q")
    dots = windows = turned = inside = 0
    for table in ledger.images(["file_name", "status", "exif_orientation"]):
        kept = looked_at(table)
        names = kept["file_name"]
        bare = compute.replace_substring_regex(names, pattern=r"\.[^./]*$", replacement="")
        stems.extend(_hash(text) for text in bare.to_pylist())
        last = compute.replace_substring_regex(bare, pattern=r"^.*/", replacement="")
        dots += _count(compute.match_substring(last, "."))
        windows += _count(compute.match_substring_regex(names, r"[\\:]"))
        inside += _count(compute.match_substring_regex(names, _INSIDE_FILES))
        turned += _count(compute.greater(kept["exif_orientation"], 1))
    hashes = np.frombuffer(stems, np.uint64) if stems else np.zeros(0, np.uint64)
    counts = np.unique(hashes, return_counts=True)[1]
    return NarrowNames(int(counts[counts > 1].sum()), dots, windows, turned, inside)


def warn_of_names(ledger: Ledger, exporters: Iterable[Exporter]) -> None:
    """Says in the log what readers of these exports may break on, where it is so."""
    if not any(exporter.traits.names for exporter in exporters):
        return
    found = narrow_names(ledger)
    said = [
        text
        for count, text in (
            (found.same_stem, f"{found.same_stem:,} share their name but for the suffix"),
            (found.dots, f"{found.dots:,} have dots in their name"),
            (found.windows, f"{found.windows:,} have backslashes or colons in their name"),
            (found.turned, f"{found.turned:,} are stored turned (EXIF)"),
            (found.inside, f"{found.inside:,} lie inside tars or Parquet files"),
        )
        if count
    ]
    if said:
        _log.warning(
            "some readers of file_name will fail on these images: %s; "
            "format %s carries them all, upright and under plain names",
            ", ".join(said),
            CARRIES_ALL,
        )


def _count(flags: object) -> int:
    return int(compute.sum(flags).as_py() or 0)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
