"""ExemplarText: one `--exemplar`, read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

_FORM = re.compile(r"(?P<image>.+?):(?P<box>[^:=]*,[^:=]*)=(?P<category>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ExemplarText:
    """An object in a picture that shows what to look for.

    Attributes:
        image: Path or URI of the picture, as written.
        bbox_xywh: Around the object, pixels of the upright picture; width and height above 0.
        category: What it is.
    """

    image: str
    bbox_xywh: tuple[float, float, float, float]
    category: str

    @classmethod
    def parse(cls, text: str) -> ExemplarText:
        """Reads `IMAGE:x,y,w,h=category`.

        Raises:
            ValueError: It has another form, or the box is none; names the flag.
        """
        where = f"--exemplar {text!r}"
        found = _FORM.fullmatch(text)
        if found is None or not found["category"].strip():
            raise ValueError(f"{where}: expected IMAGE:x,y,w,h=CATEGORY")
        try:
            x, y, width, height = (float(part) for part in found["box"].split(","))
        except ValueError:
            raise ValueError(f"{where}: {found['box']!r} are not four numbers x,y,w,h") from None
        box = (x, y, width, height)
        if not all(map(isfinite, box)) or width <= 0 or height <= 0:
            raise ValueError(f"{where}: the box needs a width and a height above 0")
        return cls(found["image"], box, found["category"].strip())

    @property
    def name(self) -> str:
        """The file's own name and the box: what a row's `prompt` says."""
        file = re.split(r"[/\\]", self.image)[-1]
        return f"{file}:{','.join(f'{value:g}' for value in self.bbox_xywh)}"
