"""Names that a file says: held inside their folder, harmless on a terminal, without secrets."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)[^/?#\s'\"]*@")
_TOKENS = re.compile(
    r"(?i)([?&#;](?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid"
    r"|signature|sig|sas|(?:access_|auth_|id_)?token|api_?key|key|password|secret)=)[^&#\s'\")]+"
)
"""What stands in a query in place of a password: tokens, signatures of S3, Google and Azure."""
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def below(folder: str, name: object) -> str:
    """The URI of a name that was read from a file, in its folder: never one outside.

    Every path that stands in a dataset, a stamp, a prompt file, an archive or a checkpoint goes
    through here: whoever wrote the file must not choose what is read, written or deleted elsewhere.

    Args:
        folder: URI or local path.
        name: Relative, "/"-separated; a folder may end in "/".

    Raises:
        ValueError: It is no text, empty, absolute, or has a part "", "." or "..".
    """
    if not is_below(name):
        raise ValueError(f"{printable(str(name))!r} is no name of a file below {folder}")
    return f"{folder.rstrip('/')}/{str(name).strip('/')}"


def is_below(name: object) -> bool:
    """Whether `below` takes this name."""
    if not isinstance(name, str) or "\0" in name or name.startswith("\\"):
        return False
    if ".." in name.split("\\"):  # climbs where such names are unpacked on Windows
        return False
    return not {"", ".", ".."} & {*name.removesuffix("/").split("/")}


def printable(text: str, keep: str = "") -> str:
    """Text with control characters escaped: a name must not move the cursor of a terminal.

    C0 and C1 controls, line and paragraph separators and the marks that turn the direction of
    writing become \\x1b, \\u202e, …

    Args:
        text: Any.
        keep: Characters that stay, such as line ends.
    """
    return _UNPRINTABLE.sub(
        lambda found: (
            found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()
        ),
        text,
    )


def without_credentials(text: str) -> str:
    """A URI, or text with URIs in it, without `user:secret@`, which boto and HTTP take there."""
    return _CREDENTIALS.sub(r"\1", text)


def without_secrets(text: str) -> str:
    """The same, and without what a query holds in place of a password; for what people see.

    A signed address must still be read, so it is no reason to refuse a URI.
    """
    return _TOKENS.sub(r"\1…", without_credentials(text))
