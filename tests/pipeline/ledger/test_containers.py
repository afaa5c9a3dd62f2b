"""The containers table and what the manifest says of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.ledger.containers import left_out_json, read_containers, write_containers
from pipeline.ledger.ledger import open_ledger, publish, write_dataset
from pipeline.storage.storage import Storage
from schemas.categories import Categories
from schemas.containers import Container, LeftOut
from schemas.manifest import DatasetManifest

ROWS = [
    Container.of("/in/a.tar", 12),
    Container.of("/in/caf\udce9.tar", 3, "cut off: it ends inside b.jpg"),
    Container.of("/in/c.tar", 0, "the file is empty (0 bytes)"),
]


@pytest.fixture
def manifest(tmp_path):
    categories = Categories.from_json([{"id": 1, "name": "a", "isthing": True, "color": "#102030"}])
    ledger = write_dataset(str(tmp_path), [], categories=categories)
    return ledger.manifest


def test_a_round_trip(tmp_path, manifest):
    store = Storage()
    said = write_containers(store, str(tmp_path), ROWS)
    assert said == write_containers(store, str(tmp_path), ROWS)
    assert {k: v for k, v in said.items() if k != "table"} == {"ok": 1, "partial": 1, "failed": 1}
    left = left_out_json([LeftOut(".heic", "install maskmill[heif]", 300, True)])
    publish(store, str(tmp_path), replace(manifest, containers=said, left_out=left))
    again = open_ledger(str(tmp_path)).manifest
    assert again.left_out == ({"suffix": ".heic", "reason": "install maskmill[heif]",
                               "files": 300, "picture": True},)  # fmt: skip
    assert again.faulty_containers == 2
    found = read_containers(store, str(tmp_path), again)
    assert [row.status for row in found] == ["ok", "partial", "failed"]
    assert found[0] == ROWS[0]
    assert found[1].uri == "/in/caf\\udce9.tar"


def test_nothing_is_written_where_there_is_nothing_to_say(tmp_path, manifest):
    assert write_containers(Storage(), str(tmp_path), []) == {}
    data = json.loads(manifest.to_json())
    assert "containers" not in data
    assert "left_out" not in data
    assert DatasetManifest.from_json(manifest.to_json()) == manifest
    assert read_containers(Storage(), str(tmp_path), manifest) == []


@pytest.mark.parametrize(
    "path", ["../out/x.parquet", "containers/../../x", "/etc/passwd", "images/a"]
)
def test_a_manifest_names_no_table_elsewhere(tmp_path, manifest, path):
    with pytest.raises(ValueError, match="names a table of containers that is none"):
        read_containers(Storage(), str(tmp_path), replace(manifest, containers={"table": path}))
