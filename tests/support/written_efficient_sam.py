"""EfficientSAM's architecture written out, every tensor by its published name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 64
"""A sixteenth of the published side: the same network, and quick."""

State = dict[str, Tensor]


def _linear(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _shapes(channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all weights, as they are published."""
    encoder = "image_encoder"
    yield f"{encoder}.pos_embed", (1, 197, channels)
    yield f"{encoder}.patch_embed.proj.weight", (channels, 3, 16, 16)
    yield f"{encoder}.patch_embed.proj.bias", (channels,)
    for index in range(12):
        block = f"{encoder}.blocks.{index}"
        yield from _linear(f"{block}.norm1", channels)
        yield from _linear(f"{block}.attn.qkv", 3 * channels, channels)
        yield from _linear(f"{block}.attn.proj", channels, channels)
        yield from _linear(f"{block}.norm2", channels)
        yield from _linear(f"{block}.mlp.fc1", 4 * channels, channels)
        yield from _linear(f"{block}.mlp.fc2", channels, 4 * channels)
    yield f"{encoder}.neck.0.weight", (256, channels, 1, 1)
    yield from _linear(f"{encoder}.neck.1", 256)
    yield f"{encoder}.neck.2.weight", (256, 256, 3, 3)
    yield from _linear(f"{encoder}.neck.3", 256)
    yield "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", (2, 128)
    for name in ("invalid_points", "point", "bbox_top_left", "bbox_bottom_right"):
        own = name if name == "invalid_points" else f"{name}_embeddings"
        yield f"prompt_encoder.{own}.weight", (1, 256)
    decoder = "mask_decoder"
    yield f"{decoder}.iou_token.weight", (1, 256)
    yield f"{decoder}.mask_tokens.weight", (4, 256)
    for index in range(2):
        layer = f"{decoder}.transformer.layers.{index}"
        yield from _projections(f"{layer}.self_attn", 256)
        yield from _projections(f"{layer}.cross_attn_token_to_image", 128)
        yield from _projections(f"{layer}.cross_attn_image_to_token", 128)
        yield from _linear(f"{layer}.mlp.layers.0.0", 2048, 256)
        yield from _linear(f"{layer}.mlp.fc", 256, 2048)
        for norm in range(1, 5):
            yield from _linear(f"{layer}.norm{norm}", 256)
    yield from _projections(f"{decoder}.transformer.final_attn_token_to_image", 128)
    yield from _linear(f"{decoder}.transformer.norm_final_attn", 256)
    up = f"{decoder}.final_output_upscaling_layers"
    yield f"{up}.0.0.weight", (256, 64, 2, 2)
    yield f"{up}.0.0.bias", (64,)
    yield from _linear(f"{up}.0.1", 64)
    yield f"{up}.1.0.weight", (64, 32, 2, 2)
    yield f"{up}.1.0.bias", (32,)
    heads = [(f"{decoder}.output_hypernetworks_mlps.{index}", 32) for index in range(4)]
    for head, out in (*heads, (f"{decoder}.iou_prediction_head", 4)):
        yield from _linear(f"{head}.layers.0.0", 256, 256)
        yield from _linear(f"{head}.layers.1.0", 256, 256)
        yield from _linear(f"{head}.fc", out, 256)


def _projections(name: str, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for projection in ("q_proj", "k_proj", "v_proj"):
        yield from _linear(f"{name}.{projection}", inner, 256)
    yield from _linear(f"{name}.out_proj", 256, inner)


@cache
def published(channels: int = 192) -> State:
    """Weights from a seed, none of which is without effect."""
    rng = np.random.default_rng(0)
    state: State = {}
    for name, shape in _shapes(channels):
        values = rng.standard_normal(shape, np.float32)
        if name.endswith("weight") and len(shape) == 1:  # a norm's
            values = 1 + 0.2 * np.tanh(values)
        elif name.endswith(("proj.weight", "fc1.weight", "fc2.weight", "qkv.weight")):
            values *= 1.5 / np.sqrt(np.prod(shape[1:]))
        elif len(shape) > 1 and shape[0] > 4:
            values /= np.sqrt(np.prod(shape[1:]))
        elif name.endswith("bias"):
            values *= 0.3
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def embedding_of(s: State, pixels: Tensor, heads: int) -> Tensor:
    e = "image_encoder"
    x = F.conv2d(
        pixels, s[f"{e}.patch_embed.proj.weight"], s[f"{e}.patch_embed.proj.bias"], stride=16
    )
    count, channels, height, width = x.shape
    places = s[f"{e}.pos_embed"][0, 1:].T.reshape(1, channels, 14, 14)
    x = x + F.interpolate(places, (height, width), mode="bicubic", align_corners=False)
    x = x.reshape(count, channels, -1).permute(0, 2, 1)
    for index in range(12):
        b = f"{e}.blocks.{index}"
        y = norm(s, f"{b}.norm1", x, 1e-6)
        q, k, v = linear(s, f"{b}.attn.qkv", y).chunk(3, dim=-1)
        x = x + linear(s, f"{b}.attn.proj", heads_attend(q, k, v, heads))
        y = linear(s, f"{b}.mlp.fc1", norm(s, f"{b}.norm2", x, 1e-6))
        x = x + linear(s, f"{b}.mlp.fc2", F.gelu(y))
    x = x.permute(0, 2, 1).reshape(count, channels, height, width)
    x = norm_of_channels(s, f"{e}.neck.1", F.conv2d(x, s[f"{e}.neck.0.weight"]))
    return norm_of_channels(s, f"{e}.neck.3", F.conv2d(x, s[f"{e}.neck.2.weight"], padding=1))


def tokens_of(s: State, points: Tensor, labels: Tensor) -> Tensor:
    """N×6×2 pixels of the input and N×6: −1 none, 1 point, 2 and 3 the corners of a box."""
    p = "prompt_encoder"
    found = waves(s, (points + 0.5) / SIDE)
    names = {
        -1: "invalid_points",
        1: "point_embeddings",
        2: "bbox_top_left_embeddings",
        3: "bbox_bottom_right_embeddings",
    }
    for row in range(len(points)):
        for column in range(points.shape[1]):
            name = names[int(labels[row, column])]
            found[row, column] += s[f"{p}.{name}.weight"][0]
    return found


def waves(s: State, unit_xy: Tensor) -> Tensor:
    turned = (2 * unit_xy - 1) @ s["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    return torch.cat((torch.sin(2 * torch.pi * turned), torch.cos(2 * torch.pi * turned)), -1)


def masks_of(s: State, embedding: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """1×256×h×w and N×6×256 → N×4×4h×4w and N×4."""
    d, t = "mask_decoder", "mask_decoder.transformer"
    height, width = embedding.shape[-2:]
    rows, columns = (torch.arange(n) + 0.5 for n in (height, width))
    grid = torch.stack(torch.meshgrid(columns / width, rows / height, indexing="xy"), -1)
    places = waves(s, grid).reshape(1, -1, 256)
    masks, quality = [], []
    for prompt in prompts:  # each by itself
        own = torch.cat((s[f"{d}.iou_token.weight"], s[f"{d}.mask_tokens.weight"], prompt))[None]
        tokens, cells = own, embedding.flatten(2).permute(0, 2, 1)
        for index in range(2):
            b = f"{t}.layers.{index}"
            if index:
                tokens = tokens + own
            tokens = tokens + attend(s, f"{b}.self_attn", tokens, tokens, tokens)
            tokens = norm(s, f"{b}.norm1", tokens)
            told = attend(s, f"{b}.cross_attn_token_to_image", tokens + own, cells + places, cells)
            tokens = norm(s, f"{b}.norm2", tokens + told)
            tokens = norm(s, f"{b}.norm3", tokens + mlp(s, f"{b}.mlp", tokens, 1))
            told = attend(s, f"{b}.cross_attn_image_to_token", cells + places, tokens + own, tokens)
            cells = norm(s, f"{b}.norm4", cells + told)
        told = attend(s, f"{t}.final_attn_token_to_image", tokens + own, cells + places, cells)
        tokens = norm(s, f"{t}.norm_final_attn", tokens + told)
        x = cells.permute(0, 2, 1).reshape(1, 256, height, width)
        up = f"{d}.final_output_upscaling_layers"
        x = F.conv_transpose2d(x, s[f"{up}.0.0.weight"], s[f"{up}.0.0.bias"], stride=2)
        x = F.gelu(F.group_norm(x, 1, s[f"{up}.0.1.weight"], s[f"{up}.0.1.bias"], 1e-5))
        x = F.conv_transpose2d(x, s[f"{up}.1.0.weight"], s[f"{up}.1.0.bias"], stride=2)
        x = F.gelu(x)[0]
        heads = [
            mlp(s, f"{d}.output_hypernetworks_mlps.{n}", tokens[0, 1 + n], 2) for n in range(4)
        ]
        masks.append(torch.stack([(head[:, None, None] * x).sum(0) for head in heads]))
        quality.append(mlp(s, f"{d}.iou_prediction_head", tokens[0, 0], 2))
    return torch.stack(masks), torch.stack(quality)


def linear(s: State, name: str, x: Tensor) -> Tensor:
    return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]


def mlp(s: State, name: str, x: Tensor, layers: int) -> Tensor:
    for index in range(layers):
        x = F.gelu(linear(s, f"{name}.layers.{index}.0", x))
    return linear(s, f"{name}.fc", x)


def norm(s: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    return x * s[f"{name}.weight"] + s[f"{name}.bias"]


def norm_of_channels(s: State, name: str, x: Tensor) -> Tensor:
    return norm(s, name, x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def heads_attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    parts = []
    for one, two, three in zip(*(x.chunk(heads, dim=-1) for x in (q, k, v)), strict=True):
        logits = one @ two.transpose(-2, -1) / one.shape[-1] ** 0.5
        parts.append(logits.softmax(-1) @ three)
    return torch.cat(parts, -1)


def attend(s: State, name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (linear(s, f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v)))
    return linear(s, f"{name}.out_proj", heads_attend(q, k, v, 8))
