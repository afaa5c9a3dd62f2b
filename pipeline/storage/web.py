"""Files behind http:// and https://, read whole or in part, within bounds of size and time."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request

_TIMEOUT_S = 20.0
_TOTAL_S = 300.0
_STEP = 1 << 16
_AGENT = "maskmill"


def download(url: str, *, offset: int = 0, length: int | None = None, limit: int) -> bytes:
    """The bytes behind a URL, or up to `length` of them from `offset`.

    Args:
        url: http:// or https://; redirects are followed, to these schemes only.
        offset: First byte.
        length: At most; None = to the end.
        limit: Bytes that a body may have.

    Raises:
        FileNotFoundError, PermissionError: The server says so.
        ConnectionError, TimeoutError: Trying again may help.
        OSError: The body is larger than `limit`, or the server refuses for another reason.
    """
    headers = {"User-Agent": _AGENT, "Accept": "*/*"}
    request = urllib.request.Request(_encoded(url), headers=headers)
    if offset or length is not None:
        last = "" if length is None else str(offset + length - 1)
        request.add_header("Range", f"bytes={offset}-{last}")
    until = time.monotonic() + _TOTAL_S
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            whole = answer.status == 200
            skip = offset if whole else 0  # a server that knows no ranges sends everything
            wanted = limit if length is None else skip + length
            promised = answer.headers.get("Content-Length", "")
            if length is None and promised.isdigit() and int(promised) > limit:
                raise OSError(f"{promised} bytes are more than storage.max_download ({limit})")
            parts: list[bytes] = []
            held = 0
            while held <= wanted and (part := answer.read(min(_STEP, wanted + 1 - held))):
                parts.append(part)
                held += len(part)
                if time.monotonic() > until:
                    raise TimeoutError(f"only {held} bytes came in {_TOTAL_S:.0f} s")
    except urllib.error.HTTPError as error:
        raise _refusal(error.code, error.reason) from None
    except (http.client.HTTPException, urllib.error.URLError) as error:
        raise _unreachable(error) from error
    data = b"".join(parts)
    if length is None:
        if len(data) > limit:
            raise OSError(f"the body is larger than storage.max_download ({limit} bytes)")
        if promised.isdigit() and len(data) < int(promised):
            raise ConnectionError(f"{len(data)} of {promised} bytes came")
        return data[skip:]
    return data[skip : skip + length]


def size_and_token(url: str) -> tuple[int, str]:
    """Bytes behind a URL, −1 where the server does not tell, and its etag or time, or "".

    Raises: See `download`.
    """
    request = urllib.request.Request(_encoded(url), headers={"User-Agent": _AGENT}, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            size = answer.headers.get("Content-Length", "")
            token = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            return int(size) if size.isdigit() else -1, token.strip('"')
    except urllib.error.HTTPError as error:
        if error.code in (405, 501):
            return -1, ""
        raise _refusal(error.code, error.reason) from None
    except (http.client.HTTPException, urllib.error.URLError) as error:
        raise _unreachable(error) from error


def _encoded(url: str) -> str:
    """The URL with %XX for blanks and letters that a request cannot hold; %XX stay."""
    return urllib.parse.quote(url, safe="%/:?#[]@!$&'()*+,;=~")


def _unreachable(error: Exception) -> OSError:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return TimeoutError(str(reason))
    return ConnectionError(str(reason) or type(error).__name__)


def _refusal(status: int, reason: str) -> OSError:
    text = f"HTTP {status} {reason}"
    if status in (404, 410):
        return FileNotFoundError(text)
    if status in (401, 403):
        return PermissionError(text)
    if status == 429 or status >= 500:
        return ConnectionError(text)
    return OSError(text)
