import re

import pyarrow as pa
from source_tree import ROOT

from schemas.measurements import AREAS, CHANGES, IMAGES, LENGTHS, OBJECTS

DOCUMENT = (ROOT / "docs" / "measuring.md").read_text("utf-8")


def documented(title):
    section = DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_column_is_explained_and_no_other():
    assert documented("objects.parquet") == set(OBJECTS.names)
    assert documented("objects.images.parquet") == set(IMAGES.names)
    assert documented("Comparing two versions") == set(CHANGES.names)


def test_physical_twins_follow_the_columns_in_pixels():
    for name in AREAS:
        assert OBJECTS.field(f"{name}_um2").type == pa.float64()
    for name in LENGTHS:
        assert OBJECTS.field(name).type == OBJECTS.field(f"{name}_um").type == pa.float64()
