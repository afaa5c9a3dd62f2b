"""The smallest whole job: a folder of pictures, labelled by threshold in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.config.job import JobConfig


def otsu_job(folder: Path, output: str = "out", **changes: Any) -> JobConfig:
    """The job from `folder`/in into `folder`/`output`; changes are merged into its sections."""
    data: dict[str, Any] = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "otsu"},
        "execution": {"inline": True, "shard_size": 8},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return JobConfig.parse(data)
