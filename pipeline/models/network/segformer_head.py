"""SegFormer's decode head, its widest product done before features are enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate


class LeanSegformerDecodeHead(nn.Module):
    """Stands where a `SegformerDecodeHead` was, with the same weights.

    The head enlarges four stages to a quarter of the picture's size, joins them and multiplies each
    cell by one matrix, a third of all that a SegFormer-B5 computes. Enlarging is linear: the matrix
    is cut into four, and each part meets its stage at the stage's own size.

    Args:
        inner: The head that it replaces.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        projections = getattr(inner, "linear_projections", None) or inner.linear_c
        self.projections = projections
        self.linear_fuse = inner.linear_fuse
        self.batch_norm = inner.batch_norm
        self.activation = inner.activation
        self.classifier = inner.classifier

    def forward(self, encoder_hidden_states: Sequence[Tensor], **_unused: Any) -> Tensor:
        """B×categories×h/4×w/4 logits.

        Args:
            encoder_hidden_states: B×C×h×w of each stage, the finest first.
        """
        # The library joins the stages coarsest first.
        parts = self.linear_fuse.weight.chunk(len(encoder_hidden_states), 1)[::-1]
        whole = encoder_hidden_states[0]
        hw = whole.shape[2:]
        stages = zip(encoder_hidden_states, self.projections, parts, strict=True)
        for index, (states, project, part) in enumerate(stages):
            own = project(states).transpose(1, 2).unflatten(2, states.shape[2:])
            own = conv2d(own, part)
            if own.shape[2:] != hw:
                own = interpolate(own, size=hw, mode="bilinear", align_corners=False)
            whole = own if index == 0 else whole + own
        return self.classifier(self.activation(self.batch_norm(whole)))


def lean_segformer(model: Any) -> None:
    """Exchanges the head of a SegFormer on a GPU; other networks, and a CPU's, stay as they are."""
    head = getattr(model, "decode_head", None)
    if type(head).__name__ != "SegformerDecodeHead" or not model.config.reshape_last_stage:
        return
    if next(model.parameters()).device.type == "cuda":
        model.decode_head = LeanSegformerDecodeHead(head)
