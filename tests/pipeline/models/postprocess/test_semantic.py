"""The best category of every pixel, beside transformers', and what its score means."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_outputs import frame_of, noise, query_output, smooth
from transformers import (
    Mask2FormerImageProcessor,
    OneFormerImageProcessor,
    SegformerImageProcessor,
)

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.postprocess.semantic import merge_semantic, query_semantic


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    grid_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    picture_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rough=st.booleans(),
    path=st.sampled_from(["cells", "plain"]),
)
def test_equal_to_transformers_on_random_logits(seed, grid_hw, picture_hw, rough, path):
    logits = (noise if rough else smooth)(np.random.default_rng(seed), 7, grid_hw, 3.0)
    (found,) = merge_semantic([DenseOutput(logits, frame_of(picture_hw, grid_hw))], path=path)
    (theirs,) = SegformerImageProcessor.post_process_semantic_segmentation(
        None, SimpleNamespace(logits=logits[None]), target_sizes=[picture_hw]
    )
    differ = found.labels.long() - 1 != theirs
    if differ.any():
        resized = torch.nn.functional.interpolate(logits[None], picture_hw, mode="bilinear")[0]
        best = resized.topk(2, dim=0).values
        assert (best[0] - best[1])[differ].max() < 1e-5


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), hw=st.tuples(st.integers(2, 30), st.integers(2, 30)))
def test_queries_answer_as_oneformer_on_logits_of_the_picture_s_size(seed, hw):
    output = query_output(seed, picture_hw=hw, grid_hw=hw)
    maps = query_semantic(output, per_cell=True)
    (found,) = merge_semantic([maps])
    (theirs,) = OneFormerImageProcessor.post_process_semantic_segmentation(
        None,
        SimpleNamespace(
            class_queries_logits=output.class_logits[None],
            masks_queries_logits=output.mask_logits[None],
        ),
    )
    differ = found.labels.long() - 1 != theirs
    if differ.any():
        best = maps.logits.topk(2, dim=0).values
        assert (best[0] - best[1])[differ].max() < 1e-5


def test_queries_answer_as_mask2former_on_an_input_of_384():
    """Transformers, too, enlarges its mask logits to the input before their sigmoid is taken."""
    output = query_output(3, picture_hw=(384, 384), grid_hw=(96, 96), queries=5, rough=True)
    (found,) = merge_semantic([query_semantic(output)])
    (theirs,) = Mask2FormerImageProcessor.post_process_semantic_segmentation(
        None,
        SimpleNamespace(
            class_queries_logits=output.class_logits[None],
            masks_queries_logits=output.mask_logits[None],
        ),
    )
    assert (found.labels.long() - 1 != theirs).sum() <= 3  # sums of products in another order


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    grid_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    picture_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_the_order_is_enlarge_sigmoid_add_up(seed, grid_hw, picture_hw):
    """As the papers' code: logits to the input, probabilities there, and these to the picture."""
    output = query_output(seed, picture_hw=picture_hw, grid_hw=grid_hw, rough=True)
    maps = query_semantic(output)
    assert maps.logits.shape[1:] == output.frame.input_hw
    logits = torch.nn.functional.interpolate(
        output.mask_logits[None], output.frame.input_hw, mode="bilinear"
    )[0]
    categories = output.class_logits.softmax(-1)[:, :-1]
    expected = torch.einsum("qc,qhw->chw", categories, logits.sigmoid())
    torch.testing.assert_close(maps.logits, expected, atol=1e-5, rtol=1e-5)
    pixels = torch.nn.functional.interpolate(expected[None], picture_hw, mode="bilinear")[0]
    (found,) = merge_semantic([maps])
    differ = found.labels.long() - 1 != pixels.argmax(0)
    best = pixels.topk(2, dim=0).values
    assert not differ.any() or (best[0] - best[1])[differ].max() < 1e-5


def test_maps_are_added_up_in_parts(monkeypatch):
    from pipeline.models.postprocess import semantic as module

    output = query_output(5, picture_hw=(40, 30), grid_hw=(9, 7), rough=True)
    for per_cell in (False, True):
        whole = query_semantic(output, per_cell=per_cell).logits
        with monkeypatch.context() as patch:
            patch.setattr(module, "_LOGITS", 8 * 28 * 5)
            parts = query_semantic(output, per_cell=per_cell).logits
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("path", ["cells", "plain"])
@pytest.mark.parametrize("content", [1.0, 0.6])
@pytest.mark.parametrize("probabilities", [False, True])
def test_a_score_is_the_mean_probability_of_the_cells_that_see_the_picture(
    path, content, probabilities
):
    logits = smooth(np.random.default_rng(1), 5, (8, 10), 2.0)
    if probabilities:
        logits = logits.softmax(0) * 1.2  # sums over queries may exceed 1
    agreement = torch.rand((8, 10), generator=torch.Generator().manual_seed(0))
    frame = frame_of((33, 37), (8, 10), content)
    (found,) = merge_semantic(
        [DenseOutput(logits, frame, probabilities=probabilities, agreement=agreement)], path=path
    )
    share = logits.clamp(0, 1) if probabilities else logits.softmax(0)
    (top, left), (high, wide) = frame.offset_yx, frame.content_hw
    rows = slice(top // 4, -(-(top + high) // 4))
    columns = slice(left // 4, -(-(left + wide) // 4))
    inside, best = share[:, rows, columns], logits[:, rows, columns].argmax(0)
    for category in range(5):
        cells = best == category
        if cells.any():
            expected = inside[category][cells].mean().item()
            agreed = agreement[rows, columns][cells].mean().item()
            assert found.found.agreement is not None
            assert found.found.agreement[category] == pytest.approx(agreed, abs=1e-6)
        else:
            expected = inside[category].max().item()
        assert found.found.scores[category] == pytest.approx(expected, abs=1e-6)


def test_a_category_may_win_between_the_cells():
    """Second on both sides, best in the middle: its score is the most it reaches in a cell."""
    logits = torch.tensor([[[4.0, -4.0]], [[-4.0, 4.0]], [[1.0, 1.0]]])
    output = DenseOutput(
        logits, Frame((1, 16), (4, 8), (4, 8)), agreement=torch.tensor([[1.0, 0.5]])
    )
    (found,) = merge_semantic([output])
    assert set(found.labels.unique().tolist()) == {1, 2, 3}
    assert found.found.scores[2] == pytest.approx(logits.softmax(0)[2].max().item(), abs=1e-6)
    assert found.found.agreement is not None
    assert found.found.agreement.tolist() == [1, 0.5, 0.75]  # of no cell of its own: of all


def test_equal_values_go_to_the_first_category():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.integers(0, 2, (5, 9, 9)).astype(np.float32))
    frame = Frame((9, 9), (9, 9), (9, 9))
    for path in ("cells", "plain"):
        (found,) = merge_semantic([DenseOutput(logits, frame)], path=path)
        assert torch.equal(found.labels.long() - 1, torch.from_numpy(logits.numpy().argmax(0)))


def test_scores_of_long_grids_are_added_up_in_parts(monkeypatch):
    from pipeline.models.postprocess import semantic as module

    output = DenseOutput(
        smooth(np.random.default_rng(2), 4, (30, 9), 2.0), frame_of((50, 60), (30, 9))
    )
    (whole,) = merge_semantic([output])
    monkeypatch.setattr(module, "_AT_ONCE", {"cpu": 4 * 9 * 7})
    (parts,) = merge_semantic([output])
    assert (whole.found.scores == parts.found.scores).all()


def test_a_batch_is_its_pictures_in_any_memory_order():
    rng = np.random.default_rng(7)
    outputs = [
        DenseOutput(smooth(rng, 4, (5, 6), 3.0), frame_of((21, 18 + i), (5, 6))) for i in range(3)
    ]
    strided = [
        DenseOutput(one.logits.permute(1, 2, 0).contiguous().permute(2, 0, 1), one.frame)
        for one in outputs
    ]
    for a, b, c in zip(
        merge_semantic(outputs),
        merge_semantic(strided),
        [merge_semantic([one])[0] for one in outputs],
        strict=True,
    ):
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.labels, c.labels)
        np.testing.assert_allclose(a.found.scores, b.found.scores, atol=1e-6)
        assert (a.found.scores == c.found.scores).all()
    assert merge_semantic([]) == []
