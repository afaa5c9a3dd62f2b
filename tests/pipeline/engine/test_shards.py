"""The plan: stable ids and content-defined shards."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import image_ids, shards
from pipeline.engine.image_ids import assign_image_ids
from pipeline.engine.shards import Listing, Shard, automatic_size
from pipeline.readers.listing import batch
from schemas.records import MAX_IMAGE_ID, ImageRecord


def record(name: str, **changes: object) -> ImageRecord:
    fields: dict[str, object] = {"uri": f"/in/{name}", "size": 10, "token": "t", **changes}
    return ImageRecord(name, **fields)  # type: ignore[arg-type]


def listing(names: list[str]) -> Listing:
    return Listing(record(name) for name in names)


NAMES = [f"{folder}/{i:04d}.jpg" for folder in "abc" for i in range(700)]


@given(st.sets(st.text(min_size=1).filter(lambda t: t.isprintable()), max_size=60), st.randoms())
def test_ids_follow_from_the_set_of_names(names: set[str], rng: random.Random) -> None:
    ordered = sorted(names)
    shuffled = ordered.copy()
    rng.shuffle(shuffled)
    one = dict(zip(ordered, assign_image_ids(ordered).tolist(), strict=True))
    two = dict(zip(shuffled, assign_image_ids(shuffled).tolist(), strict=True))
    assert one == two
    assert len(set(one.values())) == len(names)
    assert all(1 <= value <= MAX_IMAGE_ID for value in one.values())


def test_names_that_meet_on_one_hash_still_get_their_own_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_ids, "MAX_IMAGE_ID", 40)  # thirty names on forty ids must collide
    names = NAMES[:30]
    ids = assign_image_ids(names)
    again = assign_image_ids(names[::-1])[::-1]
    assert sorted(set(ids.tolist())) == sorted(ids.tolist())
    assert ids.min() >= 1
    assert ids.max() <= 40
    np.testing.assert_array_equal(ids, again)


def test_a_name_twice_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"two input images have the name 'x/a\.jpg'"):
        listing(["x/a.jpg", "x/b.jpg", "x/a.jpg"])


def test_shards_cover_the_listing_once_and_in_order() -> None:
    plan = listing(NAMES).shards(run="r", mean_size=32)
    assert plan[0].start == 0
    assert plan[-1].stop == len(NAMES)
    assert all(a.stop == b.start for a, b in pairwise(plan))
    assert all(len(shard) <= 64 for shard in plan)
    assert 24 <= np.mean([len(shard) for shard in plan]) <= 40
    assert len({shard.id for shard in plan}) == len(plan)


def test_one_image_more_or_less_touches_at_most_its_neighbours() -> None:
    before = {s.token for s in listing(NAMES).shards(run="r", mean_size=32)}
    for missing in (0, 700, 1234, len(NAMES) - 1):
        rest = NAMES[:missing] + NAMES[missing + 1 :]
        after = {s.token for s in listing(rest).shards(run="r", mean_size=32)}
        assert len(after - before) <= 3


def test_a_changed_token_size_or_config_changes_the_shard_token_only() -> None:
    plain = listing(NAMES).shards(run="r", mean_size=32)
    touched = Listing(record(n, token="u" if n == NAMES[5] else "t") for n in NAMES)
    changed = [
        a.id for a, b in zip(plain, touched.shards(run="r", mean_size=32), strict=True) if a != b
    ]
    assert changed == [plain[0].id]
    other = listing(NAMES).shards(run="s", mean_size=32)
    assert not {s.token for s in plain} & {s.token for s in other}


def test_shards_do_not_cross_a_tar() -> None:
    rows = [
        record(f"{t}.tar/{i}.jpg", uri=f"/in/{t}.tar", offset=i * 512)
        for t in "ab"
        for i in range(9)
    ]
    plan = Listing(rows).shards(run="r", mean_size=100)
    assert [(s.start, s.stop) for s in plan] == [(0, 9), (9, 18)]


def test_records_come_back_whole() -> None:
    table = listing(NAMES[:50])
    shard = table.shards(run="r")[1]
    got = table.records(shard)
    assert [r.file_name for r in got] == NAMES[shard.start : shard.stop]
    assert f"{got[0].image_id:08x}" == shard.id


def test_no_images_no_shards() -> None:
    assert listing([]).shards(run="r") == []


def test_automatic_size_is_a_power_of_two_that_grows() -> None:
    sizes = [automatic_size(n) for n in (1, 100, 1_000, 100_000, 10_000_000)]
    assert sizes == [4, 4, 16, 512, 512]


def test_copies_have_ids_of_their_own_and_move_no_picture() -> None:
    records = [record(name) for name in NAMES]
    plain, copied = Listing(records), Listing(records, copies=3)
    np.testing.assert_array_equal(plain.image_ids, copied.image_ids)
    one, two = (item.shards(run="r") for item in (plain, copied))
    assert [shard.id for shard in one] == [shard.id for shard in two]
    assert not {shard.token for shard in one} & {shard.token for shard in two}
    found = [item for shard in two for item in copied.records(shard)]
    ids = [number for item in found for number in (item.image_id, *item.copy_ids)]
    assert len(set(ids)) == 4 * len(NAMES)
    assert {len(item.copy_ids) for item in found} == {3}
    assert plain.records(one[0])[0].copy_ids == ()


def test_a_shard_is_the_same_wherever_batches_are_cut(monkeypatch):
    monkeypatch.setattr(shards, "ROWS", 100)
    names = [f"{n:04d}.jpg" for n in range(600)]

    def cut(sizes):
        at, batches = 0, []
        for size in sizes:
            part = names[at : at + size]
            batches.append(batch("/in", "", part, sizes=[1] * len(part), tokens=["t"] * len(part)))
            at += size
        return Listing.of(batches).shards(run="r", mean_size=50)

    one = cut([600])
    assert one == cut([1, 99, 300, 200])
    assert len(one) > 4


def test_records_of_containers_and_loose_files_come_back():
    tar = batch(
        "/in/t.tar", "tar", ["t.tar/a.jpg", "t.tar/b.jpg"], sizes=[5, 6], places=[512, 1536]
    )
    loose = batch("/in", "", ["z.jpg"], sizes=[7], tokens=["5"])
    listing = Listing.of([tar, loose, loose.first(0)])
    expected = [*tar.records(), *loose.records()]
    found = listing.records(Shard("x", 0, 3, ""))
    assert [replace(record, image_id=0) for record in found] == expected
    for record in found:
        assert listing.record(record.image_id) == record
    assert (
        len(
            Listing.of(
                [tar, loose],
            )
        )
        == 3
    )
    borders = {(s.start, s.stop) for s in listing.shards(run="r", mean_size=100)}
    assert borders == {(0, 2), (2, 3)}  # a shard never crosses a tar
