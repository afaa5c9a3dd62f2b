"""The report: images drawn a second against a plain Pillow loop, and how fast the page opens.

The pictures are simulated (bright discs on noise, 640×480 JPEG, 25 segments each). The peer does
for each picture what a simple script would: decode with Pillow, decode every mask, lay the colours
over it, save picture and thumbnail. Both use one thread.

    python -m bench.report [--images 300] [--page 20000]
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.ledger.ledger import Ledger, write_dataset
from pipeline.masks import codec
from pipeline.report import write_report
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from browser import Page, find_browser, open_browser

NUCLEUS = Categories((Category(1, "disc", True, "#1f9e89"),))
Scene = tuple[bytes, Segmentation]
READY = "document.documentElement?.dataset.ready && document.querySelector('.thumb img')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--page", type=int, default=20_000)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    scenes = [_scene(seed) for seed in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ours = _draw(_dataset(root / "speed", scenes, args.images), scenes, threads=1)
        peer = _peer(scenes, args.images, root / "peer")
        print(f"drawn a second on one thread: ours {args.images / ours:.0f}, ", end="")
        print(f"Pillow {args.images / peer:.0f}: {peer / ours:.1f}×")
        if find_browser() is None:
            print("no Chromium here: the page was not opened")
            return
        for count in (20, args.page):
            ledger = _dataset(root / str(count), scenes, count)
            seconds = _draw(ledger, scenes, threads=4)
            index = root / str(count) / "report" / "index.html"
            print(f"{count:,} images: written in {seconds:.1f} s, {_opened(index)}")


def _scene(seed: int) -> Scene:
    random = np.random.default_rng(seed)
    labels = np.zeros((480, 640), np.uint8)
    for number in range(1, 26):
        centre = (int(random.integers(20, 620)), int(random.integers(20, 460)))
        cv2.circle(labels, centre, int(random.integers(8, 24)), number, -1)
    light = cv2.GaussianBlur((labels > 0) * 170.0 + 20, (0, 0), 2)
    light = np.clip(light + random.normal(0, 9, labels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([light // 3, light, light // 2], axis=2)).save(file, "JPEG")
    segments = tuple(
        Segment(1, r.counts, r.area, r.bbox_xywh, round(float(random.uniform(0.4, 1)), 3))
        for r in codec.regions(labels)
    )
    return file.getvalue(), Segmentation(480, 640, segments)


def _dataset(folder: Path, scenes: list[Scene], count: int) -> Ledger:
    def images() -> Iterator[tuple[ImageRecord, Segmentation]]:
        for number in range(1, count + 1):
            name = f"simulated/plate-{number // 100:04d}/field-{number:06d}.jpg"
            yield ImageRecord(name, "", image_id=number), scenes[number % len(scenes)][1]

    return write_dataset(str(folder), images(), categories=NUCLEUS, task="instance")


def _draw(ledger: Ledger, scenes: list[Scene], *, threads: int) -> float:
    begun = time.perf_counter()
    write_report(
        ledger,
        ledger.uri + "/report",
        max_images=1_000_000,
        read=lambda record: scenes[record.image_id % len(scenes)][0],
        threads=threads,
    )
    return time.perf_counter() - begun


def _peer(scenes: list[Scene], count: int, folder: Path) -> float:
    folder.mkdir()
    begun = time.perf_counter()
    for number in range(1, count + 1):
        data, segmentation = scenes[number % len(scenes)]
        picture = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        for place, segment in enumerate(segmentation.segments):
            inside = codec.decode(segment.counts, 480, 640) > 0
            colour = np.array([(place * 67) % 256, (place * 131) % 256, 160])
            picture[inside] = (picture[inside] * 0.55 + colour * 0.45).astype(np.uint8)
        image = Image.fromarray(picture)
        image.save(folder / f"{number}.jpg", quality=85)
        image.thumbnail((320, 320))
        image.save(folder / f"{number}-small.jpg", quality=80)
    return time.perf_counter() - begun


def _opened(index: Path) -> str:
    """First paint, ready and first thumbnail of a cold load, and the size of the page."""
    best: list[float] = []
    with open_browser() as browser:
        for _ in range(3):
            with Page(browser, width=1400, height=1000) as page:
                page.open(index.as_uri(), ready=READY)
                thumb = page.run("performance.now()")
                paint, ready = page.run(
                    "[performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,"
                    " performance.getEntriesByName('maskmill-ready')[0].startTime]"
                )
                if not best or thumb < best[2]:
                    best = [paint, ready, thumb]
    size = index.stat().st_size / 1e6
    return (
        f"index.html {size:.1f} MB; first paint {best[0]:.0f} ms, ready {best[1]:.0f} ms, "
        f"first thumbnail {best[2]:.0f} ms"
    )


if __name__ == "__main__":
    main()
