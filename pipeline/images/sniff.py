"""What kind of file some bytes are, from their first bytes; a file's extension is never asked."""

from __future__ import annotations

from pipeline.storage.file_bytes import Contents

DECODABLE = (
    "JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIC", "JPEG 2000", "JPEG XL", "DICOM",
)  # fmt: skip

_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "Photoshop"),
    (b"v/1\x01", "OpenEXR"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x1aE\xdf\xa3", "Matroska video"),
    (b"\x00\x00\x01\xba", "MPEG video"),
    (b"\x00\x00\x01\xb3", "MPEG video"),
    (b"FLV\x01", "Flash video"),
    (b"OggS", "Ogg"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"SIMPLE  =", "FITS"),
)
_RIFF = {b"WEBP": "WEBP", b"AVI ": "AVI video", b"WAVE": "sound"}
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"crx ": "Canon raw",
}
_GENERIC = {b"mif1", b"msf1"}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_SVG_WITHIN = 4096  # a licence comment may stand before the tag


def sniff(contents: Contents) -> str:
    """Names the kind of file.

    Returns:
        One of `DECODABLE`, the name of a known kind that this program does not decode, or "".
    """
    data = contents[:_SVG_WITHIN]
    if data[:4] in (b"II*\x00", b"MM\x00*") and data[8:10] == b"CR":
        return "Canon raw"
    for prefix, kind in _PREFIXES:
        if data.startswith(prefix):
            return kind
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(len(data), 64), 4))]
        # Both HEIC and AVIF may lead with a brand that says little, such as "mif1".
        named = [brand for brand in brands if brand not in _GENERIC] + [*_GENERIC & {*brands}]
        return next((_BRANDS[brand] for brand in named if brand in _BRANDS), "MP4 video")
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[128:132] == b"DICM":
        return "DICOM"
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<svg") or (start.startswith((b"<?xml", b"<!--")) and b"<svg" in start):
        return "SVG"
    return ""


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so is one of `DECODABLE`."""
    return sniff(start) in DECODABLE


def is_cut(kind: str, data: bytes) -> bool:
    """Whether the container says that bytes are missing at its end (PNG, GIF, BMP, WebP, JPEG)."""
    match kind:
        case "JPEG":
            return not _reaches_jpeg_end(data)
        case "PNG":
            return not _reaches_png_end(data)
        case "GIF":
            return not data.rstrip(b"\x00").endswith(b";")
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case _:
            return False


def _reaches_png_end(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if kind == b"IEND":
            return at <= len(data)
    return False


def _reaches_jpeg_end(data: bytes) -> bool:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:  # stray bytes before a marker
            at = max(data.find(b"\xff", at), at + 1)
        elif data[at + 1] == 0xFF:  # padding
            at += 1
        elif data[at + 1] == 0xDA:  # pixels: their bytes never look like a marker
            return data.find(b"\xff\xd9", at) > 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
