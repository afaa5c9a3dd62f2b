"""memory.py: an image that the worker's memory does not hold is refused before it is decoded."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from pictures_encoded import RECORD, decode, encoded, scene

from pipeline.images import memory
from pipeline.images.decode import decode_image
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure

GIB = 1 << 30


def bomb(side: int) -> bytes:
    """The start of a PNG of side × side grey pixels, all 0: nobody reads on before it is sized."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", zlib.compress(bytes(side + 1))) + chunk(b"IEND", b"")


def refused(data: bytes, **config: int) -> Failure:
    found = decode_image(data, RECORD, ImagesConfig(**config))
    assert isinstance(found, Failure)
    assert found.code is ErrorCode.TOO_LARGE
    return found


def test_the_limit_follows_the_memory(monkeypatch):
    data = bomb(22_000)
    monkeypatch.setattr(memory, "worker_memory", lambda: 24 * GIB)
    failure = refused(data)
    assert failure.temporary
    assert failure.message == (
        "484 MP needs about 11 GB, this worker may use 6; tile it or set images.max_pixels"
    )


def test_an_explicit_limit_is_a_plain_rule(monkeypatch):
    monkeypatch.setattr(memory, "worker_memory", lambda: 1)
    assert decode(encoded(scene(), "PNG"), max_pixels=48 * 65).original_hw == (48, 65)
    failure = refused(encoded(scene(), "PNG"), max_pixels=48 * 65 - 1)
    assert not failure.temporary
    assert failure.message.endswith("are more than images.max_pixels = 3119")


def test_deep_images_and_many_bands_need_more(monkeypatch):
    assert memory.deep_bytes(1, 1) == memory.deep_bytes(3, 1) == memory.BYTES_A_PIXEL
    assert memory.deep_bytes(3, 2) > memory.deep_bytes(1, 2) > memory.BYTES_A_PIXEL
    pixels = 48 * 65
    monkeypatch.setattr(memory, "worker_memory", lambda: 4 * 30 * pixels)
    decode(encoded(scene(), "PNG"))
    assert "MP needs" in refused(encoded(scene()[..., 0].astype(np.uint16), "PNG")).message


def test_a_jpeg_that_is_scaled_down_in_decoding_needs_less(monkeypatch):
    data = encoded(np.repeat(np.repeat(scene(), 8, 0), 8, 1), "JPEG")
    monkeypatch.setattr(memory, "worker_memory", lambda: 4 * 24 * 48 * 65)
    assert decode(data, min_side=48).pixels.shape == (48, 65, 3)
    refused(data)


def test_workers_of_one_machine_share_it(monkeypatch):
    alone = memory.worker_memory()
    monkeypatch.setattr(memory, "_state", {"workers": 1})
    memory.share_memory(8)
    assert memory.worker_memory() == alone // 8


def test_a_container_has_less_than_its_machine(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUPS", (str(limit), str(tmp_path / "absent")))
    limit.write_text(f"{1 << 20}\n")
    assert memory.worker_memory() == 1 << 20
    limit.write_text("max\n")
    memory._machine_memory.cache_clear()
    assert memory.worker_memory() > 1 << 20


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_kind_is_measured(kind, monkeypatch):
    monkeypatch.setattr(memory, "worker_memory", lambda: 1000)
    assert refused(encoded(scene(), kind)).temporary
