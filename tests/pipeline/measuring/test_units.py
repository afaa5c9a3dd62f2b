import io

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.measuring.units import PixelSize, parse_pixel_size, pixel_size_of
from schemas.config.images import ImagesConfig

GREY = np.zeros((4, 6), np.uint8)


def tiff(**options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, **options)
    return buffer.getvalue()


def pillow(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("text", "um"),
    [
        ("0.5 um", 0.5),
        ("0.5um", 0.5),
        (".5 µm", 0.5),
        ("0.5 μm", 0.5),
        ("65 nm", 0.065),
        ("2e-1 microns", 0.2),
        ("1.5 mm", 1500),
        ("2 CM", 20_000),
        ("0.3 m", 300_000),
        ("0.01 km", 1e7),
        ("1 in", 25_400),
    ],
)
def test_sizes_with_units(text, um):
    choice = parse_pixel_size(text)
    assert choice.read == "none"
    assert choice.given is not None
    assert choice.given.um == pytest.approx(um, rel=1e-12)
    assert choice.given.source == "given"


@pytest.mark.parametrize(("text", "read"), [("auto", "likely"), ("File", "all"), ("none", "none")])
def test_words(text, read):
    choice = parse_pixel_size(text)
    assert (choice.given, choice.read) == (None, read)


@pytest.mark.parametrize(
    "text", ["", "0.5", "um", "0 um", "-1 um", "1 parsec", "1e999 um", "1 2 um"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"nm, um, mm, cm, m, km, in"):
        parse_pixel_size(text)


def ome(x, y, unit):
    metadata = {"axes": "YX", "PhysicalSizeX": x, "PhysicalSizeY": y}
    metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    return tiff(metadata=metadata, ome=True)


def imagej(per_unit, unit):
    return tiff(imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})


def geotiff(x, y, model=1, unit=9001):
    keys = (1, 1, 0, 2, 1024, 0, 1, model, 3076, 0, 1, unit)
    tags = [(33550, "d", 3, (x, y, 0.0), True), (34735, "H", len(keys), keys, True)]
    return tiff(extratags=tags)


@pytest.mark.parametrize(
    ("data", "um", "source"),
    [
        (tiff(resolution=(20_000, 20_000), resolutionunit="CENTIMETER"), 0.5, "tiff"),
        (tiff(resolution=(25_400, 25_400), resolutionunit="INCH"), 1.0, "tiff"),
        (ome(0.25, 0.25, None), 0.25, "ome"),
        (ome(250.0, 250.0, "nm"), 0.25, "ome"),
        (imagej(4.0, "micron"), 0.25, "imagej"),
        (imagej(4.0, "\\u00B5m"), 0.25, "imagej"),
        (imagej(2.0, "mm"), 500.0, "imagej"),
        (geotiff(0.5, 0.5), 500_000.0, "geotiff"),
        (pillow("PNG", dpi=(25_400, 25_400)), 1.0, "exif"),
        (pillow("JPEG", dpi=(2540, 2540)), 10.0, "exif"),
    ],
)
def test_what_files_say(data, um, source):
    for likely in (True, False):
        found = pixel_size_of(data, likely=likely)
        assert found is not None
        assert found.um == pytest.approx(um, rel=1e-3)
        assert found.source == source


def test_exif_counts_before_jfif():
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 10_000.0, 10_000.0, 3
    data = pillow("JPEG", dpi=(300, 300), exif=exif)
    assert pixel_size_of(data, likely=True) == PixelSize(1.0, "exif")


@pytest.mark.parametrize("dots", [72, 96, 300, 1200])
def test_what_screens_and_printers_have_is_believed_only_on_demand(dots):
    for data in (pillow("JPEG", dpi=(dots, dots)), pillow("PNG", dpi=(dots, dots))):
        assert pixel_size_of(data, likely=True) is None
        found = pixel_size_of(data, likely=False)
        assert found is not None
        assert found.um == pytest.approx(25_400 / dots, rel=1e-3)


@pytest.mark.parametrize(
    "data",
    [
        pillow("PNG"),
        pillow("BMP")[:30],
        tiff(),
        tiff(resolution=(0, 0), resolutionunit="INCH"),
        tiff(resolution=(4, 4), resolutionunit="NONE"),
        tiff(resolution=(20_000, 10_000), resolutionunit="CENTIMETER"),
        imagej(4.0, "pixel"),
        ome(0.25, 0.5, "um"),
        geotiff(0.5, 0.5, unit=9002),
        geotiff(0.0001, 0.0001, model=2),
        b"II*\x00\xff\xff\xff\xff",
        b"no picture",
        b"",
    ],
)
def test_nothing_usable(data):
    assert pixel_size_of(data, likely=False) is None


def test_the_distance_of_planes():
    stack = np.zeros((3, 4, 6), np.uint16)
    file = io.BytesIO()
    sizes = {
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 0.2,
        "PhysicalSizeZ": 700,
        "PhysicalSizeZUnit": "nm",
    }
    tifffile.imwrite(file, stack, ome=True, metadata={"axes": "ZYX", **sizes})
    found = pixel_size_of(file.getvalue(), likely=True)
    assert found is not None
    assert (found.um, found.source, found.z_um) == (0.2, "ome", pytest.approx(0.7))
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        stack,
        imagej=True,
        resolution=(5, 5),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 1.5},
    )
    found = pixel_size_of(file.getvalue(), likely=True)
    assert found is not None
    assert (found.um, found.source, found.z_um) == (pytest.approx(0.2), "imagej", 1.5)
    assert PixelSize(1, "given").z_um is None


def test_dicom_says_it_in_millimetres():
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.PixelSpacing, data.SliceThickness = [0.5, 0.5], 2
    file = io.BytesIO()
    dcmwrite(file, data, enforce_file_format=True)
    assert pixel_size_of(file.getvalue(), likely=True) == PixelSize(500.0, "dicom", 2000.0)


def pyramid():
    """Two series of two levels each, of which the first is 0.5 µm and the second 0.2."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        for name, um in (("one", 0.5), ("two", 0.2)):
            sizes = {f"PhysicalSize{axis}{more}": value for axis in "XY" for more, value in
                     (("", um), ("Unit", "µm"))}  # fmt: skip
            full = np.zeros((64, 96), np.uint8)
            options = {"tile": (16, 16), "photometric": "minisblack"}
            writer.write(full, subifds=1, metadata={"axes": "YX", "Name": name, **sizes}, **options)
            writer.write(full[::4, ::4].copy(), subfiletype=1, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("images", "long_side", "um"),
    [
        ({}, 96, 0.5),
        ({"level": 1}, 24, 2.0),
        ({"mpp": 2.0}, 24, 2.0),
        ({"series": 2}, 96, 0.2),
        ({"series": "two", "level": 1}, 24, 0.8),
    ],
)
def test_pixels_of_a_level_are_larger_and_a_series_has_its_own(images, long_side, um):
    config = ImagesConfig(**images)
    found = pixel_size_of(pyramid(), likely=True, images=config, long_side=long_side)
    assert found is not None
    assert (found.um, found.source) == (pytest.approx(um), "ome")


def test_aperio_says_it_in_words():
    buffer = io.BytesIO()
    words = "Aperio Image Library v12\r\n6x4 [0,0 6x4] (16x16) |AppMag = 20|MPP = 0.4990"
    tifffile.imwrite(buffer, np.zeros((32, 48, 3), np.uint8), tile=(16, 16), description=words,
                     metadata=None, photometric="rgb")  # fmt: skip
    found = pixel_size_of(buffer.getvalue(), likely=True)
    assert found == PixelSize(0.499, "tiff")
