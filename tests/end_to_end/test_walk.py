"""The walk of one image through `jobs.label`: how many of our functions and files it passes.

From the shard being given to a worker in this process until its receipt returns, on the main
thread; reading and decoding go on in threads beside it. Whoever adds a layer meets this test.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from source_tree import ROOT

from pipeline.engine import execute
from pipeline.engine.run import label
from pipeline.ledger.ledger import open_ledger
from schemas.config.job import JobConfig
from tests.support.pictures import write_pictures
from tests.support.tiny_checkpoints import checkpoint

FUNCTIONS, FILES = 100, 30
"""At most; 100 and 28 when this was written."""

OURS = (f"{ROOT}/pipeline/", f"{ROOT}/schemas/")


def walk(call: Callable[[], Any]) -> tuple[Any, dict[str, None]]:
    """What `call` returns, and each of our functions that it passed, "file:name" in order."""
    passed: dict[str, None] = {}

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        named = code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != "<"  # no class body
        if event == "call" and named and code.co_filename.startswith(OURS):
            passed[f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"] = None

    sys.setprofile(look)
    try:
        return call(), passed
    finally:
        sys.setprofile(None)


def test_one_image_passes_few_functions_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", 1)
    passed: dict[str, None] = {}
    run = execute._ShardCaller.run

    def watched(*arguments: Any) -> Any:
        receipt, found = walk(lambda: run(*arguments))
        passed.update(found)
        return receipt

    monkeypatch.setattr(execute._ShardCaller, "run", watched)
    config = JobConfig.model_validate(
        {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": str(checkpoint("mobilenetv2")), "device": "cpu"},
            "execution": {"inline": True},
        }
    )
    label(config, export=False, report=False)
    (row, segments) = next(open_ledger(str(tmp_path / "out")).rows())
    assert row["status"] == "ok"
    assert segments
    files = {name.partition(":")[0] for name in passed}
    story = "\n".join(passed)
    assert len(passed) <= FUNCTIONS, f"{len(passed)} functions:\n{story}"
    assert len(files) <= FILES, f"{len(files)} files:\n" + "\n".join(sorted(files))
