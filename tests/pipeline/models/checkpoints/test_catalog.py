"""The catalog: every entry can be described, and says nothing that libraries contradict."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from torchvision.models import detection, segmentation

from pipeline.models.checkpoints import catalog as module
from pipeline.models.checkpoints.architecture import PUBLISHED
from pipeline.models.checkpoints.catalog import catalog, entry_of
from pipeline.models.checkpoints.category_tables import category_table
from pipeline.models.checkpoints.families import BUNDLED, FAMILIES, promptable
from schemas.records import TASKS

NAMES = [*catalog()]
TORCHVISION = [name for name in NAMES if catalog()[name].weights]


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_whole(name: str) -> None:
    entry = catalog()[name]
    assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9]+)*", name)
    assert entry.family in FAMILIES
    assert entry.tasks
    assert set(entry.tasks) <= set(TASKS)
    assert entry.licence
    assert entry.input
    assert 0 < entry.parameters < 10_000
    assert "equal to" in entry.checked
    assert len(entry.checked) < 200
    if entry.categories:
        table = category_table(entry.categories)
        assert entry.tasks != ("instance",) or all(item.isthing for item in table.categories)
    else:
        assert promptable(entry.family) is not None
    if entry.file:
        assert not entry.repo
        assert bool(entry.weights) != bool(entry.origin)
        assert entry.architecture
        assert not entry.origin or PUBLISHED[entry.file] == entry.architecture
    else:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo)
        assert re.fullmatch(r"[0-9a-f]{40}|refs/pr/\d+|main", entry.revision)
    assert entry.pinned == bool(entry.weights or len(entry.revision) == 40)


def test_names_and_repositories_are_unique_and_none_is_bundled() -> None:
    groups = tomllib.loads(Path(module.__file__).with_name("catalog.toml").read_text())
    assert groups.pop("checked").keys() == {entry.family for entry in catalog().values()}
    assert sum(len(group["models"]) for group in groups.values()) == len(NAMES)
    repos = [entry.repo for entry in catalog().values() if entry.repo]
    assert len(set(repos)) == len(repos)
    assert not set(NAMES) & set(BUNDLED)


def test_an_entry_is_found_by_its_hub_id() -> None:
    entry = catalog()["segformer-b0-ade"]
    assert entry_of(entry.repo) is entry
    assert entry_of("") is None
    assert entry_of("nobody/nothing") is None


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_knows_the_weights_by_these_names(name: str) -> None:
    entry = catalog()[name]
    enumeration, _, member = entry.weights.partition(".")
    package = detection if entry.family == "maskrcnn" else segmentation
    weights = getattr(package, enumeration)[member]
    assert weights.url.endswith(f"/{entry.file}")
    assert weights.meta["num_params"] == pytest.approx(entry.parameters * 1e6, rel=0.01)
    assert hasattr(package, entry.architecture)


def test_all_of_torchvisions_weights_are_there() -> None:
    published = {
        f"{name}.{member.name}"
        for package, pattern in ((segmentation, ""), (detection, "MaskRCNN"))
        for name in dir(package)
        if name.endswith("_Weights") and name.startswith(pattern)
        for member in getattr(package, name)
    }
    assert published == {catalog()[name].weights for name in TORCHVISION}


def test_no_host_is_named() -> None:
    text = Path(module.__file__).with_name("catalog.toml").read_text()
    assert "://" not in text
    assert ".co/" not in text
