"""Compiling where it pays: chosen once a run, and every worker does as it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.devices.compile_choice import CompileChoice, compile_choice, compile_folder
from pipeline.storage.storage import Storage
from schemas.config.job import StorageConfig


class Model:
    """Segments a batch in a second while it is new, then in `batch_s`, by a clock of its own."""

    def __init__(self, batch_s: float) -> None:
        self.batch_s = batch_s
        self.now = 0.0
        self.calls = 0

    def segment(self) -> None:
        self.calls += 1
        self.now += 1.0 if self.calls < 3 else self.batch_s

    def clock(self) -> float:
        return self.now


@pytest.fixture
def storage() -> Storage:
    return Storage(StorageConfig())


@pytest.mark.parametrize(
    ("images", "image_s", "warm", "compiled"),
    [
        (30_000, 0.010, False, True),  # wins 75 s, costs 45
        (10_000, 0.010, False, False),  # wins 25
        (10_000, 0.010, True, True),  # costs 8
        (100, 0.010, True, False),
        (10_000, 0.050, False, True),
    ],
)
def test_compiling_is_chosen_where_it_pays(
    storage: Storage, tmp_path: Path, images: int, image_s: float, warm: bool, compiled: bool
) -> None:
    uri, model = compile_choice(str(tmp_path), "f00d"), Model(8 * image_s)
    choice = CompileChoice(storage, uri, clock=model.clock)
    assert choice.settle(model.segment, pictures=8, images=images, warm=warm) is compiled
    assert f"{images} images a worker, {1000 * image_s:.1f} ms each" in choice.told
    assert ("not compiled" in choice.told) is not compiled
    assert model.calls == 3


def test_what_one_worker_chose_holds_for_all_of_the_run(storage: Storage, tmp_path: Path) -> None:
    uri, quick, slow = compile_choice(str(tmp_path), "f00d"), Model(0.01), Model(5.0)
    first = CompileChoice(storage, uri, clock=quick.clock)
    assert first.settle(quick.segment, pictures=8, images=1000, warm=False) is False
    second = CompileChoice(storage, uri, clock=slow.clock)
    assert second.settle(slow.segment, pictures=8, images=1000, warm=False) is False
    assert (second.told, slow.calls) == ("", 0)
    # Another that had begun to measure before the first had written:
    late = CompileChoice(storage, uri, clock=slow.clock)
    read = late._read
    late._read = lambda: read() if slow.calls else None
    assert late.settle(slow.segment, pictures=8, images=1000, warm=False) is False
    assert (late.told, slow.calls) == ("", 3)


def test_a_model_that_fails_decides_nothing(storage: Storage, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("x")

    choice = CompileChoice(storage, compile_choice(str(tmp_path), "f00d"))
    assert choice.settle(fail, pictures=8, images=10**6, warm=True) is None
    assert not list(tmp_path.iterdir())


def test_each_model_has_a_folder_for_its_code(tmp_path: Path) -> None:
    assert compile_folder("", "abc") is None
    assert compile_folder(str(tmp_path), "ab" * 32) == tmp_path / ("ab" * 8)
    assert compile_folder(str(tmp_path), "") == tmp_path / "weightless"
