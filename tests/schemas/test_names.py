"""Names that a file says: inside their folder or refused, printable, without secrets."""

from __future__ import annotations

import pytest

from schemas.names import below, is_below, printable, without_credentials

OUTSIDE = [
    "../a",
    "a/../../b",
    "a/..",
    "..",
    ".",
    "./a",
    "",
    "/",
    "/etc/passwd",
    "a//b",
    "a\0b",
    None,
    3,
    ["a"],
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_its_folder_is_refused(name):
    assert not is_below(name)
    with pytest.raises(ValueError, match="no name of a file below /data"):
        below("/data", name)


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a..b/c", "ünï", "a\\b", "coco/panoptic/"])
def test_a_name_inside_is_joined(name):
    assert below("s3://bucket/data/", name) == "s3://bucket/data/" + name.rstrip("/")


def test_control_characters_are_shown_not_obeyed():
    assert printable("a\x1b[31m\u202eb\nc\x9b") == "a\\x1b[31m\\u202eb\\nc\\x9b"
    assert printable("ünï 名前") == "ünï 名前"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://user:se/cret@host", "http://user:se/cret@host"),  # a slash ends the authority
        ("http://user:secret@host:9000/x", "http://host:9000/x"),
        ("no s3://KEY:SECRET@bucket/a and s3://bucket/b@c", "no s3://bucket/a and s3://bucket/b@c"),
        ("s3://KEY:SE@CRET@bucket/a", "s3://bucket/a"),
        ("/home/a@b/c", "/home/a@b/c"),
    ],
)
def test_credentials_leave_a_uri(text, clean):
    assert without_credentials(text) == clean
