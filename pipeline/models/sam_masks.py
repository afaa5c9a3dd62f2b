"""Which of SAM's masks of a prompt are taken: all alternatives, the best, or the single one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .sam_decoder import Decoded
from .sam_net import Encoded, SamNet


@dataclass(frozen=True, slots=True)
class SmallMasks:
    """Masks of some prompts as small logits.

    Attributes:
        logits: M×h×w.
        predicted_iou: M float32.
        prompt: M int64, index of the prompt.
    """

    logits: Tensor
    predicted_iou: Tensor
    prompt: Tensor


def alternatives(
    net: SamNet, picture: Encoded, prompts: Tensor, *, least: float, reference: bool
) -> SmallMasks:
    """All alternatives whose estimated quality exceeds `least`; HQ-SAM has one a prompt.

    Args:
        net: A loaded SAM.
        picture: One.
        prompts: N×P×C.
        least: Not looked at unless above 0, as in the segment-anything package.
        reference: With the implementation's own decoder, which enlarges every mask.
    """
    if reference:
        logits, quality = net.reference(picture, prompts)
        if net.hq_token is not None:  # the best comes first
            logits, quality = logits[:, :1], quality[:, :1]
        keep = _above(quality, least)
        return SmallMasks(logits[keep], quality[keep].float(), keep.nonzero()[:, 0])
    decoded = net.fast.decode(picture.embedding, prompts)
    quality = decoded.predicted_iou[:, 1 : net.mask_tokens]
    keep = _above(quality, least)
    if net.hq_token is not None:
        best = torch.zeros_like(keep).scatter_(1, quality.argmax(1, keepdim=True), value=True)
        keep &= best
    rows = keep.any(1).nonzero()[:, 0]
    logits = _logits(net, picture, decoded.take(rows), range(1, net.mask_tokens))
    return SmallMasks(logits[keep[rows]], quality[keep].float(), keep.nonzero()[:, 0])


def best_masks(
    net: SamNet, picture: Encoded, prompts: Tensor, *, ambiguous: bool, single: bool = False
) -> SmallMasks:
    """One mask a prompt: that of the highest estimated quality.

    Args:
        net: A loaded SAM.
        picture: One.
        prompts: N×P×C.
        ambiguous: One point can mean a part or the whole: only the alternatives are looked at. A
            box or several points mean one thing: the mask that was trained for that as well.
        single: For what is not ambiguous that mask alone, which SAM 2 gives up for the best
            alternative where it is not stable.
    """
    decoded = net.fast.decode(picture.embedding, prompts)
    quality = decoded.predicted_iou[:, : net.mask_tokens].float()
    every = torch.arange(len(prompts), device=prompts.device)
    single = single and not ambiguous
    if single and net.instability is None:
        logits = _logits(net, picture, decoded, range(1))
        return SmallMasks(logits[:, 0], quality[:, 0], every)
    logits = _logits(net, picture, decoded, range(net.mask_tokens))
    skip = 1 if single or ambiguous else 0
    choice = quality[:, skip:].argmax(1) + skip
    if single and net.instability is not None:
        choice = torch.where(net.instability.stable(logits[:, 0]), 0, choice)
    return SmallMasks(logits[every, choice], quality[every, choice], every)


def _above(quality: Tensor, least: float) -> Tensor:
    return quality > least if least > 0 else torch.ones_like(quality, dtype=torch.bool)


def _logits(net: SamNet, picture: Encoded, decoded: Decoded, tokens: range) -> Tensor:
    """N×M×h×w of these mask tokens, HQ-SAM's own mask added to each."""
    wanted = list(tokens) if net.hq_token is None else [*tokens, net.hq_token]
    logits = net.fast.masks(picture.embedding, decoded, torch.tensor(wanted))
    return logits if net.hq_token is None else logits[:, :-1] + logits[:, -1:]
