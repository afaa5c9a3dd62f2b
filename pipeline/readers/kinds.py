"""What a file is by its suffix: an image, something that holds images, or left out and why."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

IMAGE_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".jpe",
    ".jfif",
    ".avif",
    ".mpo",
    ".jp2",
    ".j2k",
    ".jpx",
    ".jpf",
    ".jxl",
    ".svs",
    ".ndpi",
    ".scn",
    ".bif",
    ".qptiff",
    ".zif",
    ".btf",
    ".tf2",
    ".tf8",
    ".lsm",
    ".stk",
    ".flex",
    ".gel",
    ".dib",
    ".apng",
    ".jif",
    ".jfi",
    ".pjpeg",
    ".pjp",
    ".jps",
    ".avifs",
    ".j2c",
    ".jpc",
    ".jph",
    ".jhc",
    ".ptif",
    ".ptiff",
)
"""In lower case; in the order of preference where one sample holds several."""

_EXTRAS = {
    ".heic": ("heif", "pillow_heif"),
    ".heif": ("heif", "pillow_heif"),
    ".hif": ("heif", "pillow_heif"),
    ".heics": ("heif", "pillow_heif"),
    ".heifs": ("heif", "pillow_heif"),
    ".dcm": ("dicom", "pydicom"),
    ".dic": ("dicom", "pydicom"),
    ".dicom": ("dicom", "pydicom"),
}
"""Suffix → the extra that brings its decoder, and that decoder's module."""

_RAW = "camera raw is not read: develop it to TIFF or JPEG"
_NOT_READ = {
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), _RAW
    ),
    **dict.fromkeys(
        (".crw", ".nrw", ".sr2", ".srf", ".dcr", ".kdc", ".mrw", ".erf", ".3fr", ".iiq"), _RAW
    ),
    **dict.fromkeys((".rwl", ".x3f", ".fff", ".gpr", ".mef"), _RAW),
    **dict.fromkeys((".nii", ".nrrd", ".mha", ".mhd", ".mrc"), "export slices as TIFF"),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".emf", ".wmf", ".psb"), "convert it to PNG"),
    **dict.fromkeys((".sgi", ".ras", ".cur", ".icns", ".xbm", ".xpm"), "convert it to PNG"),
    **dict.fromkeys((".flif", ".bpg", ".jng", ".mng", ".jxs", ".jbig2"), "convert it to PNG"),
    **dict.fromkeys((".zip", ".7z", ".rar"), "unpack it, or write a tar"),
    **dict.fromkeys(
        (".mrxs", ".vsi", ".vms", ".vmu", ".isyntax", ".sdpc"), "export a level as TIFF"
    ),
    **dict.fromkeys((".czi", ".nd2", ".lif", ".oib", ".oif", ".ims"), "export it to OME-TIFF"),
    **dict.fromkeys((".psd", ".exr", ".hdr", ".pnm", ".ppm", ".pgm", ".pbm"), "convert it to PNG"),
    **dict.fromkeys((".jxr", ".wdp", ".hdp", ".jls", ".xcf", ".pam", ".pfm"), "convert it to PNG"),
    **dict.fromkeys((".tga", ".ico", ".pcx", ".dds", ".qoi", ".fits", ".fit"), "convert it to PNG"),
}
"""Kinds of pictures that are not read → what to do."""

COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
LISTS = (".txt", ".csv", ".tsv", ".jsonl")
"""Suffixes of an input file that names images; in folders they are left out."""

_CONTAINERS = {
    **dict.fromkeys((".tar", *COMPRESSED_TARS), "webdataset"),
    ".parquet": "parquet",
    ".arrow": "parquet",
}
KNOWN = (*IMAGE_EXTENSIONS, *_CONTAINERS)
NO_PICTURE = "not a picture"


@cache
def image_extensions() -> dict[str, None]:
    """Suffixes that are read, with those of the extras that are installed, by preference."""
    there = (suffix for suffix, (_, module) in _EXTRAS.items() if find_spec(module) is not None)
    return dict.fromkeys((*IMAGE_EXTENSIONS, *there))


def extension(path: str) -> str:
    """ ".jpg" of "a/b.v2.JPG"; "no extension" where there is none, "folder" of "a/"."""
    if path.endswith("/"):
        return "folder"
    name = path.rpartition("/")[2].lower()
    stem, dot, last = name.rpartition(".")
    if not dot or not stem.strip("."):
        return "no extension"
    if stem.endswith(".tar") and f".tar.{last}" in COMPRESSED_TARS:
        return f".tar.{last}"
    return f".{last}"


def kind_of(suffix: str) -> str:
    """ "folder" for an image, "webdataset", "parquet", or "" for everything else."""
    if suffix in image_extensions():
        return "folder"
    return _CONTAINERS.get(suffix, "")


def why_not(suffix: str) -> tuple[str, bool]:
    """Why files of a suffix are left out, and whether it is one of pictures."""
    if suffix in _EXTRAS:
        extra, module = _EXTRAS[suffix]
        if find_spec(module) is None:
            return f"install maskmill[{extra}]", True
    if suffix in _NOT_READ:
        return _NOT_READ[suffix], True
    if suffix in _CONTAINERS:
        return "holds pictures, but another kind of input is read", False
    return NO_PICTURE, False


def names_picture(suffix: str) -> bool:
    """Whether a suffix is one of pictures, whether they are read or not."""
    return suffix in image_extensions() or suffix in _EXTRAS or suffix in _NOT_READ
