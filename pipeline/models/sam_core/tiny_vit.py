"""MobileSAM's image encoder: timm's TinyViT with SAM's neck, under the published names of weights.

Its last stage keeps the size of its maps, where TinyViT halves them. Zhang et al., "Faster Segment
Anything" (2023); Wu et al., "TinyViT" (ECCV 2022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

_RENAMED = (
    (r"\.c\.weight$", ".conv.weight"),
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
)
"""Published name → timm's."""
_UNUSED = re.compile(r"(norm_head|head)\.|.*\.attention_bias_idxs$")


class TinyVitEncoder(nn.Module):
    """B×3×side×side normalised pixels → B×256×side/16×side/16.

    Args:
        side: Of the square input, pixels.
    """

    def __init__(self, side: int = 1024) -> None:
        super().__init__()
        self.img_size = side
        self.body: Any = TinyVit(
            num_classes=0,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        self.body.head = nn.Identity()
        self.body.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.neck(self.body.stages(self.body.patch_embed(pixels)))


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole checkpoint's weights with those of the encoder under the names of `TinyVitEncoder`.

    The classifier that the encoder was first trained with is left out: nothing reads it.

    Args:
        state: Name → weights, as MobileSAM is published.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        before, encoder, inner = name.partition("image_encoder.")
        if not encoder:
            found[name] = value
            continue
        if _UNUSED.match(inner):
            continue
        for pattern, timms in _RENAMED:
            inner = re.sub(pattern, timms, inner)
        # Published, a stage ends by making the next one's maps; timm's begins by it.
        inner = re.sub(r"^layers\.(\d)\.downsample\.", _next_stage, inner)
        inner = re.sub(r"^layers\.", "stages.", inner)
        own = inner if inner.startswith("neck.") else f"body.{inner}"
        found[before + encoder + own] = value
    return found


def _next_stage(found: re.Match[str]) -> str:
    return f"stages.{int(found[1]) + 1}.downsample."


def mobile_sam(side: int = 1024) -> nn.Module:
    """The segment-anything package's SAM with this encoder; weights to be filled in.

    Args:
        side: Of the square input, pixels.
    """
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width = 256
    encoder = TinyVitEncoder(side)
    return Sam(
        image_encoder=encoder,  # pyright: ignore[reportArgumentType]
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(side // 16, side // 16),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=2048, num_heads=8),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=width,
        ),
    )
