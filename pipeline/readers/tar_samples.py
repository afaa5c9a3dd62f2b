"""Which members of a tar are images: WebDataset's samples, or each picture for itself."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from .inventory import APPLE_DOUBLE, OTHER_FIELD, WEBDATASET, summary
from .kinds import NO_PICTURE, extension, image_extensions, why_not
from .tar_headers import Members

# WebDataset's rule: a key ends at the first dot of the base name, the rest is the field.
_ODD = re.compile(r"\n[./]|/[./]")
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(slots=True)
class TarImages:
    """The images of one tar, in the order of their bytes.

    Attributes:
        names: Clean: relative, without "." and "..", UTF-8; no two the same.
        offsets: First byte of each.
        sizes: Bytes.
        left_out: (suffix, reason) → members that are no images.
        reason: What is wrong with the tar, "" if nothing is.
    """

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    reason: str = ""


class _Picker:
    """Sorts the members of one tar into images, what is left out, and faults."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.found = TarImages()
        self.faults: list[str] = [members.damage] if members.damage else []
        self.chosen: list[tuple[int, str]] = []
        self._fields: dict[str, tuple[str, str]] = {}  # field → suffix and why it is left out
        self.usable = self._usable()

    def leave(self, name: str, reason: str) -> None:
        suffix = extension(name)
        self.found.left_out[suffix if len(suffix) < 14 else "other suffixes", reason] += 1

    def leave_field(self, its_field: str, name: str) -> None:
        key = self._fields.get(its_field)
        if key is None:
            suffix = extension(name)
            reason = OTHER_FIELD if suffix in image_extensions() else why_not(suffix)[0]
            key = suffix if len(suffix) < 14 else "other suffixes", reason
            self._fields[its_field] = key
        self.found.left_out[key] += 1

    def _usable(self) -> list[tuple[int, str]]:
        """Members with bytes, as (position, clean name); links get their target's bytes."""
        members, usable = self.members, list[tuple[int, str]]()
        text = "\n".join(members.names)
        if not any(members.kinds) and text.isascii() and not _ODD.search("\n" + text):
            return list(enumerate(members.names))
        for at, (name, kind) in enumerate(zip(members.names, members.kinds, strict=True)):
            if kind == "folder":
                continue
            clean = name
            if name[:1] in "./" or "/." in name or "//" in name or not name.isascii():
                parts = [part for part in _printable(name).split("/") if part not in ("", ".")]
                clean = "/".join(parts)
                if ".." in parts:
                    self.leave(clean, "points outside the tar")
                    self.faults.append(f"the member {clean} points outside the tar")
                    continue
                if parts and parts[-1].startswith("."):
                    hidden = APPLE_DOUBLE if parts[-1].startswith("._") else "hidden"
                    self.leave(parts[-1], hidden)
                    continue
            reason = self._follow(at) if kind.endswith("link") else kind
            if reason:
                self.leave(clean, reason)
                if reason == "a sparse member":
                    self.faults.append(f"{clean} is a sparse member, which has no offset")
                continue
            usable.append((at, clean))
        return usable

    def _follow(self, at: int) -> str:
        """Gives a link the place of its target's bytes; says why not, or ""."""
        members, seen, here = self.members, {at}, at
        while here in members.links:
            target = members.links[here]
            if members.kinds[here] == "symbolic link":
                folder = posixpath.dirname(members.names[here])
                target = posixpath.join(folder, target)
            there = self._place(posixpath.normpath(target).lstrip("/"))
            if there is None:
                return f"{members.kinds[at]} to what is not in the tar"
            if there in seen:
                return "links go round in a circle"
            seen.add(there)
            here = there
        if members.kinds[here]:
            return f"{members.kinds[at]} to {members.kinds[here]}"
        members.offsets[at], members.sizes[at] = members.offsets[here], members.sizes[here]
        return ""

    def _place(self, name: str) -> int | None:
        if not hasattr(self, "_places"):
            clean = (posixpath.normpath(name).lstrip("/") for name in self.members.names)
            self._places = {name: at for at, name in enumerate(clean)}
        return self._places.get(name)

    def done(self) -> TarImages:
        """The images by their names, each name once."""
        found, members = self.found, self.members
        self.chosen.sort()
        names = [name for _, name in self.chosen]
        if len(set(names)) < len(names):
            counted = Counter(names)
            for _, name in self.chosen:
                if counted[name] > 1:
                    self.leave(name, "several members have this name")
            self.chosen = [one for one in self.chosen if counted[one[1]] == 1]
            twice = ((name, n) for name, n in counted.items() if n > 1)
            self.faults += [f"{n} members are called {name}" for name, n in twice]
        found.names = [name for _, name in self.chosen]
        found.offsets = [members.offsets[at] for at, _ in self.chosen]
        found.sizes = [members.sizes[at] for at, _ in self.chosen]
        found.reason = summary(self.faults)
        return found


def every_picture(members: Members) -> TarImages:
    """Each member with the suffix of a picture is an image."""
    picker = _Picker(members)
    wanted = image_extensions()
    for at, name in picker.usable:
        suffix = extension(name)
        if suffix in wanted:
            picker.chosen.append((at, name))
        else:
            picker.leave(name, why_not(suffix)[0])
    return picker.done()


def one_a_sample(members: Members, column: str = "") -> TarImages:
    """The image of each WebDataset sample: members that share a key, in any order.

    Where a sample holds several pictures, the image is the field named by `column`, else the first
    of jpg, jpeg, png, webp, tif, … that it has (so "a.jpg" is the image and "a.mask.png" is not),
    else its only other picture ("a.rgb.png"). A late member of a sample matters to nobody, unless
    it is a second picture: readers that stream would take it for another sample.
    """
    picker = _Picker(members)
    if not column and _is_plain([name for _, name in picker.usable]):
        picker.chosen = picker.usable
        return picker.done()
    plain = _plain_fields()
    samples: dict[str, list[tuple[str, int, str]]] = {}
    late: set[str] = set()
    current = ""
    for at, name in picker.usable:
        slash = name.rfind("/") + 1
        dot = name.find(".", slash)
        if dot < 0 or (name[:2] == "__" and _META.match(name)):
            picker.leave(name, NO_PICTURE if dot < 0 else WEBDATASET)
            continue
        key, its_field = name[:dot], name[dot + 1 :].lower()
        sample = samples.get(key)
        if sample is None:
            samples[key] = [(its_field, at, name)]
        else:
            if key != current and its_field in plain and any(f in plain for f, *_ in sample):
                late.add(key)
            sample.append((its_field, at, name))
        current = key
    for key, sample in samples.items():
        if len(sample) == 1 and sample[0][0] in plain and not column:
            picker.chosen.append(sample[0][1:])
        else:
            _choose(picker, key, sample, column, key in late)
    return picker.done()


def _is_plain(names: Sequence[str]) -> bool:
    """Whether each of the names is a sample of one picture: the common case, ten times as fast."""
    split = [name.partition(".") for name in names]
    keys = {key for key, _, _ in split}
    fields = {field for _, _, field in split}
    return (
        len(keys) == len(names)
        and fields <= _plain_fields().keys()
        and not any(k[:2] == "__" for k in keys)
    )


def _choose(
    picker: _Picker,
    key: str,
    sample: Sequence[tuple[str, int, str]],
    column: str,
    late: bool,
) -> None:
    """Takes one image of a sample, or none, and leaves the others out."""
    if not column and not late and len(sample) == 2:
        (one, at, name), (two, other, sidecar) = sample
        plain = _plain_fields()
        if (one in plain) != (two in plain) and one != two:
            if two in plain:
                one, at, name, two, sidecar = two, other, sidecar, one, name
            picker.chosen.append((at, name))
            picker.leave_field(two, sidecar)
            return
    wanted = _image_field([name for name, *_ in sample], column)
    of_it = [item for item in sample if item[0] == wanted]
    if len(of_it) == 1:
        picker.chosen.append(of_it[0][1:])
    elif len(of_it) > 1:
        names = " and ".join(name for *_, name in of_it[:2])
        picker.faults.append(
            f"sample {key!r} has two members {wanted!r} ({names}): --input-format tar takes "
            "pictures of different names each for itself"
        )
    elif wanted == _AMBIGUOUS:
        pictures = [name for name, *_ in sample if name.rpartition(".")[2] in _plain_fields()]
        picker.faults.append(
            f"sample {key!r} has several pictures ({', '.join(pictures[:4])}), for a key ends at "
            "the first dot: --input-format tar takes each of them, --column FIELD one of a sample"
        )
    if late and len(of_it) == 1:
        second = next(name for f, _, name in reversed(sample) if f in _plain_fields())
        picker.faults.append(
            f"sample {key!r} has a second picture after it was closed ({second} comes late): "
            "--input-format tar takes each picture, or write the tar sorted by name"
        )
    lost = wanted == _AMBIGUOUS or len(of_it) > 1 or late
    for its_field, _, name in sample:
        if its_field == wanted and len(of_it) == 1:
            continue
        if lost and extension(name) in image_extensions():
            picker.leave(name, "several pictures of one sample")
        else:
            picker.leave_field(its_field, name)


_AMBIGUOUS = "\0"


def _image_field(fields: Sequence[str], column: str) -> str:
    """The field that is the image; "" where there is none, `_AMBIGUOUS` for a question."""
    if column:
        return column if column in fields else ""
    for name in _plain_fields():
        if name in fields:
            return name
    pictures = {name for name in fields if name.rpartition(".")[2] in _plain_fields()}
    if len(pictures) > 1:
        return _AMBIGUOUS
    return next(iter(pictures), "")


@cache
def _plain_fields() -> dict[str, None]:
    """Fields that say that a sample's member is its picture, by preference."""
    return dict.fromkeys(suffix[1:] for suffix in image_extensions())


def _printable(name: str) -> str:
    """Names of other encodings come as surrogates, which no table can hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
