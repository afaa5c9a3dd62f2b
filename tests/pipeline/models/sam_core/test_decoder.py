"""The rearranged decoder against each implementation's own."""

from __future__ import annotations

import pytest
import torch
from tiny_sam import KINDS, tiny_edgetam, tiny_sam

from pipeline.models.sam_core.net import PackageSam, SamNet, TransformersSam, inference

EVERY = (*KINDS, "edgetam", "sam3_tracker")


def net_of(kind: str) -> tuple[SamNet, torch.dtype]:
    # The package's positions are float32 whatever the weights are.
    dtype = torch.float32 if kind == "package" else torch.float64
    made = tiny_edgetam() if kind == "edgetam" else tiny_sam(kind)
    model = inference(made, "cpu", dtype)
    return (PackageSam if kind == "package" else TransformersSam)(model), dtype


def prompts_of(net: SamNet, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    points = torch.rand(5, 1, 2).to(dtype) * net.side
    two = torch.rand(5, 2, 2).to(dtype) * net.side
    boxes = (torch.rand(5, 2, 2).to(dtype) * net.side).sort(1).values.flatten(1)
    return {
        "points": net.points(points, torch.ones(5, 1)),
        "in and out": net.points(two, torch.tensor([[1, 0]] * 5)),
        "boxes": net.boxes(boxes, None, None),
        "boxes and points": net.boxes(boxes, points, torch.ones(5, 1)),
    }


@pytest.mark.parametrize("kind", EVERY)
def test_masks_and_quality_are_those_of_the_implementation(kind: str) -> None:
    net, dtype = net_of(kind)
    close = 1e-9 if dtype == torch.float64 else 1e-5
    with torch.inference_mode():
        pictures = net.encode(torch.randn(2, 3, net.side, net.side, dtype=dtype))
        for picture in pictures:
            for name, prompts in prompts_of(net, dtype).items():
                masks, iou = net.reference(picture, prompts)
                decoded = net.fast.decode(picture.embedding, prompts)
                wanted = torch.arange(1, net.mask_tokens + (net.hq_token is not None))
                found = net.fast.masks(picture.embedding, decoded, wanted)
                quality = decoded.predicted_iou[:, 1:]
                if net.hq_token is not None:  # its alternatives come best first, refined
                    quality, order = quality.sort(1, descending=True)
                    found = found[:, :-1] + found[:, -1:]
                    found = found.gather(1, order[..., None, None].expand_as(found))
                scale = masks.abs().max()
                assert (found - masks).abs().max() < close * scale, name
                assert (quality - iou).abs().max() < close * max(1, float(iou.abs().max())), name


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_and_pictures_do_not_see_their_neighbours(kind: str) -> None:
    net, dtype = net_of(kind)
    with torch.inference_mode():
        pixels = torch.randn(2, 3, net.side, net.side, dtype=dtype)
        both, alone = net.encode(pixels)[1], net.encode(pixels[1:])[0]
        torch.testing.assert_close(both.embedding.cells, alone.embedding.cells)
        prompts = prompts_of(net, dtype)["points"]
        many = net.fast.decode(both.embedding, prompts)
        one = net.fast.decode(both.embedding, prompts[2:3])
        torch.testing.assert_close(many.predicted_iou[2:3], one.predicted_iou)
        wanted = torch.tensor([2])
        torch.testing.assert_close(
            net.fast.masks(both.embedding, many, wanted)[2:3],
            net.fast.masks(both.embedding, one, wanted),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_gpu_records_for_a_few_prompts_is_what_is_drawn_plainly(kind: str) -> None:
    net, dtype = net_of(kind)
    with torch.inference_mode():
        picture = net.encode(torch.randn(1, 3, net.side, net.side, dtype=dtype))[0].embedding
        prompts = prompts_of(net, dtype)["points"]
        wanted = list(range(net.mask_tokens + (net.hq_token is not None)))
        plain = net.fast.ask(picture, prompts, wanted)
        extra = [each for each in (*(picture.fine or ()), picture.hq) if each is not None]
        given = (picture.cells, picture.position, prompts, *extra)
        for one, other in zip(net.fast._drawn(picture.grid_hw, wanted, *given), plain, strict=True):
            assert torch.equal(one, other)


def test_transformers_hq_decoder_reads_the_wrong_cells() -> None:
    """Why `reference` mends it: without that, its masks do not depend on the prompt's cells."""
    net, dtype = net_of("sam_hq")
    assert isinstance(net, TransformersSam)
    with torch.inference_mode():
        picture = net.encode(torch.randn(1, 3, net.side, net.side, dtype=dtype))[0]
        prompts = prompts_of(net, dtype)["points"]
        model = net._model
        plain = model.mask_decoder(
            image_embeddings=picture.raw,
            image_positional_embeddings=net._position,
            sparse_prompt_embeddings=prompts[None],
            dense_prompt_embeddings=net._no_mask.expand(1, -1, *picture.raw.shape[-2:]),
            multimask_output=True,
            hq_token_only=False,
            intermediate_embeddings=picture.extra,
        )[0][0]
        mended = net.reference(picture, prompts)[0]
        assert (plain - mended).abs().max() > 0.01 * mended.abs().max(), (
            "transformers reads the right cells now: `_HqOracle` can go"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_places_stay_exact_in_half_precision(kind: str) -> None:
    nets = [
        (PackageSam if kind == "package" else TransformersSam)(
            inference(tiny_sam(kind), "cpu", dtype)
        )
        for dtype in (torch.float32, torch.bfloat16)
    ]
    points, inside = torch.tensor([[[61.3, 9.7]], [[61.5, 9.7]]]), torch.ones(2, 1)
    with torch.inference_mode():
        exact, half = (net.points(points, inside) for net in nets)
        assert (half.dtype, nets[1].dtype) == (torch.bfloat16, torch.bfloat16)
        torch.testing.assert_close(half, exact.bfloat16(), rtol=0, atol=0)
        (picture,) = nets[1].encode(torch.randn(1, 3, 64, 64, dtype=torch.bfloat16))
        assert picture.embedding.cells.dtype == picture.embedding.position.dtype == torch.bfloat16
        decoded = nets[1].fast.decode(picture.embedding, half)
        logits = nets[1].fast.masks(picture.embedding, decoded, torch.arange(2))
        assert logits.isfinite().all()
        assert nets[1].reference(picture, half)[0].isfinite().all()
