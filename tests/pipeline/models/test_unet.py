import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.unet import UNetSegmenter
from pipeline.training.nuclei.data import read_pictures
from pipeline.training.nuclei.validate import NO_MATCHES, match
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

RECORD = ImageRecord("a.png", "file:///a.png")


def segmenter(task="instance", **options):
    model = UNetSegmenter(
        describe("unet-nuclei"), ModelConfig(name="unet-nuclei", **options), (task,)
    )
    model.load("cpu")
    return model


def sample(pixels, original_hw=None):
    return Sample(RECORD, pixels, original_hw or pixels.shape[:2])


def field(height=200, width=260):
    """Blurred ellipses on a dark, noisy ground; two of them touch."""
    import cv2

    truth = np.zeros((height, width), np.int32)
    for label, (x, y) in enumerate([(50, 50), (120, 60), (145, 60), (200, 140), (70, 150)], 1):
        cv2.ellipse(truth, (x, y), (13, 17), 0, 0, 360, label, cv2.FILLED)
    light = cv2.GaussianBlur(np.where(truth > 0, 120.0, 12.0), (0, 0), 1.5)
    noisy = light + np.random.default_rng(0).normal(0, 4, light.shape)
    pixels = np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    return pixels, truth


@pytest.fixture(scope="module")
def instance():
    return segmenter()


def label_map(segmentation):
    out = np.zeros((segmentation.height, segmentation.width), np.int32)
    for number, segment in enumerate(segmentation.segments, 1):
        out[codec.decode(segment.counts, segmentation.height, segmentation.width) > 0] = number
    return out


def test_a_drawn_field_is_found(instance):
    pixels, truth = field()
    (found,) = instance.segment([sample(pixels)])
    assert match(label_map(found), truth).accuracy()[0] == 1.0
    assert all(segment.category_id == 1 and segment.score > 0.5 for segment in found.segments)


def test_panoptic_covers_every_pixel_once():
    pixels, truth = field()
    (found,) = segmenter("panoptic").segment([sample(pixels)])
    count = sum(codec.decode(s.counts, *truth.shape).astype(int) for s in found.segments)
    assert (count == 1).all()
    assert [s.category_id for s in found.segments] == [1] * 5 + [2]


def test_semantic_has_one_segment_a_category():
    pixels, truth = field()
    (found,) = segmenter("semantic").segment([sample(pixels)])
    assert [s.category_id for s in found.segments] == [1, 2]
    assert sum(s.area for s in found.segments) == truth.size


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (70, 1), (5, 33), (65, 97)])
def test_any_size(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    (found,) = segmenter("panoptic").segment([sample(pixels)])
    assert (found.height, found.width) == shape
    assert sum(segment.area for segment in found.segments) == shape[0] * shape[1]


def test_neighbours_in_the_batch_change_nothing(instance):
    pixels, _ = field()
    noise = np.random.default_rng(1).integers(0, 256, (90, 400, 3)).astype(np.uint8)
    alone = instance.segment([sample(pixels)])[0]
    together = instance.segment([sample(noise), sample(pixels), sample(pixels[:64, :64])])
    assert together[1] == alone
    assert instance.segment([]) == []


def test_options_go_before_the_checkpoint():
    pixels, _ = field()
    areas = [s.area for s in segmenter().segment([sample(pixels)])[0].segments]
    kept = segmenter(min_area=max(areas)).segment([sample(pixels)])[0].segments
    assert [s.area for s in kept] == [max(areas)]
    assert not segmenter(min_score=1.0).segment([sample(pixels)])[0].segments
    strict = segmenter(threshold=0.99).segment([sample(pixels)])[0].segments
    assert sum(s.area for s in strict) < sum(areas)


def test_masks_are_in_original_pixels(instance):
    pixels, truth = field()
    (found,) = instance.segment([sample(pixels, (400, 520))])
    assert (found.height, found.width) == (400, 520)
    doubled = truth.repeat(2, 0).repeat(2, 1)
    assert match(label_map(found), doubled).accuracy()[0] == 1.0


def test_it_has_to_be_loaded_first():
    model = UNetSegmenter(describe("unet-nuclei"), ModelConfig(name="unet-nuclei"), ("instance",))
    with pytest.raises(RuntimeError, match="load"):
        model.segment([])


def test_real_pictures(instance, shared_data):
    """A floor far below the measured figures; small validation pictures of both large kinds."""
    pooled = NO_MATCHES
    pictures = read_pictures(shared_data / "nuclei-dsb2018", "val")
    for picture in [p for p in pictures if p.label_map.size <= 256 * 256][:6]:
        (found,) = instance.segment([sample(picture.levels[0])])
        pooled += match(label_map(found), picture.label_map)
    assert pooled.accuracy()[0] > 0.7


@pytest.mark.parametrize("name", ["chelsea", "coffee", "text"])
def test_photographs_hold_no_nuclei(instance, name):
    import skimage.data

    pixels = getattr(skimage.data, name)()
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    assert len(instance.segment([sample(pixels)])[0].segments) <= 1
