"""Which tasks `virtue eval` measures, by its options; what lacks a folder is said before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from virtue.evaluation.results import Setting
    from virtue.evaluation.tasks import NotMeasured, Task

Shown = Literal["box", "point", "mask", "none"]
Distractors = Literal["published", "image", "others"]
Ranking = Literal["own", "global"]

BENCHMARKS = ("scenes", "scar", "region-to-image", "mmeb", "own")
_SOURCE = {"scar": "scar", "region-to-image": "scar", "mmeb": "mmeb", "own": "own"}
"""The option that says where a benchmark's data are."""

_NEEDED = {
    "scar": "--scar FOLDER with SCaR's Parquet files, and --images or --scar-images FOLDER with its pictures",
    "mmeb": "--mmeb FOLDER with MMEB's tasks, and --images or --mmeb-images FOLDER with its pictures",
    "own": "--own FILE with your queries and candidates",
}

_READERS = {
    "scar": ("scar", "region-to-image"),
    "mmeb": ("mmeb",),
    "own": ("own",),
    "images": ("scar", "region-to-image", "mmeb", "own"),
    "scar_images": ("scar", "region-to-image"),
    "mmeb_images": ("mmeb",),
    "shown": ("scenes",),
    "count": ("scenes",),
    "distractors": ("scar",),
    "instruction": ("scar",),
    "ranking": ("mmeb",),
    "limit": ("scar", "region-to-image", "mmeb"),
}
"""The benchmarks that go by an option."""

_DISTURBED = ("scenes", "scar", "own")
_NOT_DISTURBED = ("scenes/region-to-image", "scenes/region-to-image-global")
"""Regions to images are pointed at as those to captions are; once is enough."""


@dataclass(frozen=True)
class Sources:
    """The options that say what is measured.

    Attributes:
        benchmarks: Of `BENCHMARKS`, or one set of one, such as "scar/ADE20K".
        scar: Folder of SCaR's files.
        mmeb: Folder of MMEB's tasks.
        images: Folder that image paths start from.
        scar_images: The same for SCaR's; by default `images`.
        mmeb_images: The same for MMEB's; by default `images`.
        own: File or folder of own data.
        shown: How scenes point at a region.
        count: Number of scenes.
        seed: Of the first scene, and of drawn distractors.
        distractors: SCaR's wrong captions.
        ranking: What MMEB's queries are ranked against.
        limit: Queries of a task at most, of SCaR and MMEB.
        instruction: Whether SCaR's queries say what is asked in words too; None counts as yes.

    Raises:
        ValueError: If a benchmark is unknown or lacks its folder.
    """

    benchmarks: tuple[str, ...]
    scar: Path | None = None
    mmeb: Path | None = None
    images: Path | None = None
    scar_images: Path | None = None
    mmeb_images: Path | None = None
    own: Path | None = None
    shown: Shown = "box"
    count: int = 1000
    seed: int = 0
    distractors: Distractors = "published"
    ranking: Ranking = "own"
    limit: int | None = None
    instruction: bool | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be measured."""
        for name in self.sets:
            if name not in BENCHMARKS:
                raise ValueError(f"There is no benchmark {name!r}; --tasks takes {', '.join(BENCHMARKS)}.")
            option = _SOURCE.get(name)
            lacks_images = option in ("scar", "mmeb") and self._images_of(option) is None
            if option is not None and (getattr(self, option) is None or lacks_images):
                raise ValueError(f"--tasks {name} needs {_NEEDED[option]}.")

    def check_options(self, *, robustness: bool = False) -> None:
        """Refuses options that nothing goes by.

        Args:
            robustness: Whether curves are drawn too, which go by the seed.

        Raises:
            ValueError: If there is one; names it, and what would go by it.
        """
        defaults = {field.name: field.default for field in fields(self)}
        readers = dict(_READERS)
        if not robustness:
            real = self.distractors != "published"
            readers["seed"] = ("scenes", "region-to-image", *(["scar"] if real else []))
        for option, names in readers.items():
            if getattr(self, option) != defaults[option] and self.sets.keys().isdisjoint(names):
                raise ValueError(
                    f"--{option.replace('_', '-')} is given, but nothing that is measured goes by it: name "
                    f"{' or '.join(names)} in --tasks too, or leave it out."
                )

    @property
    def sets(self) -> dict[str, list[str] | None]:
        """By benchmark which of its sets are named; None for all it has."""
        found: dict[str, list[str] | None] = {}
        for name in self.benchmarks:
            benchmark, _, own = name.partition("/")
            known = found.setdefault(benchmark, [])
            if not own:
                found[benchmark] = None
            elif known is not None:
                known.append(own)
        return found

    @property
    def has_regions(self) -> bool:
        """Whether any benchmark has tasks that `for_curves` gives."""
        return not self.sets.keys().isdisjoint(_DISTURBED)

    def tasks(self) -> Iterator[Task | NotMeasured]:
        """All tasks, each read when it is its turn; folders and files are looked at now.

        Raises:
            FileNotFoundError: If a folder lacks what it should hold.
            ValueError: If a file does not follow its format.
        """
        found = [self._of(name) for name in self.sets]
        return (task for tasks in found for task in tasks)

    def for_curves(self) -> Iterator[Task]:
        """The tasks of pointed-at regions: scene captions, by masks, of which all else follows; SCaR; own data."""
        from virtue.evaluation.tasks import Task

        found = [self._of(name, shown="mask") for name in self.sets if name in _DISTURBED]
        there = (task for tasks in found for task in tasks if isinstance(task, Task))
        return (task for task in there if task.name not in _NOT_DISTURBED and _points(task))

    def of_whole_pictures(self) -> list[Task]:
        """Tasks of scenes that point at nothing, on which it shows where points of whole pictures come from."""
        from virtue.evaluation.robustness.sampling import turned_round

        if "scenes" not in self.sets:
            return []
        named = {task.name: task for task in _scenes(self.count, self.seed, "none")}
        texts = named["scenes/text-to-image"]
        return [texts, turned_round(texts), named["scenes/region-to-caption"]]

    def settings(self) -> dict[str, Setting]:
        """The options that these benchmarks go by, for the results."""
        settings: dict[str, Setting] = {"tasks": ",".join(self.benchmarks)}
        if "scenes" in self.sets:
            settings |= {"shown": self.shown, "count": self.count, "seed": self.seed}
        if "region-to-image" in self.sets:
            settings |= {"limit": self.limit, "seed": self.seed}
        if "scar" in self.sets:
            settings |= {
                "distractors": self.distractors,
                "limit": self.limit,
                "seed": self.seed,
                "instruction": self.instruction is not False,
            }
        if "mmeb" in self.sets:
            settings |= {"ranking": self.ranking, "limit": self.limit}
        return settings

    def _images_of(self, source: str) -> Path | None:
        """Where the images of "scar" or "mmeb" are."""
        own: Path | None = getattr(self, f"{source}_images")
        return self.images if own is None else own

    def _of(self, name: str, *, shown: Shown | None = None) -> Iterable[Task | NotMeasured]:
        sets = self.sets[name]
        if name == "scenes":
            return _named(_scenes(self.count, self.seed, shown or self.shown), name, sets)
        if name == "own":
            from virtue.evaluation.benchmarks.own import own_task

            assert self.own is not None
            return _named([own_task(self.own, self.images)], name, sets)
        if name == "mmeb":
            from virtue.evaluation.benchmarks.mmeb import mmeb_tasks

            images = self._images_of("mmeb")
            assert self.mmeb is not None and images is not None
            return mmeb_tasks(self.mmeb, images, tasks=sets, ranking=self.ranking, limit=self.limit)
        if name == "scar":
            return self._scar(sets, self.distractors)
        published = self._scar(sets, "published")  # only these tell what a caption is about
        return (task for one in published for task in self._photographs(one))

    def _photographs(self, published: Task | NotMeasured) -> Sequence[Task | NotMeasured]:
        """Region to image of a set of SCaR, as far as something is left of it."""
        from virtue.evaluation.benchmarks.region_to_image import photographs_name, region_to_image_from_scar
        from virtue.evaluation.tasks import EmptyTaskError, NotMeasured

        if isinstance(published, NotMeasured):
            return [NotMeasured(photographs_name(published.name), published.reason)]
        try:
            return region_to_image_from_scar(published, seed=self.seed)
        except EmptyTaskError as error:
            return [error.not_measured()]

    def _scar(self, sets: list[str] | None, distractors: Distractors) -> Iterator[Task | NotMeasured]:
        from virtue.evaluation.benchmarks.scar import scar_tasks

        images = self._images_of("scar")
        assert self.scar is not None and images is not None
        return scar_tasks(
            self.scar,
            images,
            sets=sets,
            distractors=distractors,
            instruction=self.instruction is not False,
            limit=self.limit,
            seed=self.seed,
        )


@cache
def _scenes(count: int, seed: int, shown: Shown) -> list[Task]:
    """The tasks of the drawn world, the same for every strategy: they hold no pixels, and take a while to draw."""
    from virtue.evaluation.benchmarks.scene_tasks import scene_tasks

    return scene_tasks(count, seed, shown=shown)


def _named(tasks: list[Task], benchmark: str, sets: list[str] | None) -> list[Task]:
    """Those of a benchmark's tasks that are named.

    Raises:
        ValueError: If it has no such task.
    """
    found = {task.name.partition("/")[2]: task for task in tasks}
    for name in sets or ():
        if name not in found:
            raise ValueError(f"{benchmark} has no task {name!r}; it has {', '.join(found)}.")
    return tasks if sets is None else [found[name] for name in sets]


def _points(task: Task) -> bool:
    """Whether all its queries point at something."""
    return all(item.prompt is not None for item in task.queries)
