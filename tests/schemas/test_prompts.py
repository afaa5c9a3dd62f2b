"""`IMAGE:x,y,w,h=CATEGORY` and `IMAGE:@MASK=CATEGORY`: whatever the image is called."""

from __future__ import annotations

import pytest

from schemas.config.prompts import PromptsConfig
from schemas.prompts import ExemplarText


@pytest.mark.parametrize(
    ("text", "image", "box", "category"),
    [
        ("dog.jpg:1,2,30,40=a dog", "dog.jpg", (1, 2, 30, 40), "a dog"),
        ("s3://b/k=1/a b.png:0,0.5,3,4= x=y ", "s3://b/k=1/a b.png", (0, 0.5, 3, 4), "x=y"),
        (r"C:\p\a.png:1,2,3,4=c", r"C:\p\a.png", (1, 2, 3, 4), "c"),
        ("a:1,2,3,4:5,6,7,8=c", "a:1,2,3,4", (5, 6, 7, 8), "c"),
    ],
)
def test_it_is_read(text: str, image: str, box: tuple[float, ...], category: str) -> None:
    found = ExemplarText.parse(text)
    assert (found.image, found.bbox_xywh, found.category) == (image, box, category)


@pytest.mark.parametrize(
    ("text", "image", "mask", "category"),
    [
        ("dog.jpg:@dog.png=a dog", "dog.jpg", "dog.png", "a dog"),
        (
            "s3://b/k=1/a b.png:@s3://b/k=1/m,1.png= x ",
            "s3://b/k=1/a b.png",
            "s3://b/k=1/m,1.png",
            "x",
        ),
        (r"C:\p\a.png:@C:\p\m.png=c", r"C:\p\a.png", r"C:\p\m.png", "c"),
    ],
)
def test_a_mask_is_read_in_place_of_the_box(
    text: str, image: str, mask: str, category: str
) -> None:
    found = ExemplarText.parse(text)
    assert (found.image, found.mask, found.category) == (image, mask, category)
    assert found.bbox_xywh is None


def test_a_row_names_the_file_and_the_box_or_the_mask() -> None:
    assert ExemplarText.parse("/far/dog.jpg:@/away/mask.png=dog").name == "dog.jpg:@mask.png"
    assert ExemplarText.parse("/far/away/dog.jpg:1,2,30,40.5=dog").name == "dog.jpg:1,2,30,40.5"
    assert ExemplarText.parse(r"C:\p\a.png:1,2,3,4=c").name == "a.png:1,2,3,4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog.jpg", "expected IMAGE:x,y,w,h=CATEGORY"),
        ("dog.jpg:1,2,3,4", "expected IMAGE:x,y,w,h=CATEGORY"),
        ("dog.jpg:1,2,3,4=  ", "expected IMAGE:x,y,w,h=CATEGORY"),
        ("dog.jpg:@mask.png", "expected IMAGE:x,y,w,h=CATEGORY or IMAGE:@MASK=CATEGORY"),
        ("dog.jpg:@=dog", "expected IMAGE:x,y,w,h=CATEGORY or IMAGE:@MASK=CATEGORY"),
        ("dog.jpg:@mask.png= ", "expected IMAGE:x,y,w,h=CATEGORY or IMAGE:@MASK=CATEGORY"),
        (":@mask.png=dog", "expected IMAGE:x,y,w,h=CATEGORY or IMAGE:@MASK=CATEGORY"),
        (":1,2,3,4=dog", "expected IMAGE:x,y,w,h=CATEGORY"),
        ("dog.jpg:1,2,3=dog", "'1,2,3' are not four numbers"),
        ("dog.jpg:1,2,3,x=dog", "'1,2,3,x' are not four numbers"),
        ("dog.jpg:1,2,0,4=dog", "a width and a height above 0"),
        ("dog.jpg:1,2,3,-4=dog", "a width and a height above 0"),
        ("dog.jpg:nan,2,3,4=dog", "a width and a height above 0"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"--exemplar .*{message}"):
        ExemplarText.parse(text)
    with pytest.raises(ValueError, match=f"exemplars: --exemplar .*{message}"):
        PromptsConfig.parse({"exemplars": ["a.png:1,2,3,4=fine", text]})
