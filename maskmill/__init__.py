"""maskmill in Python: label a folder, look at what came out, ask a model about one picture.

    import maskmill
    ds = maskmill.label("photos/", "out/", model="unet-nuclei")
    ds.annotations          # an Arrow table
    ds.show("a.jpg")        # the picture with its masks
    maskmill.load("unet-nuclei")(pixels)

Nothing heavy is imported before it is used: `import maskmill` needs neither torch nor Ray.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "Dataset": "maskmill.dataset:Dataset",
    "Model": "maskmill.model:Model",
    "label": "maskmill.dataset:label",
    "load": "maskmill.model:load",
    "open": "maskmill.dataset:open_dataset",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .command import version_text

        return version_text()
    target = _NAMES.get(name)
    if target is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*_NAMES, "__version__"])
