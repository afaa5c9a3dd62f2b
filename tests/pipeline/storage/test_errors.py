"""What failures mean, on the shapes in which s3fs, botocore and the system raise them."""

from __future__ import annotations

import errno
import ssl

import botocore.exceptions as boto
import pytest
from s3fs.errors import translate_boto_error

from pipeline.storage.errors import MissingError, explain, is_transient

URI = "s3://bucket/key"


def answer(code, status):
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(boto.ClientError(response, "GetObject"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answer("NoSuchBucket", 404), "bucket does not exist: s3://bucket/key (at the S3 service)"),
        (answer("NoSuchKey", 404), "no such file or folder: s3://bucket/key"),
        (answer("ExpiredToken", 400), "credentials refused (the token has expired)"),
        (answer("RequestTimeTooSkewed", 403), "credentials refused (this machine's clock"),
        (answer("AccessDenied", 403), "permission denied: s3://bucket/key"),
        (answer("InvalidBucketName", 400), "not a valid bucket or key: s3://bucket/key"),
        (boto.ParamValidationError(report="x"), "not a valid bucket or key"),
        (boto.SSLError(endpoint_url="https://x", error="self signed"), "is not trusted"),
        (OSError(errno.EROFS, "Read-only"), "the file system is read-only: s3://bucket/key"),
        (OSError(errno.EACCES, "x"), "permission denied: s3://bucket/key"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (RuntimeError("first\nsecond  line"), "s3://bucket/key: first second line"),
        (RuntimeError(), "s3://bucket/key: RuntimeError"),
    ],
)
def test_one_line_each(error, said):
    found = explain(error, URI)
    assert said in str(found)
    assert URI in str(found)
    assert "\n" not in str(found)
    assert not is_transient(error)
    assert isinstance(found, FileNotFoundError) == isinstance(found, MissingError)


@pytest.mark.parametrize(
    "error",
    [
        answer("SlowDown", 503),
        answer("InternalError", 500),
        answer("ConditionalRequestConflict", 409),
        boto.EndpointConnectionError(endpoint_url="http://x"),
        boto.ConnectTimeoutError(endpoint_url="http://x"),
        boto.ReadTimeoutError(endpoint_url="http://x"),
        boto.ConnectionClosedError(endpoint_url="http://x"),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.ESTALE, "Stale file handle"),
    ],
)
def test_what_may_pass(error):
    assert is_transient(error)


def test_what_lasts():
    for error in (answer("NotImplemented", 501), ssl.SSLError("x"), ValueError("x"), MemoryError()):
        assert not is_transient(error)


def test_an_explanation_is_explained_once():
    first = explain(FileNotFoundError(), URI)
    assert explain(first, "other") is first


def test_an_endpoint_is_named_without_its_password():
    error = boto.EndpointConnectionError(endpoint_url="http://x")
    text = str(explain(error, URI, "https://user:hunter2@minio.local:9000"))
    assert "cannot reach https://minio.local:9000: s3://bucket/key" in text
    assert "hunter2" not in text
