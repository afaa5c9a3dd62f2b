"""Local files: atomic writes and an ordered walk."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from .processes import temporary_name

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_log = logging.getLogger(__name__)


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
    temporary = _beside(path)
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    source.unlink()


def walk_folder(
    root: Path, *, recursive: bool, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, os.stat_result | None]]:
    """Regular files under `root` as (path relative to it, stat), in the order of those paths.

    Holds the names of one directory a level, not the tree. Links to files are files. A linked
    directory is entered once, and not at all where it leads back into the tree or above it.

    Args:
        root: An existing directory.
        recursive: Also enter directories.
        wanted: Asked for every path relative to the root; a directory's ends in "/".

    Yields:
        The stat is None where a link leads nowhere.

    Raises:
        OSError: A directory cannot be read: skipping it would silently drop its files.
    """
    top = os.path.realpath(root)
    linked: set[str] = set()

    def enter(prefix: str, through_link: bool) -> Iterator[tuple[str, os.stat_result | None]]:
        folder = os.path.join(root, prefix)
        if through_link:
            real = os.path.realpath(folder)
            if real in linked:
                _log.warning("not listed again through another link: %s", folder)
                return
            linked.add(real)
        with os.scandir(folder) as entries:
            # A directory's key ends in "/", which makes depth-first order the order of paths:
            # "a.b" < "a/b" although "a" < "a.b". Links get a "\0" mark behind.
            names = sorted(
                entry.name + ("/" if entry.is_dir() else "") + "\0" * entry.is_symlink()
                for entry in entries
                if not entry.is_dir() or recursive
            )
        for marked in names:
            name = marked.rstrip("\0")
            path = prefix + name
            if not wanted(path):
                continue
            if not name.endswith("/"):
                try:
                    info = os.stat(os.path.join(root, path))
                except FileNotFoundError:
                    yield path, None
                    continue
                if stat.S_ISREG(info.st_mode):
                    yield path, info
                continue
            is_link = marked.endswith("\0")
            if is_link and _leads_back(os.path.join(root, path), top, wanted):
                _log.warning("not followed, leads back into the listing: %s", root / path)
                continue
            yield from enter(path, through_link or is_link)

    yield from enter("", False)


def _leads_back(link: str, top: str, wanted: Callable[[str], bool]) -> bool:
    target = os.path.realpath(link)
    if os.path.commonpath([top, target]) == target:
        return True
    if os.path.commonpath([top, target]) != top:
        return False
    parts = os.path.relpath(target, top).split(os.sep)
    return all(wanted("/".join(parts[:n]) + "/") for n in range(1, len(parts) + 1))


def _beside(path: Path) -> Path:
    """A name in the same folder that no listing shows; the pid says whose it was."""
    return path.with_name(temporary_name(path.name))


def _write_beside(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
