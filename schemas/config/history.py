"""How much of a dataset's past is kept, and how far its files follow every change."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from .section import Section

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class HistoryConfig(Section):
    """What a run leaves as it stands, and what it forgets when it has published."""

    keep: Annotated[
        int,
        Field(
            ge=0,
            description="versions that stay, the current one too; older ones go and their files "
            "with them. 0 = all stay until jobs.versions --keep and --prune",
        ),
    ] = 0
    older_than: Annotated[
        str,
        Field(
            description="keep: younger versions stay too, e.g. 12h or 30d",
            pattern=r"^\d+(\.\d+)?[smhd]$",
        ),
    ] = "0s"
    max_removed: Annotated[
        float,
        Field(
            ge=0,
            le=0.9,
            description="share of a part's rows that may be out of date before the part is written "
            "anew: 0.2 makes a night write what changed, and readers look at removed/; 0 = every "
            "file holds current rows alone",
        ),
    ] = 0.0


def duration_s(text: str) -> float:
    """ "90s", "15m", "12h", "30d" as seconds.

    Raises:
        ValueError: It is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time; write 90s, 15m, 12h or 30d")
    return float(found[1]) * _SECONDS[found[2]]
