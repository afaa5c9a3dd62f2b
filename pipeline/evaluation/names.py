"""Category names: which of two data sets mean the same, and a user's own list of such pairs."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from pipeline.storage import Storage, absolute_uri

SYNONYMS = (
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("dining table", "diningtable"),
    ("motorcycle", "motorbike"),
    ("potted plant", "pottedplant"),
    ("tv", "tvmonitor", "tv monitor", "television", "television set"),
)
"""Names of one category: in COCO, then in PASCAL VOC and others."""


def canonical(name: str) -> str:
    """One name for all ways of writing it: case, spaces, "-" and "_" do not matter."""
    plain = _plain(name)
    return _CANONICAL.get(plain, plain)


def read_category_map(uri: str, storage: Storage | None = None) -> dict[str, str]:
    """A JSON object: name in the predictions → name in the ground truth.

    Raises:
        ValueError: The file holds something else.
        StorageError: It cannot be read.
    """
    uri = absolute_uri(uri)
    try:
        data = orjson.loads((storage or Storage()).read(uri))
    except ValueError as error:
        raise ValueError(f"{uri} is not JSON: {error}") from None
    if not isinstance(data, Mapping) or not all(isinstance(v, str) for v in data.values()):
        raise ValueError(f'{uri} must be one JSON object of names: {{"predicted": "true", …}}')
    return dict(data)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


_CANONICAL = {_plain(name): _plain(group[0]) for group in SYNONYMS for name in group}
