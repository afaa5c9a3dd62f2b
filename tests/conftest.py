"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("maskmill", deadline=None)  # shared machines are slow at times
settings.load_profile("maskmill")

pytest_plugins = ["ci_skips", "ray_cluster", "report_datasets", "s3_server"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures and labels that is not part of the repository."""
    folder = Path(os.environ.get("MASKMILL_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("needs the shared test data: set MASKMILL_SHARED_DATA to its folder")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `gpu` needs one."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an accelerator")
