import hashlib
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.splits import check_groups, split_of
from schemas.config.augment import SplitConfig


def sha(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_shares_come_out_as_asked():
    config = SplitConfig(val=0.2, test=0.1)
    counts = Counter(split_of(config, f"{i}.jpg", sha(i)) for i in range(5000))
    assert counts["val"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert counts["test"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert split_of(SplitConfig(), "a.jpg", sha(1)) is None


@given(seed=st.integers(0, 2**40), patient=st.integers(0, 500))
def test_a_group_is_never_torn_apart(seed, patient):
    config = SplitConfig(val=0.3, test=0.3, seed=seed, group=r"patient(\d+)_")
    found = {split_of(config, f"site{i}/patient{patient}_{i}.png", sha(i)) for i in range(10)}
    assert len(found) == 1


@given(seed=st.integers(0, 2**40), number=st.integers())
def test_copies_of_one_file_stay_together_without_a_group(seed, number):
    config = SplitConfig(val=0.3, test=0.3, seed=seed)
    assert len({split_of(config, name, sha(number)) for name in ("a.jpg", "b/a copy.jpg")}) == 1


def test_a_larger_share_of_test_takes_nobody_out_of_it():
    """Shares can grow: what was tested on before is not trained on afterwards."""
    small, large = SplitConfig(test=0.1), SplitConfig(test=0.2, val=0.1)
    for i in range(500):
        if split_of(small, "", sha(i)) == "test":
            assert split_of(large, "", sha(i)) == "test"


def test_a_group_that_is_in_no_name_is_a_slip():
    names = pa.chunked_array([["a_1.jpg", "b_2.jpg"]])
    check_groups(SplitConfig(val=0.1, group=r"(\w)_"), names)
    check_groups(SplitConfig(group=r"scene(\d)"), names)  # off
    with pytest.raises(ValueError, match=r"split.group: .*no file name; the first is 'a_1.jpg'"):
        check_groups(SplitConfig(val=0.1, group=r"scene(\d)"), names)
