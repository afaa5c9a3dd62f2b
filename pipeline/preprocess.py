"""Preprocessing of a job's pictures: references are read, files decoded, the chain applied."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from schemas.config import ImagesConfig
from schemas.preprocess_config import MatchHistogram, PreprocessConfig, Step
from schemas.records import ErrorCode, Failure, ImageRecord, Sample

from .images import decode_image, decode_with_values
from .storage import Storage, absolute_uri
from .transforms.preprocess import Chain, Pixels


def resolve_references(config: PreprocessConfig, storage: Storage) -> PreprocessConfig:
    """The same with absolute URIs and hashes of the pictures that steps refer to.

    Raises:
        ValueError: A reference is no picture, or not the one whose hash is given.
        StorageError: It cannot be read.
    """

    def resolved(step: Step) -> Step:
        if not isinstance(step, MatchHistogram):
            return step
        uri = absolute_uri(step.reference)
        _, sha256 = _reference(uri, step.sha256, storage)
        return step.model_copy(update={"reference": uri, "sha256": sha256})

    return config.model_copy(update={"steps": tuple(map(resolved, config.steps))})


def make_chain(config: PreprocessConfig, images: ImagesConfig, storage: Storage) -> Chain:
    """The chain that a config names.

    Raises:
        ValueError: A reference is no picture, or has changed since it was resolved.
        StorageError: It cannot be read.
    """
    references = {
        step.reference: _reference(step.reference, step.sha256, storage)[0]
        for step in config.steps
        if isinstance(step, MatchHistogram)
    }
    return Chain(config.steps, references, stretching=images.stretch_16bit)


def decode_through(
    chain: Chain, data: bytes, record: ImageRecord, images: ImagesConfig
) -> Sample | Failure:
    """Decodes a picture and sends it through a chain; never raises because of the bytes.

    Returns:
        A `Sample` of what the model is to see, or why there is none.
    """
    decoded = decode_with_values(data, record, images)
    if isinstance(decoded, Failure):
        return decoded
    sample, values = decoded
    try:
        stage = chain(values)
    except ValueError as error:
        return Failure(ErrorCode.UNSUPPORTED, f"preprocess: {error}")
    return replace(
        sample,
        pixels=stage.pixels,
        original_hw=(stage.pixels.shape[0], stage.pixels.shape[1]),
        placement=stage.placement,
    )


def _reference(uri: str, sha256: str, storage: Storage) -> tuple[Pixels, str]:
    data = storage.read(absolute_uri(uri))
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise ValueError(f"preprocess: the reference {uri} is not the picture with hash {sha256}")
    sample = decode_image(data, ImageRecord(uri, uri), ImagesConfig())
    if isinstance(sample, Failure):
        raise ValueError(f"preprocess: the reference {uri} cannot be decoded: {sample.message}")
    return sample.pixels, digest
