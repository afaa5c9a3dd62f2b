"""notes.py: what was left out of an image, written and read back."""

from __future__ import annotations

import pytest

from schemas.notes import PARTS, first_of, in_part_line, read_in_part, without_bands


@pytest.mark.parametrize("parts", PARTS)
def test_what_is_written_is_read(parts):
    kind = "z-stack" if parts == "planes of a z-stack" else f"of 5 {parts}"
    assert read_in_part(first_of(5, parts)) == (kind,)
    assert read_in_part(f"alpha dropped; {first_of(5, parts)}; end marker missing") == (kind,)
    assert read_in_part(first_of(5, parts, taken=3)) == (kind,)


@pytest.mark.parametrize("note", [None, "", "plane 3 of 5", "max of 5 planes of a z-stack"])
def test_a_choice_leaves_nothing_out(note):
    assert read_in_part(note) == ()


def test_the_line_for_people():
    assert in_part_line({"images": 3, "of 2 channels": 1, "z-stack": 2}) == (
        "3 images were read in part: 2 z-stacks, 1 of 2 channels; see images.page"
    )
    assert in_part_line({"images": 1, "z-stack": 1}).startswith(
        "1 image was read in part: 1 z-stack;"
    )
    assert in_part_line({}) == ""
    many = {f"of {number} pages": 1 for number in range(2, 12)}
    assert "5 of other kinds" in in_part_line({"images": 10, **many})


def test_bands_that_were_chosen_are_no_longer_left_out():
    assert without_bands("first of 2 channels; alpha dropped") == "alpha dropped"
    assert without_bands("first 3 of 8 bands") == ""
    assert without_bands("first of 5 planes of a z-stack") == "first of 5 planes of a z-stack"
