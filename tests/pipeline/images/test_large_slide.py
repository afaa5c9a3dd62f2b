"""large.py, slides: every part is what decoding gives, and no more is read than is needed."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from pictures_encoded import decode
from slides import COLOR, PLACES, written

from pipeline.images import large
from pipeline.images.decoded import UndecodableError
from pipeline.images.large import SlidePixels
from pipeline.images.stretch import histogram
from pipeline.storage import file_bytes
from pipeline.storage.file_bytes import FileBytes
from pipeline.storage.storage import Storage
from schemas.config.images import ImagesConfig


@pytest.mark.parametrize("codec", [None, "lzw", "zlib", "jpeg", "jpeg2000", "webp"])
def test_every_part_equals_the_whole(codec):
    data = written(COLOR, compression=codec)
    whole = decode(data).pixels
    pixels = SlidePixels(data, ImagesConfig())
    assert pixels.shape == whole.shape
    for place in PLACES:
        np.testing.assert_array_equal(pixels[place], whole[place])
    np.testing.assert_array_equal(np.asarray(pixels), whole)
    np.testing.assert_array_equal(histogram(pixels), histogram(whole))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(pixels))), whole)


def test_grey():
    data = written(COLOR[..., 0], photometric="minisblack", compression="zlib")
    np.testing.assert_array_equal(
        SlidePixels(data, ImagesConfig())[3:90, 7:77], decode(data).pixels[3:90, 7:77]
    )


def test_no_more_is_held_than_the_cache_allows(monkeypatch):
    monkeypatch.setattr(large, "_CACHE_BYTES", 2 * 32 * 48 * 3)
    data = written(COLOR, compression="lzw")
    pixels = SlidePixels(data, ImagesConfig())
    np.testing.assert_array_equal(pixels[:, :], decode(data).pixels)
    assert pixels._held <= 2 * 32 * 48 * 3


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path) -> str:
    return str(tmp_path) if request.param == "local" else "memory://slides"


def test_what_is_read_for_a_tile_does_not_grow_with_the_file(place, monkeypatch):
    """Neither does what is held: 3 GB of a slide would not fit."""
    monkeypatch.setattr(file_bytes, "BLOCK", 4096)
    monkeypatch.setattr(large, "_CACHE_BYTES", 4 * 32 * 48 * 3)
    asked: list[int] = []
    read = Storage.read

    def counted(self, uri, **options):
        asked.append(options["length"])
        return read(self, uri, **options)

    monkeypatch.setattr(Storage, "read", counted)
    cost, data = [], b""
    for times in (1, 3, 6):
        whole = np.tile(COLOR, (times, times, 1))
        data = written(whole)
        uri = f"{place}/{times}.tif"
        Storage().write(uri, data)
        contents = FileBytes(Storage(), uri, size=len(data))
        assert contents.sha256() == hashlib.sha256(data).hexdigest()
        assert max(asked) <= 16 * 4096
        pixels = SlidePixels(contents, ImagesConfig())
        asked.clear()
        np.testing.assert_array_equal(pixels[40:90, 50:140], whole[40:90, 50:140])
        cost.append(sum(asked))
        for top in range(0, len(whole), 32):
            np.testing.assert_array_equal(pixels[top : top + 32], whole[top : top + 32])
            assert sum(map(len, contents._blocks.values())) <= 32 * 4096
            assert pixels._held <= 4 * 32 * 48 * 3
        asked.clear()
    assert len(data) > 25 * cost[0]
    assert max(cost) <= min(cost) + 6 * 4096


def test_a_tile_that_cannot_be_read_is_no_broken_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(file_bytes, "BLOCK", 64)
    (tmp_path / "a.tif").write_bytes(written(COLOR))
    contents = FileBytes(Storage(), str(tmp_path / "a.tif"), size=len(written(COLOR)))
    pixels = SlidePixels(contents, ImagesConfig())
    contents._blocks.clear()
    (tmp_path / "a.tif").write_bytes(written(COLOR)[:9999])
    with pytest.raises(UndecodableError, match="bytes came") as caught:
        pixels[:, :]
    assert caught.value.code == "read_error"
