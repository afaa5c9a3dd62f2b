"""Rows as the program holds them are the tables' columns, no more and no fewer."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa
import pytest

from pipeline.ledger.parts import image_row
from schemas.records import ImageRecord
from schemas.rows import AnnotationRow, ImageRow, size_of
from schemas.tables import ANNOTATIONS, IMAGES

KINDS = {
    bool: pa.types.is_boolean,
    int: pa.types.is_integer,
    float: pa.types.is_floating,
    str: pa.types.is_string,
}


def assert_fits(hint: Any, column: pa.DataType) -> None:
    """A hint without None says what a column of this type gives to Python."""
    if is_typeddict(hint):
        assert_columns(hint, list(column))
    elif get_origin(hint) in (list, Sequence):
        assert pa.types.is_list(column) or pa.types.is_fixed_size_list(column)
        assert_fits(get_args(hint)[0], column.value_type)
    elif get_origin(hint) is Literal:
        assert pa.types.is_string(column)
    else:
        assert KINDS[hint](column)


def assert_columns(row: Any, fields: list[pa.Field], *, nullable: bool = False) -> None:
    hints = get_type_hints(row)
    assert set(hints) == {field.name for field in fields}
    for field in fields:
        given = get_args(hints[field.name]) if isinstance(hints[field.name], UnionType) else ()
        (kind,) = [one for one in given if one is not NoneType] or [hints[field.name]]
        if nullable:
            assert (NoneType in given) == field.nullable, field.name
        assert_fits(kind, field.type)


@pytest.mark.parametrize(("row", "table"), [(ImageRow, IMAGES), (AnnotationRow, ANNOTATIONS)])
def test_a_row_has_the_table_s_columns_types_and_nulls(row: Any, table: pa.Schema):
    assert_columns(row, list(table), nullable=True)


def test_only_an_image_that_was_looked_at_has_a_size():
    row = image_row(ImageRecord("a.png", "", image_id=1), original_hw=(3, 4))
    assert size_of(row) == (3, 4)
    with pytest.raises(ValueError, match=r"a\.png was not looked at"):
        size_of({**row, "height": None, "width": None})
