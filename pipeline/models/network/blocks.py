"""Compiles the repeated layer of a network instead of the whole network.

`torch.compile` of a whole Mask2Former unrolls 27 layers and takes 150 s; its layers are alike, and
a layer compiled once serves all of them. Kernels and graphs that were built lie in Inductor's
folder (TORCHINDUCTOR_CACHE_DIR) and Triton's (TRITON_CACHE_DIR), which a job may name.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

REPEATED = re.compile(
    r"(SwinLayer|SwinPatchMerging|SwinPatchEmbeddings"
    r"|EncoderLayer|DecoderLayer|SegformerLayer|SegformerDecodeHead"
    r"|LeanPixelDecoderEnd|EomtLayer|EomtScaleBlock|EomtDinov3\w*Layer"
    r"|BeitLayer|Data2VecVisionLayer|DPTViTLayer|ConvNextLayer|Bottleneck|BasicBlock"
    r"|BackboneWithFPN|RPNHead|Sam3ViTLayer|Sam3FPNLayer|Sam3PixelDecoder)$"
)
"""Names of classes of which a network has many alike, or that end it."""

_CALLS = 64
"""Kinds of input that one layer is compiled for: stages × shapes of pictures."""


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that `compile_blocks` would compile; none where the network has none it knows."""
    blocks: list[nn.Module] = []
    _collect(model, blocks)
    return blocks


def compile_blocks(model: nn.Module) -> int:
    """Lets the repeated layers be compiled when they are called next.

    Args:
        model: Loaded, in its final precision, and called once: transformers hangs hooks into a
            model at its first call, of which those inside a layer are taken out. They hand on
            weights of attention to whoever asks for them.

    Returns:
        How many layers; 0 where none is known, and nothing was changed.
    """
    blocks = repeated_blocks(model)
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _CALLS)
    for block in blocks:
        for module in block.modules():
            if module is not block:
                _take_out_capturing(module)
        # Its forward, not the call: hooks of transformers read what no compiler can follow.
        whole: Any = torch.compile(block.forward, fullgraph=True, dynamic=False)
        block.forward = whole
    return len(blocks)


def _collect(module: nn.Module, blocks: list[nn.Module]) -> None:
    """The outermost layers of such a name."""
    for child in module.children():
        if REPEATED.search(type(child).__name__):
            blocks.append(child)
        else:
            _collect(child, blocks)


def _take_out_capturing(module: nn.Module) -> None:
    for key, hook in list(module._forward_hooks.items()):
        if getattr(hook, "__name__", "") == "output_capturing_hook":
            del module._forward_hooks[key]


def without_drop_path(model: nn.Module) -> None:
    """Takes out what only training uses; as numbers of their own they would part equal layers."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child).__name__.endswith("DropPath"):
                setattr(parent, name, nn.Identity())
