"""Untrusted text and data on their way into a page: escaped for the place where they stand."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

_ESCAPES = tuple((char, f"\\u{ord(char):04x}") for char in "<>&\u2028\u2029")
"""What could end a <script> element or a line of JavaScript. `str.translate` takes ten times as
long on megabytes of masks."""


def text(value: object) -> str:
    """Escapes for element content and quoted attributes."""
    return html.escape(str(value))


def isolated(value: object) -> str:
    """A name or message of unknown writing direction: cannot reorder the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def script_json(value: Any) -> str:
    """Compact JSON, safe inside a <script> element and as a JavaScript expression."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char, code in _ESCAPES:
        data = data.replace(char, code)
    return data


def data_script(key: str, value: Any) -> bytes:
    """A side file: hands `value` to the page. A script, as file:// pages may not fetch JSON."""
    return f"maskmillLoad({script_json(key)},{script_json(value)});\n".encode(errors="replace")


def csp_hash(source: str) -> str:
    """The content-security-policy word that allows exactly this inline script or style."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
