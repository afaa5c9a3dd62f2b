"""Vectors are those of transformers, for pictures and for texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_embedders import SIDE, embedder_checkpoint
from torch.nn.functional import normalize

from pipeline.models.checkpoints.info import describe
from pipeline.models.naming.embedder import Embedder, cosines
from schemas.config.model import ModelConfig

OPTIONS = ModelConfig(name="x")
TEXTS = ("a dog", "things, with wings", "x" * 9)


def loaded(name: str, texts: tuple[str, ...] = TEXTS) -> Embedder:
    embedder = Embedder(describe(str(embedder_checkpoint(name))), OPTIONS, texts)
    embedder.load("cpu")
    return embedder


def theirs(name: str) -> Any:
    return transformers.AutoModel.from_pretrained(embedder_checkpoint(name)).eval()


def pooled(answer: Any) -> torch.Tensor:
    return answer if isinstance(answer, torch.Tensor) else answer.pooler_output


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2", "dinov2"])
def test_pictures(name: str) -> None:
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    model = theirs(name)
    with torch.no_grad():
        if name == "dinov2":
            expected = model(pixel_values=pixels).pooler_output
        else:
            expected = pooled(model.get_image_features(pixel_values=pixels))
    found = loaded(name, () if name == "dinov2" else TEXTS).pictures(pixels)
    torch.testing.assert_close(found, normalize(expected, dim=-1), rtol=0, atol=1e-4)


def test_naflex_sees_a_square_as_its_processor_cuts_it() -> None:
    """18 patches at most: a square has 16, and the processor fills up what is left."""
    folder = embedder_checkpoint("siglip2-naflex")
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    square = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    given = processor(images=[square], return_tensors="pt")
    assert given["spatial_shapes"].tolist() == [[4, 4]]
    model = theirs("siglip2-naflex")
    with torch.no_grad():
        expected = pooled(model.get_image_features(**given))
    embedder = loaded("siglip2-naflex")
    assert (embedder.rule.side, embedder.rule.patch) == (SIDE, 8)
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = embedder.pictures(pixels)
    torch.testing.assert_close(found, normalize(expected, dim=-1), rtol=0, atol=1e-4)


def test_texts_of_clip_are_those_of_its_processor() -> None:
    processor: Any = transformers.AutoProcessor.from_pretrained(embedder_checkpoint("clip"))
    model = theirs("clip")
    with torch.no_grad():
        given = processor(text=list(TEXTS), padding=True, return_tensors="pt")
        expected = pooled(model.get_text_features(**given))
    embedder = loaded("clip")
    torch.testing.assert_close(embedder.texts(), normalize(expected, dim=-1), rtol=0, atol=1e-4)
    assert embedder.scale == pytest.approx(model.logit_scale.exp().item())
    assert embedder.bias == 0


@pytest.mark.parametrize("name", ["siglip", "siglip2", "siglip2-naflex"])
def test_siglip_reads_fillers_up_to_its_length_and_no_mask(name: str) -> None:
    folder = embedder_checkpoint(name)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    end, filler = ("</s>", "</s>") if name == "siglip" else ("<eos>", "<pad>")
    number = tokenizer.get_vocab()
    plain = [text.replace(",", "") if name == "siglip" else text for text in TEXTS]
    ids = [[*tokenizer(text)["input_ids"], number[end]] for text in plain]
    ids = [[*row, *[number[filler]] * (24 - len(row))] for row in ids]
    model = theirs(name)
    with torch.no_grad():
        expected = pooled(model.get_text_features(input_ids=torch.tensor(ids)))
    embedder = loaded(name)
    torch.testing.assert_close(embedder.texts(), normalize(expected, dim=-1), rtol=0, atol=1e-4)
    assert embedder.scale == pytest.approx(np.exp(2.0))
    assert embedder.bias == -1.5


def test_scores_of_siglip_are_those_of_its_forward_pass() -> None:
    embedder = loaded("siglip", ("dog", "cat"))
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert embedder._texts is not None
    tokens, _ = embedder._texts.on("cpu")
    with torch.no_grad():
        answer = theirs("siglip")(input_ids=tokens, pixel_values=pixels)
    ours = cosines(embedder.pictures(pixels), embedder.texts()) * embedder.scale + embedder.bias
    np.testing.assert_allclose(ours, answer.logits_per_image.numpy(), atol=1e-4)


def test_it_has_to_be_loaded_and_can_be_closed() -> None:
    embedder = Embedder(describe(str(embedder_checkpoint("clip"))), OPTIONS, TEXTS)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="load"):
            embedder.pictures(torch.zeros(1, 3, SIDE, SIDE))
        with pytest.raises(RuntimeError, match="load"):
            embedder.texts()
        embedder.load("cpu")
        embedder.close()


def test_nothing_to_compare_with() -> None:
    assert cosines(torch.ones(3, 2), torch.zeros(0, 0)).shape == (3, 0)
    assert cosines(torch.zeros(0, 0), torch.ones(3, 2)).shape == (0, 3)
