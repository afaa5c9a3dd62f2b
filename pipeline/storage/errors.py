"""What a failed file operation means, in one line that names the remedy and holds no secret."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from schemas.names import printable, without_credentials, without_secrets

_TRANSIENT_NAMES = {
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "HTTPClientError",
    "IncompleteRead",
    "IncompleteReadError",
    "ResponseParserError",
    "TimeoutError",
}
_TRANSIENT_CODES = {
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
}
_TRANSIENT_ERRNOS = {errno.EAGAIN, errno.ETIMEDOUT, errno.ESTALE}
_PERMANENT_STATUS = {501, 507}
_WRONG_CREDENTIALS = {
    "AuthorizationHeaderMalformed": "",
    "ExpiredToken": " (the token has expired)",
    "InvalidAccessKeyId": " (unknown access key)",
    "InvalidSecurity": "",
    "InvalidToken": " (bad session token)",
    "RequestTimeTooSkewed": " (this machine's clock is wrong)",
    "SignatureDoesNotMatch": " (the secret key does not match)",
}
_OS_ERRORS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is exhausted",
    errno.EEXIST: "a file is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a parent of this path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.ELOOP: "symbolic links go round in a circle",
    errno.EMFILE: "too many open files",
}


class StorageError(OSError):
    """A file operation failed. `str()` is one line for a person and never holds a secret."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(message))


class MissingError(StorageError, FileNotFoundError):
    """There is nothing under this URI."""


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: time-outs, 5xx, throttling; never 403 or 404."""
    for cause in _chain(error):
        code, status = _response(cause)
        if code or status:
            return code in _TRANSIENT_CODES or (
                (status >= 500 or status == 429) and status not in _PERMANENT_STATUS
            )
    names = {kind.__name__ for cause in _chain(error) for kind in type(cause).__mro__}
    if "SSLError" in names:
        return False
    number = error.errno if isinstance(error, OSError) else None
    return bool(names & _TRANSIENT_NAMES) or number in _TRANSIENT_ERRNOS


def explain(error: BaseException, uri: str, endpoint: str = "") -> StorageError:
    """One line about `error`, which an operation on `uri` raised.

    Args:
        error: As the file system raised it.
        uri: What was read or written.
        endpoint: The S3 endpoint, "" = the provider's own.
    """
    if isinstance(error, StorageError):
        return error
    web = uri.startswith(("http://", "https://"))
    where = "the server" if web else without_credentials(endpoint) or "the S3 service"
    uri = printable(without_credentials(uri))
    code, status = next((found for e in _chain(error) if any(found := _response(e))), ("", 0))
    names = {kind.__name__ for cause in _chain(error) for kind in type(cause).__mro__}
    if code == "NoSuchBucket":
        return MissingError(f"bucket does not exist: {uri} (at {where})")
    if code in _WRONG_CREDENTIALS:
        return StorageError(
            f"credentials refused{_WRONG_CREDENTIALS[code]}: {uri} (at {where});"
            " check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the [storage] section"
        )
    if names & {"NoCredentialsError", "PartialCredentialsError"}:
        return StorageError(
            f"no credentials for {uri}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the"
            " [storage] section, or storage.anonymous = true for a public bucket"
        )
    if status in (401, 403) or code == "AccessDenied":
        return StorageError(
            f"permission denied: {uri} (at {where}); check the credentials and what they may do"
        )
    if status in (301, 307) or code == "PermanentRedirect":
        return StorageError(f"wrong region for {uri}: set storage.region or AWS_REGION")
    if code in ("InvalidBucketName", "ParamValidationError") or "ParamValidationError" in names:
        return StorageError(f"not a valid bucket or key: {uri}")
    if code in ("QuotaExceeded", "InsufficientStorage") or status == 507:
        return StorageError(f"no space left: {uri} (at {where})")
    if "SSLError" in names:
        return StorageError(f"the certificate of {where} is not trusted: {uri}")
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"no such file or folder: {uri}")
    if isinstance(error, NotADirectoryError):  # below a file there is nothing either
        return MissingError(f"{_OS_ERRORS[errno.ENOTDIR]}: {uri}")
    if code in _TRANSIENT_CODES or status >= 500 or status == 429:
        said = " ".join(filter(None, (str(status or ""), code)))
        return StorageError(f"{where} answered {said}, also when asked again: {uri}")
    if names & _TRANSIENT_NAMES and not code:
        return StorageError(f"cannot reach {where}: {uri} ({type(error).__name__}, tried again)")
    if isinstance(error, OSError) and error.errno in _OS_ERRORS:
        return StorageError(f"{_OS_ERRORS[error.errno]}: {uri}")
    if isinstance(error, PermissionError):
        return StorageError(f"permission denied: {uri}")
    text = without_credentials(" ".join(str(error).split())) or type(error).__name__
    return StorageError(f"{uri}: {text[:300]}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _response(error: BaseException) -> tuple[str, int]:
    """S3's error code and HTTP status of a botocore ClientError, else ("", 0)."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return "", 0
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(response.get("Error", {}).get("Code", "")), int(status)
