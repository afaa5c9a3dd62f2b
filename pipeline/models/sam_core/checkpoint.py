"""Checkpoints of SAM: transformers' folders, and weights as their authors publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch

from pipeline.models.checkpoints.architecture import EFFICIENT_SAM, SAM
from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import EmptyWeights, fill, load_pretrained, read_weights
from pipeline.models.grids.geometry import FitRule, Padding, Size

from .net import PackageSam, SamNet, TransformersSam, inference

_CLASSES = {
    "sam": "SamModel",
    "sam_hq": "SamHQModel",
    "sam2": "Sam2Model",
    "sam2_video": "Sam2Model",
    "edgetam": "EdgeTamModel",
    "edgetam_video": "EdgeTamModel",
    "sam3_tracker": "Sam3TrackerModel",
}
"""model_type → class of transformers."""

_MOBILE = "vit_t"
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class SamCheckpoint(Protocol):
    """A checkpoint that can be loaded.

    Attributes:
        rule: How pictures go in.
        two_steps: Its logits are enlarged through the square input, as SAM 1's are.
    """

    rule: FitRule
    two_steps: bool

    def load(
        self, device: str, dtype: torch.dtype, *, reference: bool = False, compiled: bool = False
    ) -> SamNet:
        """The network on its device.

        Args:
            device: "cpu", "cuda".
            dtype: Of weights and activations.
            reference: Encode as the implementation does it.
            compiled: See `sam_vit.VitEncoder`.

        Raises:
            ValueError: The weights do not fit the architecture.
        """
        ...


def open_sam(info: ModelInfo, *, allow_pickle: bool = False) -> SamCheckpoint:
    """The checkpoint that a description names.

    Raises:
        ValueError: Not one of these makes.
    """
    kind = str(info.config.get("model_type", ""))
    if kind in _CLASSES:
        return _TransformersCheckpoint(info, kind, allow_pickle)
    name = str(info.config.get("architecture", {}).get("name", ""))
    if name in EFFICIENT_SAM:
        return _EfficientCheckpoint(info, name, allow_pickle)
    if name in SAM:
        return _PackageCheckpoint(info, name, allow_pickle)
    raise ValueError(
        f"{info.folder} is no SAM: model_type is none of {', '.join(_CLASSES)} and "
        f"architecture.name none of {', '.join(SAM)}"
    )


def spare_default_backbone() -> None:
    """Keeps transformers from asking the hub for EdgeTAM's default backbone.

    Version 5.17 makes a default configuration whenever it prints one, and it prints one to check
    a type: no EdgeTAM could be loaded without a network. Other versions lose nothing by it.
    """
    import transformers

    kinds: tuple[Any, ...] = (transformers.EdgeTamConfig, transformers.EdgeTamVisionConfig)
    for kind in kinds:
        kind.has_no_defaults_at_init = True


class _TransformersCheckpoint:
    def __init__(self, info: ModelInfo, kind: str, allow_pickle: bool) -> None:
        self._info, self._kind, self._allow_pickle = info, kind, allow_pickle
        self.two_steps = kind in ("sam", "sam_hq")
        self.rule = read_fit_rule(preprocessor(info.folder))

    def load(
        self, device: str, dtype: torch.dtype, *, reference: bool = False, compiled: bool = False
    ) -> SamNet:
        import transformers

        if self._kind.startswith("edgetam"):
            spare_default_backbone()
        model = load_pretrained(
            getattr(transformers, _CLASSES[self._kind]),
            self._info,
            device=device,
            allow_pickle=self._allow_pickle,
            # A video checkpoint of SAM 2 or EdgeTAM carries its memory along.
            harmless=(r"^memory_", r"^mask_downsample", r"^object_pointer", r"^no_memory_pos"),
        )
        return TransformersSam(
            inference(model, device, dtype), reference=reference, compiled=compiled
        )


class _PackageCheckpoint:
    """The longest side to 1024, black below or beside it, as the package and MobileSAM do it."""

    two_steps = True

    def __init__(self, info: ModelInfo, name: str, allow_pickle: bool) -> None:
        self._info, self._name, self._allow_pickle = info, name, allow_pickle
        self.rule = FitRule(
            size=Size("within", 1024, 1024),
            rescale=1.0,
            mean=_MEAN,
            std=_STD,
            padding=Padding(to_hw=(1024, 1024)),
        )

    def load(
        self, device: str, dtype: torch.dtype, *, reference: bool = False, compiled: bool = False
    ) -> SamNet:
        from segment_anything import sam_model_registry

        from .tiny_vit import mobile_sam, timm_names

        folder, files = self._info.folder, self._info.weights
        state = read_weights(Path(folder), files, allow_pickle=self._allow_pickle)
        mobile = self._name == _MOBILE
        with EmptyWeights():
            model: Any = mobile_sam() if mobile else sam_model_registry[self._name]()
        fill(model, timm_names(state) if mobile else state, where=folder)
        return PackageSam(inference(model, device, dtype), reference=reference, compiled=compiled)


class _EfficientCheckpoint:
    """Stretched to the square, by floats without antialias, as EfficientSAM's authors do it."""

    two_steps = False

    def __init__(self, info: ModelInfo, name: str, allow_pickle: bool) -> None:
        self._info, self._name, self._allow_pickle = info, name, allow_pickle
        self.rule = FitRule(size=Size("stretch", 1024, 1024), antialias=False, exact=True)

    def load(
        self, device: str, dtype: torch.dtype, *, reference: bool = False, compiled: bool = False
    ) -> SamNet:
        from .efficient_sam import EfficientSam, efficient_sam

        folder, files = self._info.folder, self._info.weights
        state = read_weights(Path(folder), files, allow_pickle=self._allow_pickle)
        with EmptyWeights():
            model = efficient_sam(self._name)
        fill(model, state, where=folder)
        return EfficientSam(inference(model, device, dtype), compiled=compiled and not reference)
