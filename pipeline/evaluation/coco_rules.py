"""The constants of COCO's average precision: those of `pycocotools.cocoeval.Params` for masks."""

from __future__ import annotations

import numpy as np

from .segments import Floats

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
"""Written as pycocotools writes them: 0.55 here is not always the nearest number to 0.55."""
RECALLS: Floats = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""All, small, medium, large: area in pixels, both ends included."""
MAX_DETS = (1, 10, 100, 1000)
"""The most predictions of a category in an image that count, by score. COCO's own are 1, 10, 100;
1000 is measured beside them since pictures of cells hold more than 100 objects."""
