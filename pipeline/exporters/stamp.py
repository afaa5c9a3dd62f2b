"""Which version of a dataset the files in a folder of exports were made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.storage import MissingError, Storage, join

from .table import Artifact


@dataclass(frozen=True, slots=True)
class ExportStamp:
    """What lies in a folder of exports; its file is exports.json.

    Attributes:
        datasets: format → SHA-256 of the manifest that it was made from and `EXPORT_VERSION`;
            "" while it is being written.
        artifacts: format → what it consists of, paths relative to the stamp.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)

    @classmethod
    def read(cls, storage: Storage, out: str) -> ExportStamp | None:
        """The stamp in this folder, None where there is none or a damaged one."""
        try:
            data = json.loads(storage.read(join(out, "exports.json")))
            return cls(
                {name: str(item["dataset"]) for name, item in data["formats"].items()},
                {
                    name: tuple(Artifact(**artifact) for artifact in item["artifacts"])
                    for name, item in data["formats"].items()
                },
            )
        except (MissingError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, storage: Storage, out: str) -> None:
        """Replaces the stamp in this folder."""
        formats: dict[str, Any] = {
            name: {
                "dataset": self.datasets[name],
                "artifacts": [asdict(item) for item in self.artifacts[name]],
            }
            for name in sorted(self.datasets)
        }
        text = json.dumps({"formats": formats}, indent=1) + "\n"
        storage.write(join(out, "exports.json"), text.encode())
