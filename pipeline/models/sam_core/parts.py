"""The decoders of the SAM implementations, taken apart into `DecoderParts`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import Attention
from .decoder import Block, DecoderParts, HqParts


def transformers_parts(decoder: Any) -> DecoderParts:
    """Of transformers' Sam, SamHQ, Sam2 and EdgeTam mask decoders."""
    objects = [decoder.obj_score_token.weight] if hasattr(decoder, "obj_score_token") else []
    learned = [*objects, decoder.iou_token.weight, decoder.mask_tokens.weight]
    is_hq = hasattr(decoder, "hq_token")
    if is_hq:
        learned.append(decoder.hq_token.weight)
    transformer = decoder.transformer
    return DecoderParts(
        tokens=torch.cat(learned),
        iou_at=len(objects),
        masks_at=len(objects) + 1,
        blocks=[
            Block(
                self_attention=_attention(layer.self_attn),
                norm1=layer.layer_norm1,
                to_image=_attention(layer.cross_attn_token_to_image),
                norm2=layer.layer_norm2,
                mlp=layer.mlp,
                norm3=layer.layer_norm3,
                to_tokens=_attention(layer.cross_attn_image_to_token),
                norm4=layer.layer_norm4,
            )
            for layer in transformer.layers
        ],
        final=_attention(transformer.final_attn_token_to_image),
        final_norm=transformer.layer_norm_final_attn,
        up1=decoder.upscale_conv1,
        up_norm=decoder.upscale_layer_norm,
        up2=decoder.upscale_conv2,
        hyper=list(decoder.output_hypernetworks_mlps),
        iou=decoder.iou_prediction_head,
        hq=HqParts(_HqRefine(decoder), decoder.hq_mask_mlp) if is_hq else None,
    )


def package_parts(decoder: Any) -> DecoderParts:
    """Of the segment-anything package's mask decoder."""
    up1, norm, _, up2, _ = decoder.output_upscaling
    return _parts_of(decoder, up1, norm, up2)


def efficient_parts(decoder: Any) -> DecoderParts:
    """Of `efficient_sam.MaskDecoder`."""
    first, second = decoder.final_output_upscaling_layers
    return _parts_of(decoder, first[0], first[1], second[0], places_stay=True)


def _parts_of(
    decoder: Any, up1: Any, up_norm: Any, up2: Any, *, places_stay: bool = False
) -> DecoderParts:
    """Of a decoder with the package's two-way transformer and names."""
    transformer = decoder.transformer
    return DecoderParts(
        tokens=torch.cat((decoder.iou_token.weight, decoder.mask_tokens.weight)),
        iou_at=0,
        masks_at=1,
        blocks=_package_blocks(transformer),
        final=_attention(transformer.final_attn_token_to_image),
        final_norm=transformer.norm_final_attn,
        up1=up1,
        up_norm=up_norm,
        up2=up2,
        hyper=list(decoder.output_hypernetworks_mlps),
        iou=decoder.iou_prediction_head,
        places_stay=places_stay,
    )


def _package_blocks(transformer: Any) -> list[Block]:
    return [
        Block(
            self_attention=_attention(layer.self_attn),
            norm1=layer.norm1,
            to_image=_attention(layer.cross_attn_token_to_image),
            norm2=layer.norm2,
            mlp=layer.mlp,
            norm3=layer.norm3,
            to_tokens=_attention(layer.cross_attn_image_to_token),
            norm4=layer.norm4,
        )
        for layer in transformer.layers
    ]


def _attention(module: Any) -> Attention:
    heads = module.num_heads if hasattr(module, "num_heads") else module.num_attention_heads
    out = module.out_proj if hasattr(module, "out_proj") else module.o_proj
    return Attention(module.q_proj, module.k_proj, module.v_proj, out, heads)


class _HqRefine(nn.Module):
    """HQ-SAM's path from the enlarged features of a prompt to finer ones."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self._conv1, self._norm, self._conv2 = (
            decoder.mask_conv1,
            decoder.mask_norm,
            decoder.mask_conv2,
        )

    def forward(self, x: Tensor) -> Tensor:
        """N×C/8×H×W → the same shape."""
        return self._conv2(functional.gelu(self._norm(self._conv1(x))))
