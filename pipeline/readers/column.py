"""The column of a table that holds images: where it is, and what one of its values means."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.storage.errors import StorageError

from .kinds import extension, image_extensions
from .options import ReaderOptions

_NO_IMAGE = "this row holds no image"
_PATHS = ("path", "file_name", "filename", "name", "uri", "url")


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A column of images, of structs that hold them, of their URIs, or of lists of these.

    Attributes:
        name: Dotted, from the top: "sample.image".
        kind: Arrow type of one image: of a list's items, of a dictionary's values.
        listed: Whether a row holds a list of images.
        base64: Whether strings are images.
    """

    name: str
    kind: pa.DataType
    listed: bool = False
    base64: bool = False

    @property
    def data_field(self) -> str:
        """The field of a struct that has the bytes; "" where the value is no such struct."""
        return _data_field(self.kind)

    @property
    def path_field(self) -> str:
        """The field of a struct that has the path or URI, or ""."""
        return _path_field(self.kind)

    @property
    def holds_uris(self) -> bool:
        """Whether the values are URIs and nothing else."""
        return _is_string(self.kind) and not self.base64

    def column_of(self, batch: pa.RecordBatch) -> pa.Array:
        """The column out of a batch."""
        first, *below = self.name.split(".") if self.name not in batch.schema.names else [self.name]
        array = batch.column(batch.schema.get_field_index(first))
        for name in below:
            valid = array.is_valid() if array.null_count else None
            array = array.field(name)
            if valid is not None:
                array = _masked(array, valid)
        return array

    def value(self, scalar: pa.Scalar) -> bytes | str:
        """One image's bytes, or its URI.

        Raises:
            StorageError: There is neither.
        """
        if _is_dictionary(scalar.type):
            scalar = scalar.value  # type: ignore[attr-defined]
        if self.data_field or (pa.types.is_struct(scalar.type) and self.path_field):
            if not scalar.is_valid:
                raise StorageError(_NO_IMAGE)
            row: Any = scalar
            if self.data_field and row[self.data_field].is_valid:
                return _bytes(row[self.data_field])
            path = row[self.path_field].as_py() if self.path_field else None
            if path and path.strip():
                return path.strip()
            raise StorageError(_NO_IMAGE)
        if not scalar.is_valid and not self.holds_uris:
            raise StorageError(_NO_IMAGE)
        if not _is_string(scalar.type):
            return _bytes(scalar)
        text = (scalar.as_py() or "").strip()
        if self.base64 or text.startswith("data:"):
            return _decoded(text)
        if not text:
            raise StorageError("this row has no URI")
        return text


def find_column(
    schema: pa.Schema, options: ReaderOptions, sample: Callable[[str], Sequence[Any]]
) -> ImageColumn:
    """The column of images.

    Args:
        schema: Of the table.
        options: `column` names it; else it must be the only one.
        sample: Name → the first values of a column of strings.

    Raises:
        ValueError: There is none, or several.
    """
    if options.column:
        return _named(schema, options)
    if options.base64:
        strings = [name for name, kind in _leaves(schema) if _is_string(kind)]
        found = [name for name in strings if _look_like_base64(sample(name))]
        found = found or (strings if len(strings) == 1 else [])
    else:
        found = []
    named = _hf_images(schema)
    kinds = dict(_leaves(schema))
    tests: list[Callable[[str, pa.DataType], bool]] = [
        lambda name, kind: name in named,
        lambda name, kind: pa.types.is_struct(_item(kind)) and bool(_data_field(_item(kind))),
        lambda name, kind: _is_binary(_item(kind)),
        lambda name, kind: _is_string(_item(kind)) and _look_like_files(sample(name)),
        lambda name, kind: _is_bytes_list(_item(kind)),
    ]
    for test in () if found else tests:
        found = [name for name, kind in kinds.items() if test(name, kind)]
        if found:
            break
    if len(found) == 1:
        return _column(found[0], kinds[found[0]], options)
    if found:
        raise ValueError(f"it has several columns of images ({', '.join(found)}): pass --column")
    raise ValueError(
        "it has no column of images or of their URIs; it has "
        f"{', '.join(f'{field.name}: {field.type}' for field in schema)}; pass --column NAME"
    )


def _named(schema: pa.Schema, options: ReaderOptions) -> ImageColumn:
    name = options.column
    kinds = dict(_leaves(schema, inside_images=True))
    if name not in kinds:
        raise ValueError(f"it has no column {name!r}; it has {', '.join(schema.names)}")
    kind = kinds[name]
    if pa.types.is_null(kind):
        raise ValueError(f"column {name!r} holds nothing but nulls")
    item = _item(kind)
    if not (
        _is_image(item) or _is_string(item) or (pa.types.is_struct(item) and _path_field(item))
    ):
        raise ValueError(f"column {name!r} holds {kind}, not images or URIs")
    return _column(name, kind, options)


def _column(name: str, kind: pa.DataType, options: ReaderOptions) -> ImageColumn:
    item = _item(kind)
    return ImageColumn(name, item, item != _plain(kind), options.base64 and _is_string(item))


def _leaves(schema: pa.Schema, *, inside_images: bool = False) -> Iterator[tuple[str, pa.DataType]]:
    """Columns and the fields of their structs, dotted; structs that are images stay whole, unless
    their fields are asked for, too."""

    def below(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
        yield name, kind
        if pa.types.is_struct(kind) and (inside_images or not _data_field(kind)):
            for number in range(kind.num_fields):
                field = kind.field(number)
                yield from below(f"{name}.{field.name}", field.type)

    for field in schema:
        yield from below(field.name, field.type)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Of a dictionary: its values' type; without extension types."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if _is_dictionary(kind) else kind


def _item(kind: pa.DataType) -> pa.DataType:
    """Of a list of images: the type of one; else the type itself."""
    kind = _plain(kind)
    if _is_list(kind) and not _is_bytes_list(kind):
        return _plain(kind.value_type)
    return kind


def _data_field(kind: pa.DataType) -> str:
    if not pa.types.is_struct(kind):
        return ""
    fields = {kind.field(n).name: _plain(kind.field(n).type) for n in range(kind.num_fields)}
    if "bytes" in fields and _is_image(fields["bytes"]):
        return "bytes"
    binary = [name for name, own in fields.items() if _is_binary(own)]
    return binary[0] if len(binary) == 1 else ""


def _path_field(kind: pa.DataType) -> str:
    if not pa.types.is_struct(kind):
        return ""
    fields = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
    return next((name for name in _PATHS if name in fields and _is_string(fields[name])), "")


def _hf_images(schema: pa.Schema) -> list[str]:
    """Columns that Hugging Face's metadata calls images, or lists of images."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = [name for name, feature in features.items() if _is_hf_image(feature)]
    except (TypeError, KeyError, ValueError, AttributeError):
        return []
    return [name for name in names if name in schema.names]


def _is_hf_image(feature: Any) -> bool:
    if isinstance(feature, list):
        return len(feature) == 1 and _is_hf_image(feature[0])
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _is_hf_image(feature.get("feature", {}))
    return feature.get("_type") == "Image"


def _is_image(kind: pa.DataType) -> bool:
    return _is_binary(kind) or _is_bytes_list(kind) or bool(_data_field(kind))


def _is_dictionary(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind)


def _is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )


def _is_bytes_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and kind.value_type in (pa.uint8(), pa.int8())


def _is_binary(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return any(
        test(kind)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    ) and not pa.types.is_decimal(kind)


def _is_string(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _bytes(scalar: Any) -> bytes:
    """A binary value, or a list of bytes."""
    if _is_dictionary(scalar.type):
        scalar = scalar.value
    if not _is_list(scalar.type):
        return scalar.as_py()
    values = scalar.values
    if values.null_count:
        raise StorageError("this row's list of bytes holds nulls")
    return values.buffers()[1].to_pybytes()[values.offset : values.offset + len(values)]


def _masked(array: pa.Array, valid: pa.Array) -> pa.Array:
    """A struct's field, null where the struct is."""
    places = [n if there else None for n, there in enumerate(valid.to_pylist())]
    return array.take(pa.array(places, pa.int64()))


def _decoded(text: str) -> bytes:
    """Of base64, also as a data URI."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise StorageError(f"this row's text is no base64: {error}") from error


def _look_like_files(values: Sequence[Any]) -> bool:
    """Whether the first values of a column of strings end like image files."""
    flat = (v for value in values for v in (value if isinstance(value, list) else [value]))
    texts = [bare(text).lower() for text in flat if text and text.strip()]
    return bool(texts) and all(
        extension(text) in image_extensions() or text.startswith("data:image/") for text in texts
    )


def _look_like_base64(values: Sequence[Any]) -> bool:
    texts = [value for value in values if isinstance(value, str) and value]
    try:
        return bool(texts) and all(len(_decoded(text)) > 16 for text in texts)
    except StorageError:
        return False


def bare(uri: str) -> str:
    """A URI without its query, which may hold a secret."""
    return uri.partition("?")[0].partition("#")[0] if "://" in uri else uri
