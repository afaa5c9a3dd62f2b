"""Inputs that change by the night: pictures in folders, tars or tables, on disk or in a store."""

from __future__ import annotations

import io
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.storage import Storage
from pipeline.storage.uris import join, local_path

KINDS = 64
SIZE = 500
"""Pictures a tar or a table."""


def picture(seed: int) -> bytes:
    """A JPEG of 64x64 with a few discs."""
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 64, 3), 20, np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.integers(8, 56, 2).tolist()
        cv2.circle(pixels, (x, y), int(rng.integers(3, 7)), (220, 230, 240), -1)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


class Folder:
    """Loose files, a thousand a folder.

    Args:
        root: URI of the input.
        images: How many.
        storage: How it is reached.
    """

    def __init__(self, root: str, images: int, storage: Storage) -> None:
        self.root, self.images, self.storage = root, images, storage
        self._kinds = [picture(seed) for seed in range(KINDS)]
        self._seed = 1_000
        self._own: dict[int, bytes] = {}
        self._begin()

    def _begin(self) -> None:
        names = [self._name(number) for number in range(self.images)]
        if (root := local_path(self.root)) is None:
            self._put({name: self._kinds[n % KINDS] for n, name in enumerate(names)})
            return
        store = root.with_name("kinds")
        store.mkdir()
        for seed, data in enumerate(self._kinds):
            (store / f"{seed}.jpg").write_bytes(data)
        for number, name in enumerate(names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(store / f"{number % KINDS}.jpg", root / name)

    def change(self, numbers: list[int]) -> int:
        """Gives these pictures other bytes."""
        for number in numbers:
            self._own[number] = self._next()
        self._write(numbers)
        return len(numbers)

    def remove(self, numbers: list[int]) -> int:
        """Takes these pictures away."""
        self._own |= dict.fromkeys(numbers, b"")
        self._write(numbers)
        return len(numbers)

    def add(self) -> int:
        """One picture more."""
        data = self._next()
        self._put({f"0000/new-{self._seed}.jpg": data})
        return 1

    def walk(self) -> float:
        """Seconds of a bare walk with stat over the input; nan in a store."""
        if (root := local_path(self.root)) is None:
            return float("nan")
        started = time.monotonic()
        for where, _, names in os.walk(root):
            for name in names:
                os.stat(os.path.join(where, name))
        return time.monotonic() - started

    def _next(self) -> bytes:
        self._seed += 1
        return picture(self._seed)

    def _write(self, numbers: list[int]) -> None:
        for number in numbers:
            # It may be a link to a file of many, or gone already.
            self.storage.remove(join(self.root, self._name(number)))
        self._put({self._name(n): data for n in numbers if (data := self._own[n])})

    def _put(self, files: dict[str, bytes]) -> None:
        def write(item: tuple[str, bytes]) -> None:
            self.storage.write(join(self.root, item[0]), item[1])

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, files.items()))

    @staticmethod
    def _name(number: int) -> str:
        return f"{number // 1000:04d}/{number:08d}.jpg"


class Tars(Folder):
    """Tars of 500 pictures each; a tar is written anew where one of its pictures changes."""

    suffix = "tar"

    def _begin(self) -> None:
        self._write(list(range(self.images)))

    def add(self) -> int:
        """One file of one picture more."""
        self._put({f"new-{self._seed + 1}.{self.suffix}": self._pack({"one.jpg": self._next()})})
        return 1

    def _write(self, numbers: list[int]) -> None:
        for file in sorted({number // SIZE for number in numbers}):
            there = range(file * SIZE, min((file + 1) * SIZE, self.images))
            found = {f"{n:08d}.jpg": self._own.get(n, self._kinds[n % KINDS]) for n in there}
            packed = self._pack({name: data for name, data in found.items() if data})
            self._put({f"{file:06d}.{self.suffix}": packed})

    def _pack(self, files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as out:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


class Tables(Tars):
    """Parquet files of 500 pictures each, 100 a row group."""

    suffix = "parquet"

    def _pack(self, files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        table = pa.table({"image": list(files.values()), "name": list(files)})
        pq.write_table(table, buffer, row_group_size=100)
        return buffer.getvalue()


LAYOUTS: dict[str, type[Folder]] = {"folder": Folder, "tars": Tars, "parquet": Tables}
