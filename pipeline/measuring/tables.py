"""A Parquet file that grows by small tables and has large row groups."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS = 65_536


class TableWriter:
    """Writes rows to a local file; where the groups begin depends on the rows alone."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting = schema.empty_table()

    def add(self, table: pa.Table) -> None:
        """Adds rows."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while self._waiting.num_rows >= _ROWS:
            self._write(self._waiting.slice(0, _ROWS))
            self._waiting = self._waiting.slice(_ROWS)

    def close(self) -> None:
        """Writes what is left and ends the file."""
        self._write(self._waiting)
        self._writer.close()

    def _write(self, rows: pa.Table) -> None:
        # In one piece: how rows were cut into tables would show in the file's pages.
        self._writer.write_table(rows.combine_chunks(), row_group_size=_ROWS)
