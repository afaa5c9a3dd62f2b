"""Local files, written in one step."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from .processes import temporary_name

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_SHORT = 24


def socket_folder() -> str:
    """A new temporary folder whose name is short enough for Ray, whose caller removes it.

    Ray puts Unix sockets under it, and their paths end at 107 bytes, of which its own names take
    about 70. Where TMPDIR is longer than that leaves room for, it lies in /tmp.
    """
    root = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="mm", dir=root if len(os.fsencode(root)) <= _SHORT else "/tmp")


def read(path: Path, offset: int, length: int | None) -> bytes:
    """The bytes of a file, or up to `length` of them from `offset`."""
    with path.open("rb") as file:
        if offset:
            file.seek(offset)
        return file.read() if length is None else file.read(length)


def write(path: Path, data: bytes) -> None:
    """Replaces `path` in one step: readers see the old bytes or the new ones.

    A device or a pipe (/dev/stdout) is written to: replacing it would take it from all others.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    temporary = _write_beside(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create(path: Path, data: bytes) -> bool:
    """Writes `path` in one step unless it exists; False if it does."""
    temporary = _write_beside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # File systems without hard links: exclusive, though not in one step.
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def publish_file(source: Path, path: Path) -> None:
    """Moves `source` to `path` in one step, from another file system by way of a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(source, path)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    temporary = path.with_name(temporary_name(path.name))
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    source.unlink()


def _write_beside(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
