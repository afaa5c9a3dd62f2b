import pytest

from pipeline.evaluation.sources.categories import ScoredCategory, match_categories


def table(*rows, **names):
    items = [ScoredCategory(*row) for row in rows]
    items += [ScoredCategory(id_, name) for name, id_ in names.items()]
    return {item.id: item for item in items}


NUCLEI = table((1, "nucleus"), (2, "background", False, True))


def test_by_id():
    match = match_categories(table(cat=17, dog=18), table(cat=17, dog=18, cow=21))
    assert match.how == "by id"
    assert match.predicted_ids == {17: 17, 18: 18}
    assert match.unknown == ("cow",)


def test_by_id_though_names_differ():
    match = match_categories(table((1, "cell")), NUCLEI)
    assert (match.predicted_ids, match.unknown) == ({1: 1}, ())
    assert match.how == "by id, though 1 is 'nucleus' here and 'cell' in the ground truth"


def test_the_background_is_no_object_that_happens_to_have_its_id():
    match = match_categories(table(nucleus=1, mitosis=2), NUCLEI)
    assert (match.predicted_ids, match.unknown) == ({1: 1}, ())


def test_by_name_where_the_ids_differ():
    match = match_categories(table(cat=17, dog=18), table(cat=1, dog=17))
    assert match.how == "by name"
    assert match.predicted_ids == {1: 17, 17: 18}


def test_the_only_thing_of_each_side():
    match = match_categories(table(cell=9), NUCLEI)
    assert match.predicted_ids == {1: 9}
    assert "'nucleus' is 'cell'" in match.how


def test_nothing_in_common():
    with pytest.raises(ValueError, match="truth has 1 'a', 2 'b', the predictions have 3 'c'"):
        match_categories(table(a=1, b=2), table(c=3))


def test_label_maps_take_the_only_thing():
    match = match_categories(None, NUCLEI, truth_is_one=True)
    assert match.truth_ids == {1: 1}
    assert match.predicted_ids == {1: 1, 2: 2}
    assert list(match.table) == [1, 2]
    other_way = match_categories(table(cell=9), None, predicted_is_one=True)
    assert (other_way.truth_ids, other_way.predicted_ids) == ({9: 9}, {1: 9})


def test_label_maps_against_many_things_tell_none_apart():
    match = match_categories(None, table((1, "a"), (5, "b"), (7, "s", False)), truth_is_one=True)
    assert match.predicted_ids == {1: 1, 5: 1}
    assert match.how == "not told apart"
    both = match_categories(None, None, truth_is_one=True, predicted_is_one=True)
    assert both.table[1].name == "object"


def test_ignoring_categories():
    match = match_categories(table(a=3, b=4), table(c=5, d=6), ignore=True)
    assert (match.truth_ids, match.predicted_ids) == ({3: 1, 4: 1}, {5: 1, 6: 1})


def test_maps_of_category_ids_take_the_table_of_the_other_side():
    match = match_categories(None, NUCLEI)
    assert (match.table, match.truth_ids, match.predicted_ids) == (NUCLEI, None, None)


def test_names_of_voc_and_coco_agree():
    truth = table(**{"airplane": 5, "tv": 72, "dining table": 67, "person": 1, "pizza": 59})
    match = match_categories(truth, table(aeroplane=2, tvmonitor=21, DiningTable=12, person=16))
    assert match.predicted_ids == {2: 5, 21: 72, 12: 67, 16: 1}
    assert match.unpredictable == (59,)
    assert match.how == "by name"


def test_a_map_says_which_name_is_which():
    truth, found = table(vehicle=1, person=2), table(car=2, truck=3, person=4, tree=5)
    match = match_categories(truth, found, category_map={"car": "vehicle", "Truck": "Vehicle"})
    assert match.predicted_ids == {2: 1, 3: 1, 4: 2}
    assert match.unknown == ("tree",)
    assert match.how == "by name, with a category map"
    same_id = match_categories(table(cell=1), table(cell=1, debris=2), category_map={"2": "cell"})
    assert same_id.predicted_ids == {1: 1, 2: 1}


def test_a_map_of_numbers():
    found = table(road=4, sky=5)
    match = match_categories(None, found, category_map={"road": "3", "sky": "0"})
    assert match.predicted_ids == {4: 3, 5: 0}
    assert {id_: item.name for id_, item in match.table.items()} == {3: "road", 0: "sky"}
    other_way = match_categories(table(dog=18), None, category_map={"12": "dog", "0": "background"})
    assert other_way.predicted_ids == {12: 18}
    both = match_categories(None, None, category_map={"1": "7"})
    assert both.predicted_ids == {1: 7}


@pytest.mark.parametrize(
    ("category_map", "message"),
    [
        ({"dgo": "cat"}, "names 'dgo', which the predictions do not have; did you mean 'dog'"),
        ({"dog": "cta"}, "names 'cta', which the ground truth does not have; did you mean 'cat'"),
    ],
)
def test_a_map_of_what_is_not_there(category_map, message):
    with pytest.raises(ValueError, match=message):
        match_categories(table(cat=1), table(dog=2), category_map=category_map)


def test_a_map_of_names_on_a_side_of_numbers():
    with pytest.raises(ValueError, match="names 'cat' on a side whose pixels are numbers"):
        match_categories(None, table(dog=2), category_map={"dog": "cat"})
