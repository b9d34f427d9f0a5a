"""Writes a run out as a finished set: the published Parquet layout, its images, and a card, as one folder.

    DIR/README.md                     the card, which `datasets.load_dataset(DIR)` reads its parts from
    DIR/SCaR_eval_<source>.parquet    to measure on
    DIR/SCAR_<source>.parquet         to learn from
    DIR/provenance.parquet            where each row came from
    DIR/images/...                    the images, if they are put in
    DIR/export.json                   what was exported and how

Rows stand in the order of the run, which is shuffled by a hash of the region's id, so the same run exports to the same
bytes. An image is either measured on or learned from, never both, also where two sources have the same photograph.

The folder is written beside its place and moved there when all of it is there: one that was exported before stays until
then. A process killed between the two moves is mended by the next export.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq

from virtue.curation import layout
from virtue.curation.card import card
from virtue.curation.checks import Design
from virtue.curation.layout import SPLITS, Split
from virtue.curation.review.outcomes import Outcome, outcomes
from virtue.curation.samples import Region
from virtue.curation.sampling import split_of
from virtue.curation.staging import replaced
from virtue.curation.store import Curation
from virtue.curation.verdicts import Keep, Kept, default_keep, judged

ImageMode = Literal["copy", "link", "none"]
Progress = Callable[[int, int], None]

CARD = "README.md"
FORMAT = 1
"""Of the manifest."""

_GROUP = 1000  # rows of a row group


@dataclass(frozen=True)
class Counted:
    """What a source's split holds."""

    images: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: Where it is.
        keep: Which samples were kept.
        eval_share: The share of images that was asked for as evaluation; None where images were named.
        eval_images: How many images were named; None where a share was asked for.
        images: How images were put in.
        design: Of the distractors.
        counts: Images and rows by source, then by split.
        left_out: How many samples were left out, by reason.
    """

    folder: Path
    keep: Keep
    eval_share: float | None
    eval_images: int | None
    images: ImageMode
    design: Design
    counts: dict[str, dict[Split, Counted]]
    left_out: dict[str, int]

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(counted.rows for splits in self.counts.values() for counted in splits.values())

    def to_json(self) -> dict[str, Any]:
        """As a plain dict, without where it is."""
        values = asdict(self)
        return {"format": FORMAT, **{name: value for name, value in values.items() if name != "folder"}}


def export(
    run: Curation | str | Path,
    to: str | Path,
    *,
    eval_share: float = 0.05,
    seed: int | None = None,
    eval_images: Collection[str] | None = None,
    keep: Keep | None = None,
    images: ImageMode = "copy",
    baseline: bool = True,
    progress: Progress | None = None,
) -> Exported:
    """Writes a run out; the module says what.

    Args:
        run: The run, or its folder.
        to: Folder of the set. One that an export wrote before is replaced.
        eval_share: Which share of the images is for evaluation, in [0, 1]; 1 for a set to measure on only.
        seed: Deals images into splits; the run's own by default.
        eval_images: Ids of the images for evaluation, as in "COCO/285", in place of a share: a source's own split, as
            `eval_images.read_eval_images` reads it from a list.
        keep: Which samples; by default those that people accepted, or where nobody decided anything, all.
        images: "copy" puts them in; "link" too, without using space where the disk allows it; "none" leaves them where
            they are, and paths in rows start from their source's folder.
        baseline: Measure for the card what the words alone give away, which takes a while.
        progress: Called with the samples done and their total.

    Raises:
        FileNotFoundError: If there is no run, or an image is gone.
        ValueError: If the share is none, the folder holds something else or is being written, or no sample is left.
    """
    split_of("", eval_share)  # refuses a share that is none before anything is opened
    opened = run if isinstance(run, Curation) else Curation(run)
    try:
        decided = outcomes(opened)
        split = _Split(eval_share, seed if seed is not None else int(opened.settings.get("seed", 0)), eval_images)
        keep = keep or default_keep(decided)
        with replaced(Path(to), layout.MANIFEST) as folder:
            counts, left_out = _write(opened, folder, decided, split, keep, images, progress)
            share, named = (eval_share, None) if eval_images is None else (None, len(eval_images))
            design = opened.settings.get("design", "single")
            exported = Exported(Path(to), keep, share, named, images, design, counts, dict(left_out.most_common()))
            (folder / CARD).write_text(card(opened, folder, exported, baseline=baseline), encoding="utf-8")
            (folder / layout.MANIFEST).write_text(json.dumps(exported.to_json(), indent=1) + "\n", encoding="utf-8")
        return exported
    finally:
        if opened is not run:
            opened.close()


# Splits


@dataclass(frozen=True)
class _Split:
    """Which split an image is in, as `export` describes it."""

    eval_share: float
    seed: int
    eval_images: Collection[str] | None

    def of(self, image_id: str) -> Split:
        if self.eval_images is not None:
            return "eval" if image_id in self.eval_images else "train"
        return split_of(image_id, self.eval_share, self.seed)


# Files


def _write(
    run: Curation,
    folder: Path,
    decided: Mapping[str, Outcome],
    split: _Split,
    keep: Keep,
    images: ImageMode,
    progress: Progress | None,
) -> tuple[dict[str, dict[Split, Counted]], Counter[str]]:
    """Everything but card and manifest; what was written, and how many samples were left out by reason."""
    states = run.states()
    total, left_out = sum(state["written"] for state in states.values()), Counter[str]()
    with _Files(folder, layout.safe_names(sorted(states)), _Images(run, folder, images)) as files:
        for done, sample in enumerate(run.samples(), start=1):
            kept = judged(sample, decided.get(sample.region.id), keep)
            if isinstance(kept, str):
                left_out[kept] += 1
            else:
                files.add(kept, split.of(sample.region.image_id))
            if progress:
                progress(done, max(done, total))
        counts = files.counts()
    if not counts:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in left_out.most_common()) or "the run has no samples yet"
        raise ValueError(f"Nothing is left to export from {run.folder}: {reasons}.")
    return counts, left_out


class _Images:
    """Puts images into the folder, each once."""

    def __init__(self, run: Curation, folder: Path, mode: ImageMode) -> None:
        self._run, self._folder, self._mode = run, folder / layout.IMAGES, mode
        self._done: set[str] = set()

    def put(self, region: Region, name: str, split: Split) -> str:
        """The image of a region; how its row names it.

        Raises:
            FileNotFoundError: If it is gone.
            ValueError: If its path leaves the folder of its source.
        """
        inside = PurePosixPath(region.image)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"The image of region {region.id} is outside the folder of its source: {region.image}.")
        if self._mode == "none":
            return region.image
        path = f"{layout.image_folder(name, split)}/{inside}"
        if path not in self._done:
            self._place(self._run.image(region), self._folder / path)
            self._done.add(path)
        return path

    def _place(self, image: Path, to: Path) -> None:
        if not image.is_file():
            raise FileNotFoundError(f"The image {image} is gone: put it back, or export with `--images none`.")
        to.parent.mkdir(parents=True, exist_ok=True)
        if self._mode == "copy":
            shutil.copyfile(image, to)
            return
        try:
            os.link(image.resolve(), to)
        except OSError:  # another disk, or one without hard links
            to.symlink_to(image.resolve())


class _Rows:
    """Rows of one Parquet file, written a row group at a time."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.name, self.count, self.image_ids = file.name, 0, set[str]()
        self._schema, self._waiting = schema, list[dict[str, Any]]()
        self._writer = pq.ParquetWriter(file, schema)

    def add(self, row: dict[str, Any]) -> None:
        self.count += 1
        self._waiting.append(row)
        if len(self._waiting) == _GROUP:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._waiting, self._schema))
        self._waiting.clear()


class _Files:
    """The Parquet files of a set; each is begun with its first row."""

    def __init__(self, folder: Path, names: dict[str, str], images: _Images) -> None:
        self._folder, self._names, self._images = folder, names, images
        self._files: dict[tuple[str, Split], _Rows] = {}
        self._provenance = _Rows(folder / layout.PROVENANCE, layout.PROVENANCE_SCHEMA)

    def add(self, kept: Kept, split: Split) -> None:
        """Writes a sample."""
        region = kept.sample.region
        name = self._names[region.source]
        if (region.source, split) not in self._files:
            file = self._folder / layout.parquet_name(name, split)
            self._files[region.source, split] = _Rows(file, layout.SCHEMAS[split])
        rows = self._files[region.source, split]
        rows.add(layout.row(kept.sample, split, self._images.put(region, name, split)))
        rows.image_ids.add(region.image_id)
        self._provenance.add(layout.provenance(kept.sample, rows.name, rows.count, kept.reviewers, kept.edited))

    def counts(self) -> dict[str, dict[Split, Counted]]:
        """What was written, by source and split, in a fixed order."""
        return {
            source: {
                split: Counted(len(rows.image_ids), rows.count)
                for split in SPLITS
                if (rows := self._files.get((source, split)))
            }
            for source in sorted({source for source, _ in self._files})
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rows in (self._provenance, *self._files.values()):
            rows.close()
