"""Which tasks `virtue eval` measures, by its options; what lacks a folder is said before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from virtue.evaluation.results import Setting
    from virtue.evaluation.tasks import Task

Shown = Literal["box", "point", "mask", "none"]
Distractors = Literal["published", "image", "others"]
Ranking = Literal["own", "global"]

BENCHMARKS = ("scenes", "scar", "mmeb", "own")
_NEEDED = {
    "scar": "--scar FOLDER with SCaR's Parquet files, and --images FOLDER with its pictures",
    "mmeb": "--mmeb FOLDER with MMEB's tasks, and --images FOLDER with its pictures",
    "own": "--own FILE with your queries and candidates",
}

_NOT_DISTURBED = ("scenes/region-to-image", "scenes/region-to-image-global")
"""Their queries are pointed at as the captions' are; once is enough."""


@dataclass(frozen=True)
class Sources:
    """The options that say what is measured.

    Attributes:
        benchmarks: Of `BENCHMARKS`.
        scar: Folder of SCaR's files.
        mmeb: Folder of MMEB's tasks.
        images: Folder that image paths start from.
        own: File or folder of own data.
        shown: How scenes point at a region.
        count: Number of scenes.
        seed: Of the first scene, and of drawn distractors.
        distractors: SCaR's wrong captions.
        ranking: What MMEB's queries are ranked against.
        limit: Queries of a task at most, of SCaR and MMEB.
        instruction: Whether SCaR's queries say what is asked in words too.

    Raises:
        ValueError: If a benchmark is unknown or lacks its folder.
    """

    benchmarks: tuple[str, ...]
    scar: Path | None
    mmeb: Path | None
    images: Path | None
    own: Path | None
    shown: Shown
    count: int
    seed: int
    distractors: Distractors
    ranking: Ranking
    limit: int | None
    instruction: bool = True

    def __post_init__(self) -> None:
        """Refuses what cannot be measured."""
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"There is no benchmark {name!r}; --tasks takes {', '.join(BENCHMARKS)}.")
            pictures = self.images if name in ("scar", "mmeb") else True
            if name in _NEEDED and (getattr(self, name) is None or pictures is None):
                raise ValueError(f"--tasks {name} needs {_NEEDED[name]}.")

    def tasks(self) -> Iterator[Task]:
        """All tasks, each read when it is its turn; folders and files are looked at now.

        Raises:
            FileNotFoundError: If a folder lacks what it should hold.
            ValueError: If a file does not follow its format.
        """
        found = [self._of(name) for name in self.benchmarks]
        return (task for tasks in found for task in tasks)

    def for_curves(self) -> Iterator[Task]:
        """The tasks of pointed-at regions: scene captions, by masks, of which all else follows; SCaR; own data."""
        found = [self._of(name, shown="mask") for name in self.benchmarks if name != "mmeb"]
        return (task for tasks in found for task in tasks if task.name not in _NOT_DISTURBED and _points(task))

    def of_whole_pictures(self) -> list[Task]:
        """Tasks of scenes that point at nothing, on which it shows where points of whole pictures come from."""
        from virtue.evaluation.robustness.sampling import turned_round

        if "scenes" not in self.benchmarks:
            return []
        named = {task.name: task for task in _scenes(self.count, self.seed, "none")}
        texts = named["scenes/text-to-image"]
        return [texts, turned_round(texts), named["scenes/region-to-caption"]]

    def settings(self) -> dict[str, Setting]:
        """The options that these benchmarks go by, for the results."""
        settings: dict[str, Setting] = {"tasks": ",".join(self.benchmarks)}
        if "scenes" in self.benchmarks:
            settings |= {"shown": self.shown, "count": self.count, "seed": self.seed}
        if "scar" in self.benchmarks:
            settings |= {
                "distractors": self.distractors,
                "limit": self.limit,
                "seed": self.seed,
                "instruction": self.instruction,
            }
        if "mmeb" in self.benchmarks:
            settings |= {"ranking": self.ranking, "limit": self.limit}
        return settings

    def _of(self, name: str, *, shown: Shown | None = None) -> Iterable[Task]:
        if name == "scenes":
            return _scenes(self.count, self.seed, shown or self.shown)
        if name == "own":
            from virtue.evaluation.benchmarks.own import own_task

            assert self.own is not None
            return [own_task(self.own, self.images)]
        assert self.images is not None
        if name == "scar":
            from virtue.evaluation.benchmarks.scar import scar_tasks

            assert self.scar is not None
            return scar_tasks(
                self.scar,
                self.images,
                distractors=self.distractors,
                instruction=self.instruction,
                limit=self.limit,
                seed=self.seed,
            )
        from virtue.evaluation.benchmarks.mmeb import mmeb_tasks

        assert self.mmeb is not None
        return mmeb_tasks(self.mmeb, self.images, ranking=self.ranking, limit=self.limit)


@cache
def _scenes(count: int, seed: int, shown: Shown) -> list[Task]:
    """The tasks of the drawn world, the same for every strategy: they hold no pixels, and take a while to draw."""
    from virtue.evaluation.benchmarks.scene_tasks import scene_tasks

    return scene_tasks(count, seed, shown=shown)


def _points(task: Task) -> bool:
    """Whether all its queries point at something."""
    return all(item.prompt is not None for item in task.queries)
