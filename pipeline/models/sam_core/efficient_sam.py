"""EfficientSAM: a plain ViT before a decoder of SAM's kind, under the published names of weights.

Xiong et al., "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything"
(CVPR 2024). Beside its encoder this differs from SAM: a prompt always has six places, and those
that are not needed hold a token of their own; nothing is added to a picture for the mask that no
prompt gave; tokens keep their places in the self-attention (`DecoderParts.places_stay`); the first
norm while enlarging is over all of a prompt's features; MLPs have GELU; the best mask is one of the
three alternatives for boxes too, and is enlarged by bicubic interpolation.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from .decoder import Embedding, FastDecoder
from .net import Encoded, Instability
from .parts import efficient_parts

WIDTH, PATCH, DEPTH, TABLE, HEADS = 256, 16, 12, 14, 8
"""Channels of the decoder, pixels of a patch, layers of the encoder, side of the table of places
that it was first trained with, heads of the decoder."""

PLACES = 6
"""Points of a prompt; a box takes two."""

_SIZES = {"efficient_sam_vitt": (192, 3), "efficient_sam_vits": (384, 6)}
"""Name → channels and heads of the encoder."""

_NONE, _POINT, _TOP_LEFT, _BOTTOM_RIGHT = -1, 1, 2, 3


class PlainVit(nn.Module):
    """B×3×side×side normalised pixels → B×256×side/16×side/16.

    Args:
        channels: Inside.
        heads: Of each attention.
        side: Of the square input, pixels.
    """

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.img_size = side
        patches = nn.Conv2d(3, channels, PATCH, stride=PATCH)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        # The first row was a class token's.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TABLE**2, channels))
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(Block(channels, heads, qkv_bias=True, norm_layer=norm) for _ in range(DEPTH))
        )
        self.neck = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 1, bias=False),
            LayerNorm2d(WIDTH),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        x = self.patch_embed(pixels)
        grid = x.shape[-2:]
        places = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (TABLE, TABLE)).float()
        if grid != places.shape[-2:]:
            places = functional.interpolate(places, grid, mode="bicubic", align_corners=False)
        x = self.blocks((x + places.to(x.dtype)).flatten(2).transpose(1, 2))
        return self.neck(x.transpose(1, 2).unflatten(2, grid))


class PromptEncoder(nn.Module):
    """Points with their kinds → tokens.

    Args:
        side: Of the square input, pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self._side = side
        self.pe_layer = PositionEmbeddingRandom(WIDTH // 2)
        self.invalid_points = nn.Embedding(1, WIDTH)
        self.point_embeddings = nn.Embedding(1, WIDTH)
        self.bbox_top_left_embeddings = nn.Embedding(1, WIDTH)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, WIDTH)

    def position(self) -> Tensor:
        """1×256×side/16×side/16, where the cells of a picture lie."""
        return self.pe_layer((self._side // PATCH, self._side // PATCH))[None]

    def forward(self, points_xy: Tensor, kinds: Tensor) -> Tensor:
        """N×P×2 pixels of the input and N×P of −1, 1, 2, 3 → N×P×256."""
        found = self.pe_layer.forward_with_coords(points_xy + 0.5, (self._side, self._side))
        for kind, own in (
            (_NONE, self.invalid_points),
            (_POINT, self.point_embeddings),
            (_TOP_LEFT, self.bbox_top_left_embeddings),
            (_BOTTOM_RIGHT, self.bbox_bottom_right_embeddings),
        ):
            found = found + (kinds == kind)[..., None] * own.weight
        return found


class _Mlp(nn.Module):
    def __init__(self, into: int, between: int, out: int, layers: int) -> None:
        super().__init__()
        sizes = [into, *[between] * layers]
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(*pair), nn.GELU()) for pair in pairwise(sizes))
        )
        self.fc = nn.Linear(between, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x))


class _TwoWayLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention(WIDTH, HEADS)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.cross_attn_token_to_image = Attention(WIDTH, HEADS, downsample_rate=2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = _Mlp(WIDTH, 2048, WIDTH, 1)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.norm4 = nn.LayerNorm(WIDTH)
        self.cross_attn_image_to_token = Attention(WIDTH, HEADS, downsample_rate=2)

    def forward(
        self, tokens: Tensor, cells: Tensor, start: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and cells after the layer; what comes in has its places, but for layer 0."""
        tokens = self.norm1(tokens + self.self_attn(tokens, tokens, tokens))
        seen = self.cross_attn_token_to_image(tokens + start, cells + position, cells)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        told = self.cross_attn_image_to_token(cells + position, tokens + start, tokens)
        return tokens, self.norm4(cells + told)


class _TwoWay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_TwoWayLayer(), _TwoWayLayer()])
        self.final_attn_token_to_image = Attention(WIDTH, HEADS, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(self, cells: Tensor, position: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        tokens = start
        for index, layer in enumerate(self.layers):
            tokens, cells = layer(tokens + start if index else tokens, cells, start, position)
        seen = self.final_attn_token_to_image(tokens + start, cells + position, cells)
        return self.norm_final_attn(tokens + seen), cells


class MaskDecoder(nn.Module):
    """The decoder as it is described, every prompt with cells of its own."""

    masks = 4

    def __init__(self) -> None:
        super().__init__()
        self.transformer = _TwoWay()
        self.iou_token = nn.Embedding(1, WIDTH)
        self.mask_tokens = nn.Embedding(self.masks, WIDTH)
        half, quarter = WIDTH // 4, WIDTH // 8
        self.final_output_upscaling_layers = nn.Sequential(
            nn.Sequential(
                nn.ConvTranspose2d(WIDTH, half, 2, stride=2), nn.GroupNorm(1, half), nn.GELU()
            ),
            nn.Sequential(nn.ConvTranspose2d(half, quarter, 2, stride=2), nn.Identity(), nn.GELU()),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            [_Mlp(WIDTH, WIDTH, quarter, 2) for _ in range(self.masks)]
        )
        self.iou_prediction_head = _Mlp(WIDTH, WIDTH, self.masks, 2)

    def forward(self, raw: Tensor, position: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """1×256×h×w, twice, and N×P×256 → N×4×4h×4w logits and N×4 estimates of quality."""
        count = len(prompts)
        learned = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        start = torch.cat((learned.expand(count, -1, -1), prompts), 1)
        cells, places = (
            x.flatten(2).transpose(1, 2).expand(count, -1, -1) for x in (raw, position)
        )
        tokens, cells = self.transformer(cells, places, start)
        features = cells.transpose(1, 2).unflatten(2, raw.shape[-2:])
        features = self.final_output_upscaling_layers(features)
        weights = torch.stack(
            [mlp(tokens[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)], 1
        )
        return torch.einsum("nmc,nchw->nmhw", weights, features), self.iou_prediction_head(
            tokens[:, 0]
        )


def efficient_sam(name: str, side: int = 1024) -> nn.Module:
    """The network; weights to be filled in.

    Args:
        name: One of `EFFICIENT_SAM`.
        side: Of the square input, pixels.
    """
    net = nn.Module()
    net.image_encoder = PlainVit(*_SIZES[name], side)
    net.prompt_encoder = PromptEncoder(side)
    net.mask_decoder = MaskDecoder()
    return net


class EfficientSam:
    """`SamNet` of EfficientSAM.

    It was made for points on the object: of one beside it, it has nothing to say, and a prompt
    with one is refused, as is one of more than `PLACES` points.

    Args:
        model: Of `efficient_sam`, loaded, in eval mode, on its device.
        compiled: Let PyTorch compile it; the first pictures wait for it.
    """

    hq_token: int | None = None
    instability: Instability | None = None
    alternatives_only = True
    cubic = True

    def __init__(self, model: Any, *, compiled: bool = False) -> None:
        self._model = model
        encoder = model.image_encoder
        self._encoder = torch.compile(encoder) if compiled else encoder
        self.fast = FastDecoder(efficient_parts(model.mask_decoder), compiled=compiled)
        self.mask_tokens = int(model.mask_decoder.masks)
        self.side = int(encoder.img_size)
        self.dtype = next(model.mask_decoder.parameters()).dtype
        self._position = model.prompt_encoder.position().to(self.dtype)

    def encode(self, pixels: Tensor) -> list[Encoded]:
        """See `SamNet`."""
        position = self._position[0].flatten(1).T
        return [
            Encoded(Embedding(raw.flatten(1).T, position, (raw.shape[1], raw.shape[2])), raw[None])
            for raw in self._encoder(pixels)
        ]

    def points(self, points_xy: Tensor, inside: Tensor) -> Tensor:
        """See `SamNet`.

        Raises:
            ValueError: A point beside the object, or more than `PLACES` points.
        """
        return self._prompts(points_xy, inside)

    def boxes(self, boxes_xyxy: Tensor, points_xy: Tensor | None, inside: Tensor | None) -> Tensor:
        """See `SamNet`.

        Raises:
            ValueError: As `points`.
        """
        corners = boxes_xyxy.unflatten(1, (2, 2))
        kinds = torch.tensor([_TOP_LEFT, _BOTTOM_RIGHT], device=corners.device)
        kinds = kinds.expand(len(corners), -1)
        if points_xy is None or inside is None:
            return self._prompts(corners, kinds)
        return self._prompts(torch.cat((corners, points_xy), 1), torch.cat((kinds, inside), 1))

    def reference(self, picture: Encoded, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """See `SamNet`."""
        masks, quality = self._model.mask_decoder(picture.raw, self._position, prompts)
        return masks[:, 1:], quality[:, 1:]

    def _prompts(self, places_xy: Tensor, kinds: Tensor) -> Tensor:
        count = places_xy.shape[1]
        if count > PLACES:
            raise ValueError(
                f"EfficientSAM takes {PLACES} points a prompt, of which a box is two; "
                f"here are {count}"
            )
        if bool((kinds == 0).any()):
            raise ValueError(
                "EfficientSAM knows no points beside the object (inside = 0); leave them out, "
                "or ask another SAM"
            )
        # Its authors' code moves what lies before the picture's first pixel to −1.
        places_xy = torch.where(places_xy < 0, -1.0, places_xy)
        places_xy = functional.pad(places_xy, (0, 0, 0, PLACES - count), value=-1.0)
        kinds = functional.pad(kinds, (0, PLACES - count), value=_NONE)
        return self._model.prompt_encoder(places_xy, kinds).to(self.dtype)
