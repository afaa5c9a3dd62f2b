"""Paths and URIs as text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.storage.uris import absolute_uri, beside, join, local_path, scheme


def test_local_paths_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("a/../b/") == str(tmp_path / "b")
    assert absolute_uri("file:///x/y/") == "/x/y"
    assert absolute_uri("~/x") == os.path.expanduser("~/x")
    assert absolute_uri("/data/train-{000..003}.tar") == "/data/train-{000..003}.tar"


def test_other_schemes_stay():
    assert absolute_uri("s3://bucket/a//b/") == "s3://bucket/a//b"
    assert absolute_uri("S3://bucket") == "s3://bucket"
    assert (scheme("s3://b/k"), scheme("/a"), scheme("a:b")) == ("s3", "file", "file")


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="empty path"):
        absolute_uri("")


def test_join_and_local_path():
    assert join("s3://b/", "/a/", "", "b.jpg") == "s3://b/a/b.jpg"
    assert join("/data", "a") == "/data/a"
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("file:///a") == Path("/a")
    assert local_path("s3://b/k") is None


def test_a_mistyped_path_is_compared_with_its_neighbours(tmp_path):
    for name in ("photos", "truth.json", ".photoss"):
        (tmp_path / name).mkdir()
    assert beside(str(tmp_path / "photoss")) == f"; did you mean '{tmp_path}/photos'?"
    assert beside(str(tmp_path / "Truth.json")) == f"; did you mean '{tmp_path}/truth.json'?"
    assert beside(str(tmp_path / "entirely-else")) == ""
    assert beside(str(tmp_path / "none" / "photos")) == ""
    assert beside("s3://bucket/photoss") == ""
