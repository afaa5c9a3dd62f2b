"""A Ray of our own leaves nothing behind, however its run ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.engine import session as module
from pipeline.engine.session import sweep_ray_folders
from pipeline.storage.processes import process_born


def test_folders_of_runs_that_are_gone_are_swept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TEMP", tmp_path)
    pid = os.getpid()
    for name, owner in (
        ("mm-dead", "999999999 1"),
        ("mm-again", f"{pid} 1"),
        ("mm-mine", f"{pid} {process_born(pid)}"),
        ("mm-strange", "who knows"),
        ("other", "999999999 1"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "maskmill-owner").write_text(owner)
    (tmp_path / "mm-older").mkdir()  # of a program that left no owner: not ours to judge
    sweep_ray_folders()
    assert sorted(os.listdir(tmp_path)) == ["mm-mine", "mm-older", "mm-strange", "other"]


def test_a_start_that_fails_is_tried_once_more(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TEMP", tmp_path)
    given: list[dict[str, object]] = []

    class Ray:
        def init(self, **options: object) -> None:
            given.append(options)
            if len(given) < 2 or fails:
                raise Exception("The current node timed out during startup")

        def shutdown(self) -> None:
            pass

    fails = False
    folder = module._connect(Ray(), "", {})
    assert [options["_node_ip_address"] for options in given] == ["127.0.0.1"] * 2
    assert os.listdir(tmp_path) == [Path(folder).name]
    fails = True
    with pytest.raises(module.ExecutionError, match="timed out during startup"):
        module._connect(Ray(), "", {})
    assert os.listdir(tmp_path) == [Path(folder).name]
