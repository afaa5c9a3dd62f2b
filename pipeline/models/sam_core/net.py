"""SamNet: a loaded SAM of any make. Pictures are encoded once; prompts are embedded and decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from .decoder import Embedding, FastDecoder
from .parts import package_parts, transformers_parts
from .vit import VitEncoder, package_vit, transformers_vit


@dataclass(frozen=True, slots=True)
class Encoded:
    """One picture after the encoder.

    Attributes:
        embedding: For `FastDecoder`.
        raw: 1×C×h×w, the encoder's output alone; what the implementation's own decoder takes.
        extra: Further features of the implementation's own decoder.
    """

    embedding: Embedding
    raw: Tensor
    extra: Any = None


@dataclass(frozen=True, slots=True)
class Instability:
    """When SAM 2 gives up its single mask: its edge moves too much with the threshold.

    Attributes:
        delta: Logits; how much higher and lower the mask is cut.
        least: Smallest share of the lower cut that the higher one must cover.
    """

    delta: float
    least: float

    def stable(self, logits: Tensor) -> Tensor:
        """N×h×w small logits → N flags."""
        high = (logits > self.delta).flatten(1).sum(1).float()
        low = (logits > -self.delta).flatten(1).sum(1).float()
        return torch.where(low > 0, high / low, 1.0) >= self.least


class SamNet(Protocol):
    """A loaded SAM.

    Attributes:
        fast: Its decoder for many prompts of one picture.
        mask_tokens: Masks that it makes of a prompt: the first is for an unambiguous one, the
            others are alternatives.
        hq_token: Index of HQ-SAM's additional mask, or None.
        side: Of the square input, pixels.
        dtype: Of its weights and of its input.
        instability: When its single mask is not taken (SAM 2), or None.
        alternatives_only: Of the alternatives alone the best mask is chosen, for boxes and several
            points too (EfficientSAM).
        cubic: Its logits are enlarged by bicubic interpolation (EfficientSAM).
    """

    instability: Instability | None
    alternatives_only: bool
    cubic: bool
    fast: FastDecoder
    mask_tokens: int
    hq_token: int | None
    side: int
    dtype: torch.dtype

    def encode(self, pixels: Tensor) -> list[Encoded]:
        """B×3×side×side normalised input → B embeddings."""
        ...

    def points(self, points_xy: Tensor, inside: Tensor) -> Tensor:
        """Embeds points.

        Args:
            points_xy: N×K×2, pixels of the input; the model itself adds half a pixel.
            inside: N×K: 1 on the object, 0 beside it, −1 no point.

        Returns:
            N×P×C.
        """
        ...

    def boxes(self, boxes_xyxy: Tensor, points_xy: Tensor | None, inside: Tensor | None) -> Tensor:
        """Embeds N×4 boxes in pixels of the input, with or without points; N×P×C."""
        ...

    def reference(self, picture: Encoded, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """The implementation's own decoder: the oracle of the fast one.

        Args:
            picture: One.
            prompts: N×P×C.

        Returns:
            N×M×4h×4w logits and N×M estimates of their quality, of the alternatives.
        """
        ...


class TransformersSam:
    """Transformers' Sam, SamHQ, Sam2 and EdgeTam models.

    Args:
        model: Loaded, in eval mode, on its device.
        reference: Encode with the implementation's own forward.
        compiled: See `VitEncoder`.
    """

    alternatives_only = False
    cubic = False

    def __init__(self, model: Any, *, reference: bool = False, compiled: bool = False) -> None:
        self._model = model
        self._vit: VitEncoder | None = None
        encoder = getattr(model, "vision_encoder", None)
        if hasattr(encoder, "patch_embed") and hasattr(encoder, "neck") and not reference:
            self._vit = VitEncoder(transformers_vit(encoder), compiled=compiled)
        decoder, prompt = model.mask_decoder, model.prompt_encoder
        self.fast = FastDecoder(transformers_parts(decoder), compiled=compiled)
        self.mask_tokens = decoder.num_multimask_outputs + 1
        self.hq_token = self.mask_tokens if hasattr(decoder, "hq_token") else None
        self.side = int(prompt.input_image_size)
        self.instability: Instability | None = None
        if getattr(decoder, "dynamic_multimask_via_stability", False):
            self.instability = Instability(
                decoder.dynamic_multimask_stability_delta,
                decoder.dynamic_multimask_stability_thresh,
            )
        self.dtype = next(decoder.parameters()).dtype
        self._position = model.get_image_wide_positional_embeddings().to(self.dtype)
        self._no_mask = prompt.no_mask_embed.weight.reshape(1, -1, 1, 1).to(self.dtype)

    def encode(self, pixels: Tensor) -> list[Encoded]:
        """See `SamNet`."""
        found: Any = (
            self._model.get_image_embeddings(pixels) if self._vit is None else self._vit(pixels)
        )
        if self.hq_token is not None:
            return self._encoded_hq(*found)
        if self._vit is not None:
            found = found[0]
        if isinstance(found, Tensor):
            return [self._encoded(each[None]) for each in found]
        *fine, coarse = found
        # The two finer levels are projected once a picture, not once a prompt.
        fine = [x for x in fine if x.shape[-1] > coarse.shape[-1]]
        return [
            self._encoded(
                coarse[i : i + 1],
                fine=(fine[1][i : i + 1], fine[0][i : i + 1]),
                extra=[x[i : i + 1] for x in fine],
            )
            for i in range(len(coarse))
        ]

    def points(self, points_xy: Tensor, inside: Tensor) -> Tensor:
        """See `SamNet`."""
        return self._prompts(points_xy, inside, None)

    def boxes(self, boxes_xyxy: Tensor, points_xy: Tensor | None, inside: Tensor | None) -> Tensor:
        """See `SamNet`."""
        return self._prompts(points_xy, inside, boxes_xyxy)

    def reference(self, picture: Encoded, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """See `SamNet`.

        Transformers' HQ-SAM decoder (5.23) reads its masks off the picture's embedding as it was
        before the two-way transformer, rows and columns exchanged; the authors' own, with which
        the weights were trained, off what comes out of it. Here it is given the latter.
        """
        dense = self._no_mask.expand(1, -1, *picture.raw.shape[-2:])
        more: dict[str, Any] = {}
        if self.hq_token is not None:
            more = {"hq_token_only": False, "intermediate_embeddings": picture.extra}
        elif picture.extra is not None:
            more = {"high_resolution_features": picture.extra}
        decoder = self._model.mask_decoder
        if self.hq_token is not None:
            decoder = _HqOracle(decoder)
        masks, iou = decoder(
            image_embeddings=picture.raw,
            image_positional_embeddings=self._position,
            sparse_prompt_embeddings=prompts[None],
            dense_prompt_embeddings=dense,
            multimask_output=True,
            **more,
        )[:2]
        return masks[0], iou[0]

    def _prompts(
        self, points: Tensor | None, inside: Tensor | None, boxes: Tensor | None
    ) -> Tensor:
        sparse, _ = self._model.prompt_encoder(
            input_points=None if points is None else points[None],
            input_labels=None if inside is None else inside[None].int(),
            input_boxes=None if boxes is None else boxes[None],
            input_masks=None,
        )
        return sparse[0].to(self._position.dtype)

    def _encoded(
        self,
        raw: Tensor,
        *,
        fine: tuple[Tensor, Tensor] | None = None,
        hq: Tensor | None = None,
        extra: Any = None,
    ) -> Encoded:
        cells = (raw + self._no_mask)[0].flatten(1).T
        position = self._position[0].flatten(1).T
        height, width = raw.shape[-2:]
        return Encoded(Embedding(cells, position, (height, width), fine, hq), raw, extra)

    def _encoded_hq(self, found: Tensor, between: Sequence[Tensor]) -> list[Encoded]:
        decoder = self._model.mask_decoder
        detail = decoder.encoder_conv1(found)
        detail = decoder.encoder_conv2(functional.gelu(decoder.encoder_norm(detail)))
        early = decoder.compress_vit_conv1(between[0].permute(0, 3, 1, 2))
        early = decoder.compress_vit_conv2(functional.gelu(decoder.compress_vit_norm(early)))
        hq = detail + early
        return [
            self._encoded(found[i : i + 1], hq=hq[i : i + 1], extra=[x[i : i + 1] for x in between])
            for i in range(len(found))
        ]


class _HqOracle:
    """Transformers' HQ-SAM decoder, given the cells that its own transformer returned.

    Args:
        decoder: The decoder; left as it was.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __call__(self, **arguments: Any) -> tuple[Tensor, Tensor]:
        decoder, transformer = self._decoder, self._decoder.transformer
        found: list[Tensor] = []
        hook = transformer.register_forward_hook(lambda _m, _i, out: found.append(out[1]))
        # The first layer that reads the wrong cells is handed the right ones.
        mend = decoder.upscale_conv1.register_forward_pre_hook(
            lambda _m, given: (found[-1].flatten(0, 1).transpose(1, 2).reshape(given[0].shape),)
        )
        try:
            return decoder(**arguments)[:2]
        finally:
            hook.remove()
            mend.remove()


class PackageSam:
    """The segment-anything package's model.

    Args:
        model: Loaded, in eval mode, on its device.
        reference: Encode with the package's own forward.
        compiled: See `VitEncoder`.
    """

    hq_token: int | None = None
    instability: Instability | None = None
    alternatives_only = False
    cubic = False

    def __init__(self, model: Any, *, reference: bool = False, compiled: bool = False) -> None:
        self._model = model
        self._vit: VitEncoder | None = None
        if not reference and hasattr(model.image_encoder, "blocks"):  # MobileSAM's has none
            self._vit = VitEncoder(package_vit(model.image_encoder), compiled=compiled)
        self.fast = FastDecoder(package_parts(model.mask_decoder), compiled=compiled)
        self.mask_tokens = int(model.mask_decoder.num_mask_tokens)
        self.side = int(model.image_encoder.img_size)
        self.dtype = next(model.mask_decoder.parameters()).dtype
        self._position = model.prompt_encoder.get_dense_pe().to(self.dtype)
        no_mask = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        self._no_mask = no_mask.to(self.dtype)

    def encode(self, pixels: Tensor) -> list[Encoded]:
        """See `SamNet`."""
        found = self._model.image_encoder(pixels) if self._vit is None else self._vit(pixels)[0]
        position = self._position[0].flatten(1).T
        height, width = found.shape[-2:]
        return [
            Encoded(
                Embedding((raw[None] + self._no_mask)[0].flatten(1).T, position, (height, width)),
                raw[None],
            )
            for raw in found
        ]

    def points(self, points_xy: Tensor, inside: Tensor) -> Tensor:
        """See `SamNet`."""
        return self._prompts((points_xy, inside), None)

    def boxes(self, boxes_xyxy: Tensor, points_xy: Tensor | None, inside: Tensor | None) -> Tensor:
        """See `SamNet`."""
        points = None if points_xy is None or inside is None else (points_xy, inside)
        return self._prompts(points, boxes_xyxy)

    def reference(self, picture: Encoded, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """See `SamNet`."""
        return self._model.mask_decoder(
            image_embeddings=picture.raw,
            image_pe=self._position,
            sparse_prompt_embeddings=prompts,
            dense_prompt_embeddings=self._no_mask.expand(len(prompts), -1, *picture.raw.shape[-2:]),
            multimask_output=True,
        )

    def _prompts(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None) -> Tensor:
        sparse, _ = self._model.prompt_encoder(points=points, boxes=boxes, masks=None)
        return sparse.to(self._position.dtype)


_PRECISE = ("prompt_encoder", "shared_image_embedding")
"""Parts that turn places into numbers: bfloat16 knows 256 steps, a picture has 1024 pixels."""


def inference(model: Any, device: str | torch.device, dtype: torch.dtype) -> Any:
    """The model on its device, frozen; what embeds prompts has float32 at least."""
    model = model.eval().requires_grad_(False).to(device)
    for name, part in model.named_children():
        part.to(torch.promote_types(dtype, torch.float32) if name in _PRECISE else dtype)
    for one in (*model.parameters(recurse=False), *model.buffers(recurse=False)):
        if one.is_floating_point():
            one.data = one.data.to(dtype)
    return model
