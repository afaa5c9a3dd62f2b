"""Which split a picture belongs to: a hash of its group, so that a group is never torn apart."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from schemas.config.augment import SplitConfig, SplitName


def group_of(config: SplitConfig, file_name: str, sha256: str) -> str:
    """What pictures of one group share.

    Args:
        config: The section.
        file_name: Of the picture.
        sha256: Of its bytes: its own group where `group` is not set or not found in the name.
    """
    found = re.search(config.group, file_name) if config.group else None
    return f"group {found[1]}" if found is not None and found[1] is not None else sha256


def split_of(config: SplitConfig, file_name: str, sha256: str) -> SplitName | None:
    """train, val or test; None where the section is off.

    Depends on the seed, the shares and the group alone: what other pictures there are does not
    matter, and a picture that is added moves no other one.
    """
    if not config.active:
        return None
    group = group_of(config, file_name, sha256)
    digest = hashlib.blake2b(f"{config.seed} {group}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < config.test:
        return "test"
    return "val" if place < config.test + config.val else "train"


def check_groups(config: SplitConfig, file_names: Any) -> None:
    """Sees that `group` is found in at least one name: a slip of the pen would group nothing.

    Args:
        config: The section.
        file_names: A column of strings.

    Raises:
        ValueError: It is found in none.
    """
    if not (config.active and config.group):
        return
    names = (name for chunk in file_names.chunks for name in chunk.to_pylist())
    first = None
    for name in names:
        if re.search(config.group, name):
            return
        first = first or name
    if first is not None:
        raise ValueError(
            f"split.group: {config.group!r} is found in no file name; the first is {first!r}"
        )
