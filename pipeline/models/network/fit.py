"""Fitter: pictures → a model's input, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from pipeline.models.grids.geometry import FitRule, Frame, Hw
from schemas.records import Sample


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is looked at; the plain view unless test-time augmentation wants others.

    Attributes:
        scale: Of the model's input; 1 = its usual size.
        flip_yx: Upside down; left and right exchanged.
    """

    scale: float = 1.0
    flip_yx: tuple[bool, bool] = (False, False)


PLAIN = View()


class Fitter:
    """Resizes, normalises and pads pictures as a rule says, the way torchvision's v2 does it.

    A picture travels as 8-bit pixels and becomes floats on the device. Its input depends on
    nothing but itself.

    Args:
        rule: What is done.
        device: Where.
    """

    def __init__(self, rule: FitRule, device: str | torch.device) -> None:
        self.rule = rule
        self._device = torch.device(device)
        # There is no Lanczos on a GPU; bicubic is next to it.
        no_lanczos = rule.resample == "lanczos" and self._device.type != "cpu"
        self._interpolation = InterpolationMode("bicubic" if no_lanczos else rule.resample)
        self._mean, self._std = _statistics(rule, self._device)
        self._ahead: tuple[View, list[Sample], torch.Tensor] | None = None

    def frames(self, picture_hws: Sequence[Hw], view: View = PLAIN) -> list[Frame]:
        """Where pictures of these sizes will lie in their inputs; nothing is computed."""
        return [self.rule.frame(hw, scale=view.scale, flip_yx=view.flip_yx) for hw in picture_hws]

    def batch(
        self, samples: Sequence[Sample], view: View = PLAIN
    ) -> tuple[torch.Tensor, list[Frame]]:
        """Several pictures whose frames have one `input_hw`.

        Returns:
            B×C×h×w float32 on the device, and B frames.
        """
        frames = self.frames([sample.original_hw for sample in samples], view)
        begun, self._ahead = self._ahead, None
        if begun and begun[0] == view and _same(begun[1], samples):
            return begun[2], frames
        pairs = zip(samples, frames, strict=True)
        return torch.stack([self(one.pixels, frame, view) for one, frame in pairs]), frames

    def ahead(self, samples: Sequence[Sample], view: View = PLAIN) -> None:
        """Begins what `batch` will be asked for next, where a GPU is at work meanwhile."""
        self._ahead = None
        if self._device.type == "cuda" and samples:
            ready, _ = self.batch(samples, view)
            self._ahead = view, list(samples), ready

    def __call__(
        self, pixels: npt.NDArray[np.uint8], frame: Frame, view: View = PLAIN
    ) -> torch.Tensor:
        """One picture.

        Args:
            pixels: HxWx3 uint8 RGB; may be smaller than `frame.picture_hw`.
            frame: Of `frames`, for the same view.
            view: How it is looked at.

        Returns:
            C×h×w float32 of size `frame.input_hw`, C as the rule says, on the device.
        """
        if self.rule.channels == 1:  # grey as OpenCV makes it (Rec. 601)
            pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
        image = self._upload(pixels[..., : self.rule.channels]).permute(2, 0, 1)
        if self.rule.blurred:
            return self._squared(image, frame)
        if image.shape[-2:] != frame.content_hw:
            image = image.float() if self.rule.exact else image
            image = F.resize(
                image,
                list(frame.content_hw),
                interpolation=self._interpolation,
                antialias=self.rule.antialias,
            )
        flips = [axis for axis, flipped in zip((-2, -1), view.flip_yx, strict=True) if flipped]
        image = image.flip(flips) if flips else image
        if self.rule.padding.raw:
            return self._normalise(self._pad(image, frame, view))
        return self._pad(self._normalise(image), frame, view)

    def _squared(self, image: torch.Tensor, frame: Frame) -> torch.Tensor:
        """See `FitRule.blurred`; the order and the kernel are those of transformers' OWLv2."""
        height, width = image.shape[-2:]
        side = max(height, width)
        image = torch.nn.functional.pad(
            image * self.rule.rescale, [0, side - width, 0, side - height]
        )
        factors = torch.tensor([side, side]) / torch.tensor(frame.input_hw)
        sigma = ((factors - 1) / 2).clamp(min=0)
        if not torch.any(sigma == 0):
            kernel = (2 * torch.ceil(3 * sigma).int() + 1).tolist()
            image = F.gaussian_blur(image[None], kernel, sigma=sigma.tolist())[0]
        image = F.resize(
            image, list(frame.input_hw), interpolation=self._interpolation, antialias=False
        )
        if self.rule.mean is None:
            return image
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self.rule.mean, self.rule.std)
        )
        return (image - mean) / std

    def _upload(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _normalise(self, image: torch.Tensor) -> torch.Tensor:
        image = image.flip(0) if self.rule.bgr else image
        if self._mean is not None and self._std is not None:
            return image.to(torch.float32).sub_(self._mean).div_(self._std)
        return image.to(torch.float32) if self.rule.rescale == 1 else image * self.rule.rescale

    @staticmethod
    def _pad(image: torch.Tensor, frame: Frame, view: View) -> torch.Tensor:
        if frame.content_hw == frame.input_hw:
            return image
        sides: list[int] = []
        for inner, outer, offset, flipped in zip(
            frame.content_hw, frame.input_hw, frame.offset_yx, view.flip_yx, strict=True
        ):
            after = outer - inner - offset
            sides = [after, offset, *sides] if flipped else [offset, after, *sides]
        return torch.nn.functional.pad(image, sides)


def _same(these: Sequence[Sample], those: Sequence[Sample]) -> bool:
    return len(these) == len(those) and all(a is b for a, b in zip(these, those, strict=True))


def _statistics(
    rule: FitRule, device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Mean and spread of the 8-bit values: rescaling and normalising in one step."""
    if rule.mean is None:
        return None, None
    mean, std = (
        torch.tensor(values, device=device)[:, None, None] * (1.0 / rule.rescale)
        for values in (rule.mean, rule.std)
    )
    return mean, std
