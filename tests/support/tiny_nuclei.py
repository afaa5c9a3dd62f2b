"""A folder of drawn nuclei in the layout that training reads."""

import json

import cv2
import numpy as np


def write_tiny_nuclei(folder, *, train=4, val=2, side=64):
    """Discs on black; index.json, images/, labels/."""
    rng = np.random.default_rng(0)
    rows = []
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(train + val):
        label_map = np.zeros((side, side), np.uint16)
        for label in range(1, 5):
            center = rng.integers(8, side - 8, 2).tolist()
            cv2.circle(label_map, center, int(rng.integers(4, 8)), label, cv2.FILLED)
        pixels = np.where(label_map > 0, 160, 12) + rng.normal(0, 4, label_map.shape)
        name = f"{number}.png"
        cv2.imwrite(str(folder / "images" / name), pixels.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "labels" / name), label_map)
        rows.append(
            {
                "id": str(number),
                "split": "train" if number < train else "val",
                "kind": "fluorescence",
                "image": f"images/{name}",
                "label": f"labels/{name}",
            }
        )
    (folder / "index.json").write_text(json.dumps({"images": rows}))
    return folder
