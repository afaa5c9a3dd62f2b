"""Loads a transformers checkpoint whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .info import ModelInfo

HARMLESS = (
    r"relative_position_index$",  # follow from the architecture; saved by old versions only
    r"position_ids$",
    r"num_batches_tracked$",
    r"^criterion\.",  # the loss
)
"""Keys that may be missing or left over."""


def load_pretrained(
    model_class: Any,
    info: ModelInfo,
    *,
    device: str,
    allow_pickle: bool = False,
    harmless: Sequence[str] = (),
    **options: Any,
) -> torch.nn.Module:
    """The network of a checkpoint folder, ready to be asked, on the device.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        info: The checkpoint.
        device: Where it goes.
        allow_pickle: Read a pickle where there is no safetensors file, and then only weights.
        harmless: Patterns of further keys that may be missing or left over.
        options: Of `from_pretrained`.

    Raises:
        ValueError: Weights are missing, left over or of another shape: what was drawn at random
            must not label anything.
    """
    # Checks of shapes that wait for the GPU in each layer; transformers' own switch.
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safe = any(Path(info.folder).glob("*.safetensors"))
    model, report = model_class.from_pretrained(
        info.folder,
        local_files_only=True,
        use_safetensors=safe or not allow_pickle,
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report, which is clearer than the error
        dtype=torch.float32,
        **options,
    )
    known = [*HARMLESS, *harmless]
    wrong = [
        f"{kind} {_some(keys)}"
        for kind, keys in (
            ("missing", _strange(report["missing_keys"], known)),
            ("left over", _strange(report["unexpected_keys"], known)),
            ("of another shape", [key[0] for key in report["mismatched_keys"]]),
        )
        if keys
    ]
    if wrong:
        raise ValueError(f"weights do not fit {type(model).__name__}: {'; '.join(wrong)}")
    model.eval().requires_grad_(False)
    return model.to(device=device, memory_format=torch.channels_last)


def _strange(keys: Any, known: Sequence[str]) -> list[str]:
    return sorted(key for key in keys if not any(re.search(each, key) for each in known))


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
