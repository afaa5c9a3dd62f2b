"""What a night over an object store asks for: the counts that docs/scaling.md goes by."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.night_inputs import LAYOUTS
from bench.request_count import requests_counted
from pipeline.engine.run import label
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig

COUNT = 40
STEPS = 44
"""Requests of a run that finds nothing to do, but for the pages of listings."""


def test_requests_of_a_night(s3_server: Any) -> None:
    bucket, storage = s3_server.new_bucket(), Storage(s3_server.config)
    given = LAYOUTS["folder"](f"{bucket}/in", COUNT, storage)

    def night() -> Counter[str]:
        data = {
            "input": {"uri": f"{bucket}/in"},
            "output": f"{bucket}/out",
            "model": {"name": "otsu"},
            "task": "panoptic",
            "execution": {"inline": True, "shard_size": 10},
            "history": {"keep": 2, "max_removed": 0.5},
        }
        config = JobConfig.parse(data).model_copy(update={"storage": s3_server.config})
        with requests_counted() as counts:
            assert label(config, report=False).manifest.counts["images"] == COUNT
        return counts

    first = night()
    assert first["GET"] < 2 * COUNT
    assert first["PUT"] < 2 * COUNT + 40
    assert first["HEAD"] <= 3
    nothing = night()
    kinds = ("LIST", "HEAD", "GET", "PUT", "COPY", "DELETE")
    assert sum(nothing[kind] for kind in kinds) <= STEPS
    assert nothing["received"] < 100_000
    given.change([3])
    one = night()
    assert one["PUT"] <= 2 + 30  # its PNGs, and what a version has of files
    assert one["GET"] <= 1 + 2 * 5 + 40  # it, each part's two files, and what a run looks at
    assert one["HEAD"] <= 2
