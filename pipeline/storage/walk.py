"""The ordered walk over a local folder, a few thousand files at a time."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

LeftOut = Callable[[str, str], None]
"""Called as `left_out(path, reason)` for what is there and is not listed; a folder's path ends
in "/"."""

HIDDEN = "hidden"
LISTED_ANYWAY = "a link to a folder that is listed anyway"
_CHUNK = 4096
_SECOND = 1_000_000_000
_CLOSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOENT: "gone while it was listed",
    errno.ENAMETOOLONG: "the path is too long",
}
_ODD = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class Page(NamedTuple):
    """Neighbouring files of a listing, as columns.

    Attributes:
        paths: Relative to the listed root, "/"-separated.
        sizes: Bytes; −1 where unknown (a link that leads nowhere).
        tokens: Change when the bytes may have changed; "" where unknown.
    """

    paths: list[str]
    sizes: list[int]
    tokens: list[str]

    def only(self, places: Sequence[int]) -> Page:
        """The page of the files at these places."""
        if len(places) == len(self.paths):
            return self
        paths, sizes, tokens = self
        return Page(
            [paths[n] for n in places], [sizes[n] for n in places], [tokens[n] for n in places]
        )


def walk_folder(
    root: Path,
    *,
    recursive: bool = True,
    hidden: bool = False,
    exclude: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Iterator[Page]:
    """Regular files under `root`, in the order of their paths by code point.

    Holds the names of one directory a level, not the tree. Links to files are files; one that
    leads nowhere, or round in a circle, is a file whose size is unknown. A linked directory is
    entered once, and not at all where it leads back into the tree or above it.

    Args:
        root: An existing directory.
        recursive: Also enter directories.
        hidden: Also what starts with a dot.
        exclude: Directories to leave out, relative to the root, each ending in "/".
        left_out: Told of what is passed over: hidden names, pipes, sockets, devices, directories
            that may not be read.

    Raises:
        OSError: A directory cannot be read and there is no `left_out` to be told, or its disk is
            at fault: skipping it would silently drop its files.
    """
    top = os.path.realpath(root)
    linked: set[str] = set()
    say = left_out or (lambda path, reason: None)

    def wanted(path: str) -> bool:
        return path not in exclude and (hidden or not path.rpartition("/")[2].startswith("."))

    def enter(prefix: str, through_link: bool) -> Iterator[Page]:
        folder = os.path.join(root, prefix)
        if through_link:
            real = os.path.realpath(folder)
            if real in linked:
                say(prefix, LISTED_ANYWAY)
                return
            linked.add(real)
        try:
            names = _names(folder, recursive)
        except OSError as error:
            if left_out is None or not prefix or error.errno not in _CLOSED:
                raise
            left_out(prefix, _CLOSED[error.errno])
            return
        waiting: list[str] = []
        while names:
            marked = names.pop()
            name = marked.rstrip("\0")
            if not hidden and name[0] == ".":
                say(prefix + name, HIDDEN)
                continue
            if name[-1] != "/":
                waiting.append(name)
                if len(waiting) == _CHUNK:
                    yield _stat(folder, prefix, waiting, say)
                    waiting = []
                continue
            path = prefix + name
            if path in exclude:
                continue
            is_link = marked[-1] == "\0"
            if is_link and _leads_back(os.path.join(root, path), top, wanted):
                say(path, LISTED_ANYWAY)
                continue
            if waiting:
                yield _stat(folder, prefix, waiting, say)
                waiting = []
            yield from enter(path, through_link or is_link)
        if waiting:
            yield _stat(folder, prefix, waiting, say)

    yield from enter("", False)


def _names(folder: str, recursive: bool) -> list[str]:
    """Names in a directory, the first one last.

    A directory's name ends in "/", which makes depth-first order the order of paths: "a.b" <
    "a/b" although "a" < "a.b". Links to directories get a "\\0" behind.
    """
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                names.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                if recursive:
                    names.append(entry.name + "/")
            elif entry.is_symlink() and _is_folder(entry):
                if recursive:
                    names.append(entry.name + "/\0")
            else:
                names.append(entry.name)
    names.sort(reverse=True)
    return names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that go round in a circle, or through a closed directory
        return False


def _stat(folder: str, prefix: str, names: list[str], say: LeftOut) -> Page:
    """Sizes and times of some files of one directory, all but what is no file."""
    page = Page([], [], [])
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            try:
                info = os.stat(name, dir_fd=place)
            except OSError:  # reading it will say why
                size, token = -1, ""
            else:
                if not stat.S_ISREG(info.st_mode):
                    say(prefix + name, _ODD.get(stat.S_IFMT(info.st_mode), "not a file"))
                    continue
                size, token = info.st_size, local_token(info.st_mtime_ns)
            page.paths.append(prefix + name)
            page.sizes.append(size)
            page.tokens.append(token)
    finally:
        os.close(place)
    return page


def local_token(mtime_ns: int) -> str:
    """The token of a local file that was last written then.

    File systems that count whole seconds (FAT two of them) give a file the same time that is
    written again in the same second: what was written just now gets a token that no later listing
    will give again, so that it is looked at once more.
    """
    if mtime_ns % _SECOND == 0:
        now = time.time_ns()
        if now - mtime_ns < 2 * _SECOND:
            return f"{mtime_ns} seen {now}"
    return str(mtime_ns)


def _leads_back(link: str, top: str, wanted: Callable[[str], bool]) -> bool:
    target = os.path.realpath(link)
    if os.path.commonpath([top, target]) == target:
        return True
    if os.path.commonpath([top, target]) != top:
        return False
    parts = os.path.relpath(target, top).split(os.sep)
    folders = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return all(wanted(folder) and wanted(folder + "/") for folder in folders)
