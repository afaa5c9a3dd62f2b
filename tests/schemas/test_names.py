"""Names that a file says: inside their folder or refused, printable, without secrets."""

from __future__ import annotations

import pytest

from schemas.names import below, is_below, printable, without_credentials, without_secrets

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
    "..\\a",
    "a\\..\\..\\b",
    "\\\\host\\share\\a",
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


@pytest.mark.parametrize(
    "query",
    [
        "?X-Amz-Signature=SECRET",
        "?versionId=3&X-Amz-Credential=SECRET%2F2026&X-Amz-Security-Token=SECRET",
        "?AWSAccessKeyId=SECRET&Signature=SECRET%3D&Expires=1",
        "?X-Goog-Signature=SECRET",
        "?sv=2020-08-04&se=2026&sr=b&sig=SECRET%3D",
        "?token=SECRET",
        "?access_token=SECRET",
        "#access_token=SECRET",
        "?a=1&api_key=SECRET",
        "?password=SECRET",
    ],
)
def test_a_signed_address_is_shown_without_what_signs_it(query):
    address = f"https://user:SECRET@store/a.png{query}"
    shown = without_secrets(f"no such file: {address} (tried again)")
    assert "SECRET" not in shown
    assert shown.startswith("no such file: https://store/a.png")
    assert shown.endswith("… (tried again)") or "Expires=1" in shown
    assert without_credentials(f"https://store/a.png{query}") == f"https://store/a.png{query}"


def test_a_query_without_secrets_is_shown():
    assert without_secrets("https://h/a?page=3&size=big") == "https://h/a?page=3&size=big"
