"""The nearest valid name."""

from __future__ import annotations

import pytest

from schemas.suggest import nearest

VALID = ["threshold", "min_score", "min_area", "Device"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("treshold", "; did you mean 'threshold'?"),
        ("THRESHOLD", "; did you mean 'threshold'?"),
        ("minscore", "; did you mean 'min_score'?"),
        ("device", "; did you mean 'Device'?"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_nearest(word: str, hint: str) -> None:
    assert nearest(word, VALID) == hint


def test_names_that_begin_with_the_word_come_first() -> None:
    names = ["maskformer-swin-t-coco", "mask2former-swin-t-coco-panoptic", "sam-vit-b"]
    assert nearest("mask2former-swin-t-coco", names) == f"; did you mean {names[1]!r}?"
    names.append("mask2former-swin-t-coco-instance")
    assert nearest("Mask2Former", names) == f"; did you mean one of {names[1]!r}, {names[3]!r}?"
    assert nearest("a", [f"a{n}" for n in range(9)]).endswith("'a3' or 5 more?")


def test_a_mistyped_name_does_not_lead_to_another_family() -> None:
    names = ["maskformer-swin-t-coco", "mask2former-swin-t-coco-panoptic", "clipseg-rd64"]
    for word in ("mask2former_swin", "mask2former-swim-t-coco", "Mask2Former Swin T"):
        assert nearest(word, names) == f"; did you mean {names[1]!r}?", word
    assert nearest("maskformer-swim-t", names) == f"; did you mean {names[0]!r}?"
    assert nearest("cellpose", names) == ""


def test_nothing_is_near_to_nothing() -> None:
    assert nearest("threshold", []) == ""
