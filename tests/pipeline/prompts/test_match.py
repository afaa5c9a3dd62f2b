"""Names of a file and names of pictures: the longest common end decides, doubt refuses."""

from __future__ import annotations

import pytest

from pipeline.prompts.match import check_match, match_names


@pytest.mark.parametrize(
    ("pictures", "names", "found"),
    [
        (["a/x.jpg"], ["a/x.jpg"], {}),
        (["a/x.png"], ["a/x.jpg"], {"a/x.png": "a/x.jpg"}),
        (["photos/a/x.jpg", "photos/b/x.jpg"], ["a/x.jpg"], {"photos/a/x.jpg": "a/x.jpg"}),
        (["x.jpg", "b/x.jpg"], ["x.jpg"], {}),  # the one of exactly this name
        (["x.jpg", "b/x.jpg"], ["b/x.jpg"], {}),
        (["x.jpg"], ["train/x.jpg", "val/x.jpg"], {}),  # two names for one picture
        (["b.x.jpg"], ["b.x"], {"b.x.jpg": "b.x"}),  # YOLO's names have no extension
        (["b.jpg"], ["b.x"], {}),
        (["a.jpg", "a.png"], ["a.png"], {}),
        (["1/a.jpg", "2/a.png"], ["3/a.png"], {"2/a.png": "3/a.png"}),
    ],
)
def test_which_picture_a_name_means(pictures, names, found) -> None:
    match = match_names(pictures, names)
    assert match.keys == found
    assert match.doubtful == {}
    there = {*found.values(), *(set(pictures) & set(names))}
    assert match.absent == tuple(name for name in names if name not in there)


def test_a_name_that_fits_two_pictures_stops_the_job() -> None:
    match = match_names(["a/x.jpg", "b/x.jpg", "y.jpg"], ["x.jpg", "y.jpg"])
    assert (match.keys, match.absent) == ({}, ())
    assert match.doubtful == {"x.jpg": ("a/x.jpg", "b/x.jpg")}
    with pytest.raises(ValueError, match=r"'x.jpg' of f fits 'a/x.jpg', 'b/x.jpg' equally well"):
        check_match(match, uri="f", names=2, pictures=["a/x.jpg"], least=0)


@pytest.mark.parametrize(
    ("names", "least", "words"),
    [
        (["img-1.png"], 0.5, r"none is in the input: .* 'img-1.png', the input holds 'IMG_1.png'"),
        (["img-1.png"], 0.0, "none is"),
        (["IMG_1.png", "b", "c", "d"], 0.5, r"1 only .*'b', 'c', 'd'.*min_matched = 0.5"),
    ],
)
def test_a_file_of_other_pictures_stops_the_job(names: list[str], least: float, words: str) -> None:
    pictures = ["IMG_1.png"]
    match = match_names(pictures, names)
    with pytest.raises(ValueError, match=words):
        check_match(match, uri="f", names=len(names), pictures=pictures, least=least)


def test_half_is_enough_and_the_least_can_be_lowered() -> None:
    match = match_names(["a", "z"], ["a", "b"])
    check_match(match, uri="f", names=2, pictures=["a", "z"], least=0.5)
    match = match_names(["a"], list("abcdefgh"))
    check_match(match, uri="f", names=8, pictures=["a"], least=0.1)
