"""Passes: batches of one shape, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipeline.models.network.forward import Passes, Shapes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting everything that the test session holds takes half a second each time."""
    monkeypatch.setattr("gc.collect", lambda: 0)


SMALL: Shapes = ((64, 64),)
LARGE: Shapes = ((128, 96),)


class FakeNet:
    """Answers with the index; holds at most `room` pixels at once, as a GPU would."""

    def __init__(self, shapes: list[Shapes], room: int = 10**9) -> None:
        self.shapes = shapes
        self.room = room
        self.batches: list[list[int]] = []
        self.announced: list[list[int]] = []

    def __call__(self, some: list[int], after: list[int]) -> list[int]:
        self.batches.append(some)
        self.announced.append(after)
        if sum(height * width for i in some for height, width in self.shapes[i]) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [10 * index for index in some]


def run(passes: Passes, net: FakeNet) -> list[int | str]:
    work: Callable[[list[int], list[int]], list[int | str]] = net  # pyright: ignore
    return passes.run(net.shapes, work, lambda index, why: f"{index}: {why}")


def test_batches_hold_one_shape_and_answers_keep_their_order():
    net = FakeNet([SMALL, LARGE, SMALL, SMALL, LARGE, SMALL])
    assert run(Passes(3), net) == [0, 10, 20, 30, 40, 50]
    assert net.batches == [[0, 2, 3], [5], [1, 4]]
    assert net.announced == [[5], [1, 4], []], "what comes next is known"
    assert run(Passes(3), FakeNet([])) == []


def test_views_are_part_of_the_shape():
    net = FakeNet([((64, 64), (32, 32)), ((64, 64), (48, 48)), ((64, 64), (32, 32))])
    run(Passes(8), net)
    assert net.batches == [[0, 2], [1]]


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered():
    passes = Passes(8)
    net = FakeNet([LARGE] * 11, room=3 * 128 * 96)
    assert run(passes, net) == [10 * index for index in range(11)]
    assert [len(some) for some in net.batches] == [8, 4, 2, 2, 2, 2, 2, 1]
    again = FakeNet([LARGE] * 4, room=3 * 128 * 96)
    run(passes, again)
    assert [len(some) for some in again.batches] == [2, 2]
    assert passes.limit(((256, 256),)) == 2, "larger inputs, too"
    assert passes.limit(SMALL) == 8, "smaller ones may still fit"


def test_a_picture_too_large_even_alone_fails_alone_and_says_what_to_do():
    net = FakeNet([LARGE, SMALL, LARGE], room=64 * 64)
    first, second, third = run(Passes(4), net)
    assert second == 10
    assert str(first).startswith("0: out of GPU memory with one picture alone (input of 128 × 96")
    assert "tiling.size" in str(first)
    assert str(third).startswith("2: ")


def test_libraries_that_run_out_of_memory_say_it_otherwise():
    def work(some: list[int], after: list[int]) -> list[int]:
        if len(some) > 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
        return some

    assert Passes(4).run([SMALL] * 3, work, lambda index, why: -1) == [0, 1, 2]


def test_other_errors_pass_through():
    def broken(some: list[int], after: list[int]) -> list[int]:
        raise ValueError(f"no {some}")

    with pytest.raises(ValueError, match=r"no \[0\]"):
        Passes(2).run([SMALL], broken, lambda index, why: index)

    def illegal(some: list[int], after: list[int]) -> list[int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        Passes(2).run([SMALL], illegal, lambda index, why: index)


def test_nothing_of_a_failed_attempt_is_kept():
    class Tensor:
        alive = 0

        def __init__(self) -> None:
            Tensor.alive += 1

        def __del__(self) -> None:
            Tensor.alive -= 1

    seen: list[int] = []

    def work(some: list[int], after: list[int]) -> list[int]:
        seen.append(Tensor.alive)
        held = Tensor()
        if len(some) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        del held
        return some

    assert Passes(4).run([SMALL] * 2, work, lambda index, why: index) == [0, 1]
    assert seen == [0, 0, 0]
