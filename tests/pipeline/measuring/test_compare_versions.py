import pytest
from picture_datasets import picture_dataset, scene

from pipeline.measuring.compare import open_side
from pipeline.storage.storage import Storage


@pytest.fixture
def uri(tmp_path):
    picture_dataset(tmp_path, {f"{n}.png": scene(n) for n in range(1, 6)})
    return tmp_path / "dataset"


def test_images_by_name_and_in_order(uri):
    side = open_side(str(uri), Storage())
    names = [image.name for image in side.images()]
    assert names == ["1.png", "2.png", "3.png", "4.png", "5.png", "zz broken.jpg"]
    for name in reversed(names):  # parts are opened again
        image = side.image(name)
        assert image.name == name
        assert image.looked_at == (name != "zz broken.jpg")
        assert [row["category"] for row in image.segments] == [
            "cell",
            "cell",
            "debris",
        ] * image.looked_at
    assert side.image("6.png") is None


@pytest.mark.parametrize("name", ["manifest.json", "versions/000001.json"])
def test_a_version_is_a_side(uri, name):
    side = open_side(str(uri / name), Storage())
    assert side.ledger.manifest.version == 1
    assert side.image("1.png").size_hw == (60, 80)


def test_other_files_are_refused(uri, tmp_path):
    with pytest.raises(ValueError, match="neither a dataset nor a file of its versions/"):
        open_side(str(uri / "job.json"), Storage())
    with pytest.raises(ValueError, match="no dataset of ours"):
        open_side(str(tmp_path / "input"), Storage())
