import pytest

from schemas.config.augment import DEFAULT_STEPS, AugmentConfig


def problem(**data):
    with pytest.raises(ValueError, match=r".+") as caught:
        AugmentConfig.parse(data)
    return str(caught.value)


def test_off_by_default_and_a_chain_where_none_is_named():
    config = AugmentConfig()
    assert config.copies == 0
    assert config.chain() == DEFAULT_STEPS
    assert AugmentConfig.parse({"steps": [{"step": "flip"}]}).chain()[0].step == "flip"


def test_one_number_is_a_range_of_one_and_a_grey():
    config = AugmentConfig.parse({"fill": 7, "steps": [{"step": "rotate", "angle": 30}]})
    assert config.fill_rgb == (7, 7, 7)
    assert config.steps[0].model_dump()["angle"] == (30.0, 30.0)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"step": "rotat"}, ["'rotat'", "rotate", "mosaic"]),
        ({"step": "rotate", "angel": 3}, ["angel", "angle"]),
        ({"step": "rotate", "angle": [30, -30]}, ["angle", "-360…360", "30.0, -30.0"]),
        ({"step": "flip", "p": 2}, ["p", "1"]),
        ({"step": "elastic", "magnitude": 0.5}, ["magnitude", "0…0.0667"]),
        ({"step": "crop", "size": [0, 9]}, ["size", "1…32000"]),
        ({"step": "jpeg", "quality": 101}, ["quality", "1…100"]),
        ({"step": "cutout", "labels": "hide"}, ["labels", "'keep'", "'erase'"]),
    ],
)
def test_a_bad_step_is_refused_with_its_key_and_what_is_allowed(steps, words):
    message = problem(steps=[steps])
    for word in words:
        assert word in message


def test_bad_sections_name_the_key():
    assert "fill" in problem(fill=[1, 2])
    assert "splits" in problem(splits=[])
    assert "'train'" in problem(splits=["trian"])
    assert "copies" in problem(copies=-1)
