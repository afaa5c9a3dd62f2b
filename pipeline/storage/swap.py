"""Folders that are replaced as a whole: built aside, put in place in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import explain
from .prefixes import NewPrefix, shown_prefix
from .processes import is_abandoned, temporary_name
from .storage import Storage
from .uris import join, local_path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a folder is written anew.

    Attributes:
        uri: Of the place.
        standing: URI of the folder that readers are shown meanwhile; locally of the place itself,
            which begins as that folder; "" where there is none.
        keep: Called with the URI of a file of the place that need not be written, from one thread:
            whether the folder had it, and has it now. False: it must be written.
    """

    uri: str
    standing: str
    keep: Callable[[str], bool]


@contextmanager
def rebuilt(
    storage: Storage, folder: str, *, version: str, ours: Collection[str] = ()
) -> Iterator[Place]:
    """A place to write a folder anew; at the end of the block it is the folder.

    Readers see all of the old folder or all of the new one. Locally the place begins as a copy
    of the folder made of hard links: what is not written again costs nothing, and files of
    others stay. If the block raises, the folder is as it was.

    On object stores nothing can be renamed: the place is a prefix of its own, a pointer names it
    when it is whole, and a table in it where those of its files lie that are kept (`prefixes`).
    The prefix before stays for those who read it; what neither of them names goes.

    Args:
        storage: File access.
        folder: URI.
        version: Name of the prefix on object stores.
        ours: Sub-folders that are written to; links in their place are not followed.

    Raises:
        StorageError: It cannot be written.
    """
    path = local_path(folder)
    if path is None:
        prefix = NewPrefix(storage, folder, version)
        yield Place(prefix.uri, prefix.standing, prefix.keep)
        prefix.show()
        return
    real = Path(os.path.realpath(path))
    aside = real.with_name(temporary_name(real.name))
    try:
        with _explained(folder):
            aside.mkdir(parents=True)
            _recover(real)
            carried = _link_tree(real, aside, ours) if real.is_dir() else {}
        yield Place(str(aside), str(aside), os.path.exists)
        with _explained(folder):
            _exchange(aside, real, carried)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # by now the old folder, or the failed new one


def current_folder(storage: Storage, folder: str) -> str:
    """URI of the folder's files: its own, or on object stores the prefix that is whole."""
    if local_path(folder) is not None:
        return folder
    prefix = shown_prefix(storage, folder)
    return join(folder, prefix) if prefix else folder


def sweep_asides(folder: str) -> None:
    """Removes places of processes that are gone from a local folder; others have none."""
    path = local_path(folder)
    if path is None or not path.is_dir():
        return
    for entry in list(os.scandir(path)):
        if entry.is_dir(follow_symlinks=False) and entry.name.startswith("."):
            with suppress(OSError):
                if is_abandoned(entry.name, entry.stat().st_mtime):
                    shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def _explained(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, folder) from error


def _link_tree(source: Path, target: Path, ours: Collection[str]) -> dict[str, tuple[int, int]]:
    """Hard links to every file; returns inode and time of those at the top."""
    top: dict[str, tuple[int, int]] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in os.scandir(source / folder):
            name = f"{folder}/{entry.name}".lstrip("/")
            if entry.is_symlink() and entry.is_dir():
                if name not in ours:
                    os.symlink(os.readlink(entry.path), target / name)
            elif entry.is_dir(follow_symlinks=False):
                if not is_abandoned(entry.name, entry.stat().st_mtime):
                    (target / name).mkdir()
                    folders.append(name)
            elif stat.S_ISREG((info := entry.stat()).st_mode):
                if is_abandoned(entry.name, info.st_mtime):
                    continue
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                _link(real, target / name)
                if not folder:
                    top[name] = (info.st_ino, info.st_mtime_ns)
    return top


def _link(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        return  # removed meanwhile
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOSPC):
            raise
        shutil.copy2(source, target)  # a file system without hard links


def _exchange(aside: Path, real: Path, carried: dict[str, tuple[int, int]]) -> None:
    if not real.is_dir():
        os.rename(aside, real)
        return
    if not _swap(aside, real):
        spare = _spare(real)
        os.rename(real, spare)
        os.rename(aside, real)
        os.rename(spare, aside)
    # What others wrote into the old folder meanwhile, such as figures of jobs.evaluate.
    for entry in os.scandir(aside):
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
            info = entry.stat()
            known = carried.get(entry.name)
            if known != (info.st_ino, info.st_mtime_ns):
                os.replace(entry.path, real / entry.name)


def _swap(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _spare(real: Path) -> Path:
    return real.with_name(f".{real.name}.old")


def _recover(real: Path) -> None:
    """Puts the old folder back where a process was killed between two renames."""
    spare = _spare(real)
    if spare.is_dir():
        if real.exists():
            shutil.rmtree(spare, ignore_errors=True)
        else:
            os.rename(spare, real)
