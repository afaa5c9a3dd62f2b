import numpy as np

from pipeline.training.nuclei.targets import object_weight, rim_distance, target_planes, touching


def two_squares(gap):
    label_map = np.zeros((40, 60), np.uint16)
    label_map[10:30, 10:30] = 1
    label_map[10:30, 30 + gap : 50 + gap] = 2
    return label_map


def test_distance_is_one_in_the_middle_and_falls_to_the_rim_of_each_nucleus():
    label_map = two_squares(0)
    distance = rim_distance(label_map)
    assert distance[label_map == 0].max() == 0
    assert distance[label_map == 1].max() == 255
    assert distance[label_map == 2].max() == 255
    assert distance[20, 29] < 40
    assert distance[20, 30] < 40  # the neighbour is outside
    assert distance[20, 19] > 200


def test_a_nucleus_cut_by_the_border_goes_on():
    label_map = np.zeros((40, 40), np.uint16)
    label_map[10:30, :12] = 7
    distance = rim_distance(label_map)
    assert distance[20, 0] == 255
    assert distance[20, 11] < 60


def test_touching_is_where_two_nuclei_are_near():
    assert touching(two_squares(0))[20, 28:32].all()
    assert touching(two_squares(3))[20, 31]
    assert not touching(two_squares(6)).any()
    assert not touching(np.zeros((9, 9), np.uint16)).any()


def test_small_nuclei_weigh_more():
    label_map = np.zeros((80, 80), np.uint16)
    label_map[5:11, 5:11] = 1
    label_map[30:70, 30:70] = 2
    weight = object_weight(label_map)
    assert weight[8, 8] == 3
    assert weight[50, 50] == 1
    assert weight[78, 5] == 1


def test_planes_of_a_picture_without_nuclei():
    planes = target_planes(np.zeros((8, 9), np.uint16), np.full((8, 9), 9, np.uint8))
    assert planes.shape == (4, 8, 9)
    assert planes.dtype == np.uint8
    assert not planes[:3].any()
    assert (planes[3] == 80).all()
