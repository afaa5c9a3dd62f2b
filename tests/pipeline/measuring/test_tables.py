from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

import pipeline.measuring.tables as tables_module
from pipeline.measuring.tables import TableWriter

SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False)])


def rows(start, stop):
    return pa.Table.from_pydict({"n": list(range(start, stop))}, schema=SCHEMA)


def test_bytes_depend_on_the_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_module, "_ROWS", 10)
    files = []
    for name, cuts in (("a", [0, 25]), ("b", [0, 1, 9, 10, 11, 24, 25]), ("c", [0, 5, 5, 25])):
        writer = TableWriter(tmp_path / name, SCHEMA)
        for start, stop in pairwise(cuts):
            writer.add(rows(start, stop))
        writer.close()
        files.append(writer.path.read_bytes())
    assert files[0] == files[1] == files[2]
    file = pq.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [10, 10, 5]
    assert file.read()["n"].to_pylist() == list(range(25))


def test_a_table_without_rows_is_a_table(tmp_path):
    writer = TableWriter(tmp_path / "none", SCHEMA)
    writer.close()
    assert pq.ParquetFile(writer.path).read().schema == SCHEMA
