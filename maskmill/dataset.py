"""Dataset: what a job published, as tables, masks and pictures; and `label`, which makes one."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig
from schemas.config.layers import layered
from schemas.rows import AnnotationRow, ImageRow, size_of

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from pipeline.engine.run import RunResult

_SHOWN = 6
"""Pictures in a notebook's first look."""


class Dataset:
    """The current version of a dataset. Shows itself in a notebook.

    Attributes:
        uri: Its folder.
        run: What `label` did, where that made this object; None where it was opened.
    """

    def __init__(self, ledger: Ledger, run: RunResult | None = None) -> None:
        self._ledger = ledger
        self.uri = ledger.uri
        self.run = run

    @property
    def version(self) -> int:
        """Number of the published version."""
        return self._ledger.manifest.version

    @property
    def counts(self) -> Mapping[str, int]:
        """Images by status, and annotations."""
        return self._ledger.manifest.counts

    @property
    def categories(self) -> list[str]:
        """Names, in the order of their ids."""
        return [item.name for item in self._ledger.categories]

    @cached_property
    def images(self) -> pa.Table:
        """One row an image; docs/data-format.md explains the columns."""
        return pa.concat_tables(self._ledger.images())

    @cached_property
    def annotations(self) -> pa.Table:
        """One row a segment; docs/data-format.md explains the columns."""
        return pa.concat_tables(self._ledger.annotations())

    def to_pandas(self, table: str = "annotations") -> pd.DataFrame:
        """`images` or `annotations` as a data frame.

        Raises:
            ValueError: Another table.
        """
        if table not in ("images", "annotations"):
            raise ValueError(f"table: 'images' or 'annotations', got {table!r}")
        return getattr(self, table).to_pandas()

    def masks(self, image: str | int) -> npt.NDArray[np.bool_]:
        """The masks of one image: n×H×W, in the order of its rows in `annotations`.

        Args:
            image: Its file name, the end of it after a slash, or its image_id.

        Raises:
            ValueError: No such image, several, or one that was not labelled.
        """
        row = self._row(image)
        if row["height"] is None:
            raise ValueError(f"{row['file_name']} has no masks: {row['error_message']}")
        height, width = size_of(row)
        segments = self._segments(row["image_id"])
        out = np.zeros((len(segments), height, width), np.bool_)
        for place, segment in zip(out, segments, strict=True):
            place[:] = codec.decode(segment["rle"]["counts"], height, width)
        return out

    def show(self, image: str | int, *, side: int = 1024, opacity: float = 0.45) -> Image.Image:
        """The picture with its masks painted over it, longer side at most `side` pixels.

        Where the original is gone or another one now, the masks are on grey.

        Raises:
            ValueError: As for `masks`.
        """
        from PIL import Image

        row = self._row(image)
        masks = self.masks(row["image_id"])
        background = {item.id for item in self._ledger.categories if item.is_background}
        pixels = self._original(row).astype(np.float32)
        for number, (mask, segment) in enumerate(
            zip(masks, self._segments(row["image_id"]), strict=True)
        ):
            if segment["category_id"] not in background:
                pixels[mask] = pixels[mask] * (1 - opacity) + _hue(number) * opacity
                pixels[mask & ~_inner(mask)] = _hue(number)
        shown = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        shown.thumbnail((side, side))
        return shown

    def export(self, format: str, output: str) -> list[str]:  # noqa: A002
        """Writes another format into a folder; returns the paths written.

        Raises:
            ValueError: No such format, or a folder that holds something else.
        """
        from pipeline.exporters import export

        return [artifact.path for artifact in export(self._ledger, format, output)]

    def evaluate(self, ground_truth: str, **options: Any) -> dict[str, Any]:
        """Figures against ground truth; see `pipeline.evaluate` for the options."""
        from pipeline.evaluation.evaluate import evaluate

        return evaluate(ground_truth=ground_truth, dataset=self.uri, **options)

    def __repr__(self) -> str:
        counts = self.counts
        return (
            f"<maskmill dataset {self.uri}: version {self.version}, {counts['images']} images, "
            f"{counts['annotations']} annotations, {counts['failed']} failed>"
        )

    def _repr_html_(self) -> str:
        import base64
        import io

        cells = []
        for row in self.images.slice(0, _SHOWN).to_pylist():
            name = html.escape(row["file_name"])
            if row["status"] in ("ok", "empty"):
                file = io.BytesIO()
                self.show(row["image_id"], side=180).save(file, "PNG")
                code = base64.b64encode(file.getvalue()).decode()
                body = f'<img src="data:image/png;base64,{code}" alt="{name}">'
                text = f"{name} · {row['num_segments']}"
            else:
                body, text = "", f"{name} · {html.escape(row['error_code'] or row['status'])}"
            cells.append(
                f'<figure style="display:inline-block;margin:4px">{body}'
                f"<figcaption>{text}</figcaption></figure>"
            )
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{''.join(cells)}"

    def _row(self, image: str | int) -> ImageRow:
        table = self.images
        if isinstance(image, str):
            names = table["file_name"]
            hits = pc.or_(pc.equal(names, image), pc.ends_with(names, f"/{image}"))  # pyright: ignore
        else:
            hits = pc.equal(table["image_id"], image)  # pyright: ignore
        found = table.filter(hits).to_pylist()
        exact = [row for row in found if row["file_name"] == image] or found
        if len(exact) != 1:
            some = ", ".join(row["file_name"] for row in exact[:3])
            raise ValueError(
                f"{image!r} is the name of several images: {some}" if exact
                else f"the dataset has no image {image!r}"
            )  # fmt: skip
        return exact[0]

    def _segments(self, image_id: int) -> list[AnnotationRow]:
        own = pc.equal(self.annotations["image_id"], image_id)  # pyright: ignore
        return self.annotations.filter(own).to_pylist()

    def _original(self, row: ImageRow) -> npt.NDArray[np.uint8]:
        from pipeline.report.pictures import find_originals, original_pixels, read_or_none
        from schemas.config.job import ImagesConfig

        found, read = find_originals(self._ledger, {row["file_name"]})
        record = found.get(row["file_name"])
        config = ImagesConfig.model_validate(self._ledger.manifest.config.get("images", {}))
        pixels = original_pixels(row, record, read_or_none(read, record), config)
        size = size_of(row)
        if pixels is None or pixels.shape[:2] != size:
            return np.full((*size, 3), 128, np.uint8)
        return pixels


def open_dataset(uri: str, *, endpoint_url: str = "") -> Dataset:
    """Opens the current version of a dataset.

    Raises:
        ValueError: `uri` holds no dataset of ours.
        StorageError: It cannot be read.
    """
    from schemas.config.job import StorageConfig

    return Dataset(open_ledger(uri, Storage(StorageConfig(endpoint_url=endpoint_url))))


def label(
    input: str,  # noqa: A002
    output: str,
    *,
    model: str,
    task: str | Sequence[str] | None = None,
    prompt: str | Sequence[str] | None = None,
    prompts: str | None = None,
    workers: int | None = None,
    export: bool = True,
    report: bool = True,
    **settings: Any,
) -> Dataset:
    """Labels a folder; the same program and the same checks as `maskmill label`.

    Args:
        input: Folder, tar or Parquet file(s); local or s3://….
        output: The dataset's folder.
        model: Short name, hub id, or checkpoint folder.
        task: semantic, instance, panoptic, or several; None = the model's first.
        prompt: What to look for, in words.
        prompts: File of points or boxes.
        workers: Worker processes; None = as many as fit.
        export: Write COCO and PNG exports.
        report: Write the HTML report.
        settings: Any other key, as `**{"model.threshold": 0.4}`.

    Returns:
        The published dataset; `run` says what was done.

    Raises:
        ValueError: Bad usage or configuration; names the key and the allowed values.
        StorageError: Input or output cannot be reached.
        ExecutionError: Workers cannot do their work; the same call goes on.
        OverBudgetError: More images failed than `max_failures` allows; nothing is published.
    """
    from pipeline.engine.run import label as run_label

    config = parse(
        input,
        output,
        model=model,
        task=task,
        settings={
            "prompts.text": [prompt] if isinstance(prompt, str) else prompt and list(prompt),
            "prompts.file": prompts,
            "execution.workers": workers,
            **settings,
        },
    )
    result = run_label(config, export=export, report=report)
    return Dataset(open_ledger(result.dataset, Storage(config.storage)), result)


def parse(
    input: str,  # noqa: A002
    output: str,
    *,
    model: str,
    task: str | Sequence[str] | None = None,
    settings: Mapping[str, Any],
) -> JobConfig:
    """A job's configuration from keywords; dotted keys are those of `--set`.

    Raises:
        ValueError: An unknown key or a bad value; names the nearest key and the allowed values.
    """
    tasks = task if task is None or isinstance(task, str) else ",".join(task)
    flags = {"input.uri": str(input), "output": str(output), "model.name": str(model)}
    return JobConfig.parse(layered(None, (), {**flags, "task": tasks, **settings}))


def _hue(number: int) -> npt.NDArray[np.float32]:
    """Colours that neighbours do not share: hues a golden angle apart."""
    import colorsys

    rgb = colorsys.hsv_to_rgb((number * 0.61803398875) % 1.0, 0.85, 1.0)
    return (np.asarray(rgb) * 255).astype(np.float32)


def _inner(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask without its rim."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner
