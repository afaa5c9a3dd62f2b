import pytest

from pipeline.evaluation.pairs import pair_images
from pipeline.evaluation.sources.source import ImageEntry


def entries(*names):
    return [ImageEntry(number, name) for number, name in enumerate(names, start=1)]


def names(pairing):
    return [(a.name, b.name if b else None) for a, b in pairing.pairs]


def test_by_path_whatever_the_extension():
    found = pair_images(entries("a/1.png", "b/1.png", "b/2.tif"), entries("b/1.jpg", "a/1.JPEG"))
    assert found.how == "path"
    assert names(found) == [("b/1.png", "b/1.jpg"), ("a/1.png", "a/1.JPEG"), ("b/2.tif", None)]
    assert found.unknown == ()


def test_only_the_last_extension_is_one():
    found = pair_images(entries("x.v1.png", "x.v2.png"), entries("x.v2.jpg", "y.jpg"))
    assert names(found) == [("x.v2.png", "x.v2.jpg"), ("x.v1.png", None)]
    assert [item.name for item in found.unknown] == ["y.jpg"]


def test_one_path_in_many_spellings():
    truth = entries("./p/a.png", "p//b.png", "p\\c.png", "q/../p/d.png")
    found = pair_images(truth, entries("p/a.png", "p/b.png", "p/c.png", "p/d.png"))
    assert (found.how, len(found.pairs), found.unknown) == ("path", 4, ())
    found = pair_images(entries("file:///p/a.png"), entries("/p/a.png"))
    assert found.how == "path"


def test_by_stem_where_no_path_agrees():
    found = pair_images(entries("labels/1.png", "labels/2.png"), entries("shard.tar/2.jpg"))
    assert found.how == "stem"
    assert names(found) == [("labels/2.png", "shard.tar/2.jpg"), ("labels/1.png", None)]


def test_by_the_whole_name_where_two_differ_in_the_extension_only():
    both = entries("a.jpg", "a.png")
    found = pair_images(both, list(reversed(both)))
    assert found.how == "file name"
    assert names(found) == [("a.png", "a.png"), ("a.jpg", "a.jpg")]


def test_an_extension_below_another_belongs_to_its_own_image():
    found = pair_images(
        entries("a.jpg.png", "a.png.png", "a.jpg.tif.png", "b.png"),
        entries("a.jpg.tif", "a.jpg", "a.png", "b.jpg"),
    )
    assert found.how == "path"
    assert names(found) == [
        ("a.jpg.tif.png", "a.jpg.tif"),
        ("a.jpg.png", "a.jpg"),
        ("a.png.png", "a.png"),
        ("b.png", "b.jpg"),
    ]


def test_refuses_to_guess_between_equal_stems():
    with pytest.raises(ValueError, match=r"image is which by stem: the predictions have 'p/1.jpg'"):
        pair_images(entries("1.png"), entries("p/1.jpg", "q/1.jpg"))


def test_a_doubtful_image_that_nobody_asks_for_does_no_harm():
    found = pair_images(entries("t/2.png"), entries("p/1.jpg", "q/1.jpg", "p/2.jpg"))
    assert names(found) == [("t/2.png", "p/2.jpg")]


def test_by_id_where_one_side_has_no_names():
    found = pair_images(entries("a.png", "b.png"), [ImageEntry(2, None), ImageEntry(7, None)])
    assert found.how == "id"
    assert [(a.key, b.key if b else None) for a, b in found.pairs] == [(2, 2), (1, None)]
    assert [item.key for item in found.unknown] == [7]


def test_whole_names_pair_whatever_the_separators():
    """Where two names differ in their suffix alone, the path without it leaves a doubt."""
    names = ("p/a.jpg", "p/a.png", "q/b.jpg")
    found = pair_images(entries(*(name.replace("/", "\\") for name in names)), entries(*names))
    assert found.how == "file name"
    assert [(a.name.replace("\\", "/"), b.name) for a, b in found.pairs] == [(n, n) for n in names]
    same = ("p/a.jpg", "p\\a.jpg", "p/a.png")
    found = pair_images(entries(*same), entries(*same))
    assert [(a.name, b.name) for a, b in found.pairs] == [(n, n) for n in same]


def test_nothing_in_common_names_examples_of_both():
    with pytest.raises(ValueError, match=r"ground truth has 'a.png'; the predictions have 'b.png'"):
        pair_images(entries("a.png"), entries("b.png"))


@pytest.mark.parametrize(
    ("truth", "side"), [((), "ground truth holds"), (("a.png",), "predictions hold")]
)
def test_nothing_at_all(truth, side):
    with pytest.raises(ValueError, match=f"the {side} no image"):
        pair_images(entries(*truth), [] if truth else entries("a.png"))
