"""A prefix names the files that stand in earlier ones; what the last two do not name goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage.prefixes import ELSEWHERE, FolderFiles, NewPrefix
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join

STORAGE = Storage()
NAMES = [f"maps/{letter}.png" for letter in "abcd"]


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Iterator[str]:
    uri = f"memory://{request.node.name}/exports"
    yield uri
    for entry in list(STORAGE.list(uri)) if STORAGE.exists(uri) else []:
        STORAGE.remove(entry.uri)


def build(out: str, number: int, *, write: str, keep: str = "") -> list[str]:
    """A version that writes some of the maps and keeps others; the paths that could be kept."""
    prefix = NewPrefix(STORAGE, out, f"{number:06d}-f{number}")
    for letter in write:
        STORAGE.write(join(prefix.uri, f"maps/{letter}.png"), f"{letter}{number}".encode())
    kept = [letter for letter in keep if prefix.keep(join(prefix.uri, f"maps/{letter}.png"))]
    prefix.show()
    return kept


def shown(out: str) -> dict[str, str]:
    """What a reader finds who goes by docs/data-format.md alone."""
    prefix = json.loads(STORAGE.read(join(out, "current.json")))["prefix"]
    found = {e.path: e.uri for e in STORAGE.list(join(out, prefix)) if e.path != ELSEWHERE}
    if STORAGE.exists(table := join(out, prefix, ELSEWHERE)):
        with STORAGE.open(table) as file:
            for row in pq.ParquetFile(file).read().to_pylist():
                found[row["path"]] = join(out, row["prefix"], row["path"])
    texts = {path: STORAGE.read(uri).decode() for path, uri in found.items()}
    files = FolderFiles(STORAGE, join(out, prefix, "maps"))
    for path, text in texts.items():
        assert STORAGE.read(files.uri(path.removeprefix("maps/"))).decode() == text
    return {path[5]: text for path, text in texts.items()}


def prefixes(out: str) -> dict[str, int]:
    """Prefix → its objects but tables."""
    paths = [e.path.split("/") for e in STORAGE.list(out) if ELSEWHERE not in e.path]
    return {
        top: sum(path[0] == top for path in paths)
        for top in {path[0] for path in paths if len(path) > 1}
    }


def test_what_is_kept_is_found_where_it_lies(out: str) -> None:
    build(out, 1, write="abcd")
    assert build(out, 2, write="a", keep="bcx") == ["b", "c"]
    assert shown(out) == {"a": "a2", "b": "b1", "c": "c1"}
    assert build(out, 3, write="b", keep="acd") == ["a", "c"]
    assert shown(out) == {"a": "a2", "b": "b3", "c": "c1"}


def test_only_what_the_two_last_versions_name_stays(out: str) -> None:
    build(out, 1, write="abcd")
    build(out, 2, write="a", keep="bc")
    assert prefixes(out) == {"000001-f1": 4, "000002-f2": 1}
    build(out, 3, write="b", keep="ac")  # version 2 still names b and c of version 1
    assert prefixes(out) == {"000001-f1": 2, "000002-f2": 1, "000003-f3": 1}
    build(out, 4, write="c", keep="ab")
    assert prefixes(out) == {"000001-f1": 1, "000002-f2": 1, "000003-f3": 1, "000004-f4": 1}
    build(out, 5, write="abc")
    assert prefixes(out) == {
        "000002-f2": 1, "000003-f3": 1, "000004-f4": 1, "000005-f5": 3
    }  # fmt: skip
    build(out, 6, write="abc")
    assert prefixes(out) == {"000005-f5": 3, "000006-f6": 3}


def test_what_somebody_took_cannot_be_kept(out: str) -> None:
    build(out, 1, write="abcd")
    build(out, 2, write="a", keep="bcd")
    STORAGE.remove(join(out, "000001-f1", "maps/b.png"))
    STORAGE.remove(join(out, "000002-f2", "maps/a.png"))
    assert build(out, 3, write="ab", keep="abcd") == ["a", "b", "c", "d"][2:]


def test_a_killed_version_leaves_nothing_behind(out: str) -> None:
    build(out, 1, write="ab")
    killed = NewPrefix(STORAGE, out, "000002-f2")
    STORAGE.write(join(killed.uri, "maps/a.png"), b"half")
    assert shown(out) == {"a": "a1", "b": "b1"}
    build(out, 2, write="a", keep="b")
    assert shown(out) == {"a": "a2", "b": "b1"}
    other = NewPrefix(STORAGE, out, "000003-dead")
    STORAGE.write(join(other.uri, "maps/a.png"), b"half")
    build(out, 3, write="a", keep="b")
    assert shown(out) == {"a": "a3", "b": "b1"}
    assert "000003-dead" not in prefixes(out)


def test_the_same_version_again_names_the_same_files(out: str) -> None:
    build(out, 1, write="abc")
    build(out, 2, write="a", keep="bc")
    assert build(out, 2, write="", keep="abc") == ["a", "b", "c"]
    assert shown(out) == {"a": "a2", "b": "b1", "c": "c1"}
    build(out, 2, write="abc")
    assert shown(out) == {"a": "a2", "b": "b2", "c": "c2"}
    assert not STORAGE.exists(join(out, "000002-f2", ELSEWHERE))


@pytest.mark.parametrize("prefix", ["..", "../../secret", "000001", "held"])
def test_a_table_that_leads_out_of_the_folder_is_not_followed(out: str, prefix: str) -> None:
    build(out, 1, write="ab")
    build(out, 2, write="a", keep="b")
    uri = join(out, "000002-f2", ELSEWHERE)
    sink = pa.BufferOutputStream()
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("path", "prefix")])
    pq.write_table(pa.table([["maps/b.png"], [prefix]], schema=schema), sink)
    STORAGE.write(uri, sink.getvalue().to_pybytes())
    assert FolderFiles(STORAGE, join(out, "000002-f2")).uri("maps/b.png").startswith(out)
    assert build(out, 3, write="", keep="ab") == ["a"]


def test_many_files_take_several_row_groups(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.prefixes._ROWS", 2)
    build(out, 1, write="abcde")
    build(out, 2, write="", keep="abcde")
    assert shown(out) == {letter: f"{letter}1" for letter in "abcde"}


def test_a_local_folder_has_nothing_elsewhere(tmp_path) -> None:
    files = FolderFiles(STORAGE, str(tmp_path / "000001-a" / "maps"))
    assert files.uri("x.png") == str(tmp_path / "000001-a" / "maps" / "x.png")
    assert not list(files.elsewhere())
