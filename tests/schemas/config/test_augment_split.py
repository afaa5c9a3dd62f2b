import pytest

from schemas.config.augment import SplitConfig


def test_off_until_a_share_is_given():
    assert not SplitConfig().active
    assert SplitConfig(val=0.1).active
    assert SplitConfig(train=1).active


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"val": 0.7, "test": 0.7}, ["add up to 1", "1.4"]),
        ({"train": 0.5, "val": 0.1}, ["add up to 1", "0.6"]),
        ({"val": 1.5}, ["val", "1"]),
        ({"group": "("}, ["group", "regular expression"]),
        ({"group": "abc"}, ["group", "one group", "has 0"]),
        ({"vall": 0.1}, ["vall", "val"]),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(data, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        SplitConfig.parse(data)
    for word in words:
        assert word in str(caught.value)
