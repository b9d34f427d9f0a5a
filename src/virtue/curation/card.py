"""The card of an exported set: README.md, with the front matter that `datasets` and the Hub read.

Counts, lengths and the text-only baseline are those of the files that were exported; how they were made and what people
said is the run's. Nothing in it depends on when or where it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from virtue.curation import layout
from virtue.curation.checks import Design
from virtue.curation.licences import identifier_of, licence_of, non_commercial
from virtue.curation.samples import KINDS
from virtue.curation.statistics import Making, Statistics, statistics_of_files, statistics_of_run
from virtue.curation.store import UNPRICED

if TYPE_CHECKING:
    from virtue.curation.export import Exported
    from virtue.curation.store import Curation

_CENTRE = (
    "- The true caption is the centre of its ten: a model that compares them can find it without the picture. The set "
    "is for models that score each caption by itself."
)
_COMMONEST = 12
_BAR = 30  # characters of the longest bar
_SIZES = (1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M")


def card(run: Curation, folder: Path, exported: Exported, *, baseline: bool = True) -> str:
    """Writes the card of a set.

    Args:
        run: The run that it was exported from.
        folder: Where its files are by now.
        exported: What was exported.
        baseline: Measure what the words alone give away.

    Returns:
        Markdown with YAML front matter.
    """
    found, made = statistics_of_files([folder], baseline=baseline), statistics_of_run(run, baseline=False)
    parts = [
        _head(exported, _design(made)),
        _contents(exported),
        _loading(exported),
        _making(made, exported),
        _people(made, exported),
        _wording(found, _design(made)),
        _distributions(found, _words(folder)),
        _licences(list(exported.counts)),
        _limits(made),
    ]
    text = "\n\n".join("\n".join(part) for part in parts)
    return f"---\n{_front_matter(folder, exported)}---\n\n{text}\n"


# Front matter


def _front_matter(folder: Path, exported: Exported) -> str:
    """What `datasets` and the Hub read, as YAML."""
    from huggingface_hub import DatasetCardData

    sources = list(exported.counts)
    licence = identifier_of(sources)
    data = DatasetCardData(
        pretty_name="A SCaR set: regions of images and ten captions, one of them true",
        language="en",
        license=licence,
        license_name="those-of-the-sources" if licence == "other" else None,
        license_link="#licences" if licence == "other" else None,
        size_categories=next((word for most, word in _SIZES if exported.rows < most), "n>1M"),
        source_datasets=[f"extended|other-{source}" for source in sources],
        task_categories=["image-to-text"],
        tags=["retrieval", "embedding", "visual-prompt", "SCaR"],
        configs=list(_configs(exported)),
        dataset_info=list(_infos(folder, exported)),
    )
    return str(data.to_yaml()).rstrip("\n") + "\n"


def _files(exported: Exported) -> dict[layout.Split, dict[str, str]]:
    """The files of each split, by source as `datasets` can call it.

    Columns differ between splits, so each is a configuration of its own and its sources are what `datasets` calls
    splits.
    """
    names = layout.safe_names(exported.counts)
    found: dict[layout.Split, dict[str, str]] = {}
    for split in layout.SPLITS:
        sources = [source for source, counts in exported.counts.items() if split in counts]
        if sources:
            found[split] = {names[one]: layout.parquet_name(names[one], split) for one in sources}
    return found


def _configs(exported: Exported) -> Iterable[dict[str, Any]]:
    for place, (split, files) in enumerate(_files(exported).items()):
        parts = [{"split": part, "path": file} for part, file in files.items()]
        yield {"config_name": split, **({} if place else {"default": True}), "data_files": parts}
    parts = [{"split": "rows", "path": layout.PROVENANCE}]
    yield {"config_name": "provenance", "data_files": parts}


def _infos(folder: Path, exported: Exported) -> Iterable[dict[str, Any]]:
    """Features, and rows and bytes of each part."""
    for split, files in _files(exported).items():
        parts = []
        for part, file in files.items():
            metadata = pq.read_metadata(folder / file)
            size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
            parts.append({"name": part, "num_bytes": size, "num_examples": metadata.num_rows})
        yield {
            "config_name": split,
            "features": [_feature(field) for field in layout.SCHEMAS[split]],
            "splits": parts,
            "download_size": sum((folder / file).stat().st_size for file in files.values()),
            "dataset_size": sum(int(part["num_bytes"]) for part in parts),
        }


def _feature(field: Any) -> dict[str, str]:
    names = {"string": "string", "double": "float64"}
    if str(field.type) in names:
        return {"name": field.name, "dtype": names[str(field.type)]}
    return {"name": field.name, "list": names[str(field.type.value_type)]}


# Parts


def _head(exported: Exported, design: Design) -> list[str]:
    kept = {
        "accepted": "Every sample was accepted by a person.",
        "unless-rejected": "Samples that people rejected or dispute are left out; not every one was looked at.",
        "all": "Samples passed the checks below; people did not choose among them.",
    }
    swaps = "three with another object, three with another relation, three with another scene."
    if design != "single":
        swaps += " Some differ in the other two as well, so that the true one is not the middle of the ten."
    return [
        "# A SCaR set",
        "",
        f"Each row is a region of an image, as a box, one caption that is true of it and nine that are not: {swaps}",
        "",
        kept[exported.keep],
        "",
        "The layout is that of SCaR, the benchmark of "
        "[VIRTUE](https://arxiv.org/abs/2510.00523). This set is not part of it.",
    ]


def _contents(exported: Exported) -> list[str]:
    """Counts in the form of the paper's table."""
    columns = [
        [getattr(counts[split], what) if split in counts else 0 for counts in exported.counts.values()]
        for split in ("train", "eval")
        for what in ("images", "rows")
    ]
    rows = [*zip(exported.counts, *columns, strict=True), ("total", *map(sum, columns))]
    names = ("source", "train images", "train annotations", "eval images", "eval annotations")
    lines = ["## Contents", "", *_table(names, [(source, *(f"{n:,}" for n in numbers)) for source, *numbers in rows])]
    both = all(any(split in counts for counts in exported.counts.values()) for split in layout.SPLITS)
    return [*lines, *(["", "No image is in both splits, not even through two sources."] if both else [])]


def _loading(exported: Exported) -> list[str]:
    files = _files(exported)
    split, parts = next(iter(files.items()))
    lines = ["## Files", ""]
    lines += [
        f"- `{file}`: configuration `{config}`, split `{part}`"
        for config, listed in files.items()
        for part, file in listed.items()
    ]
    lines += [f"- `{layout.PROVENANCE}`: of every row its region, its elements, what was swapped, writer and reviewers"]
    if exported.images == "none":
        lines += ["- Images are not included: paths start from the folder of each source's images."]
    else:
        lines += [f"- `{layout.IMAGES}/`: the images; paths in rows start there"]
    lines += ["", "```python", "from datasets import load_dataset", ""]
    lines += [f'rows = load_dataset("DIR", "{split}", split="{next(iter(parts))}")', "```", ""]
    if "eval" in files:
        where = "DIR" if exported.images != "none" else "IMAGES"
        lines += ["```bash", f"virtue eval --tasks scar --scar DIR --images {where}", "```", ""]
    return [
        *lines,
        "Boxes (`bbox`) are x, y, width, height in source pixels. The first text of `tgt_text` is the true one.",
    ]


def _making(made: Statistics, exported: Exported) -> list[str]:
    making = made.making or Making({}, {}, {}, Counter(), Counter(), Counter(), {}, Counter())
    lines = ["## How it was made", ""]
    lines += _table(("setting", "value"), [(name, _plain(value)) for name, value in making.settings.items()])
    regions = sum(making.states.values(), Counter())
    tried = regions["written"] + regions["dropped"]
    if regions["new"]:
        lines += ["", f"Regions that are still waiting: {regions['new']:,}."]
    lines += [
        "",
        f"Of {tried:,} regions {regions['written']:,} became samples and {regions['dropped']:,} were dropped:",
        "",
    ]
    lines += _table(
        ("reason", "regions dropped", "share", "attempts with it"),
        [
            (reason, f"{making.dropped[reason]:,}", _share(making.dropped[reason], tried), f"{attempts:,}")
            for reason, attempts in _both(making.dropped, making.problems)
        ],
    )
    lines += ["", f"Attempts at the distractors of a sample: {_counted(making.attempts)}."]
    for scope, reasons in making.left_out.items():
        if reasons:
            lines += ["", f"{scope}: {_counted(reasons)}."]
    if making.models:
        lines += ["", f"Answers by LLM, as the endpoint calls it: {_counted(making.models)}."]
    if making.totals:
        lines += ["", *_used(making.totals)]
    if exported.left_out:
        lines += ["", f"Not exported: {_counted(exported.left_out)}."]
    return lines


def _people(made: Statistics, exported: Exported) -> list[str]:
    lines, people = ["## Who looked at it", ""], made.people
    if people is None:
        return [*lines, "Nobody: no decision of a person is in the run."]
    verdicts = sum((Counter(own) for own in people.reviewers.values()), Counter())
    lines += [f"Decisions of {len(people.reviewers):,} people: {_counted(verdicts)}."]
    lines += ["", f"What they come to, in samples: {_counted(people.states)}."]
    if people.reasons:
        lines += ["", f"Rejected for: {_counted(people.reasons)}."]
    kappa = people.kappa
    said = f"{kappa.samples:,} times two people saw the same sample. They agree in {kappa.observed:.1%} of these; "
    lines += ["", kappa.note or f"{said}Cohen's kappa is {kappa.value:.2f}."]
    if exported.keep == "all":
        lines += ["", "The export was asked not to go by them."]
    return lines


def _used(totals: Mapping[str, float]) -> list[str]:
    """What the LLM took, and what of that is not known."""
    shown = {name: n for name, n in totals.items() if name not in (*UNPRICED, "answers_estimated")}
    lines = [f"Used: {', '.join(f'{_plain(n)} {name}' for name, n in shown.items())}."]
    if estimated := totals.get("answers_estimated"):
        lines += [f"The endpoint did not say what {estimated:,.0f} of the answers took; that is estimated."]
    if "money" in totals and any(totals.get(name) for name in UNPRICED):
        lines += ["The money leaves out commands that gave no prices."]
    return lines


def _wording(found: Statistics, design: Design) -> list[str]:
    """The text-only baseline, and beside it the guesser that is not the baseline of the design."""
    lines = ["## What the words alone give away", ""]
    measured = found.wording.of(design) if found.wording is not None else None
    if measured is None or measured.alone is None or measured.comparing is None:
        why = "it was not asked for" if measured is None else "there are too few images to learn from"
        return [*lines, f"Not measured: {why}."]
    how = {
        "single": "scores each caption by itself, as an embedding model does",
        "corners": "compares the ten, two of which show by what they share that they are none",
    }[design]
    near = "near" if measured.is_near else "above, so the wording gives true captions away"
    lines += [
        "The text-only baseline is a guesser that never sees a picture, has learned from other images which captions "
        f"tend to be true, and {how}. It finds the true one in **{measured.baseline:.1%}** of {measured.samples:,} "
        f"samples; chance is {measured.chance:.1%}, and up to {measured.chance + measured.noise:.1%} counts as near "
        f"it. This is {near}.",
        "",
    ]
    if design == "corners":
        return [*lines, f"Beside it, one that scores each caption by itself: {measured.alone:.1%}."]
    return [
        *lines,
        f"Beside it, one that compares the ten: {measured.comparing:.1%}; taking the one that shares most words with "
        f"the others: {measured.commonest:.1%}. Each wrong caption changes one element of the true one, so the true "
        "one is their centre by construction. A model that embeds each caption by itself cannot see that; for one that "
        "reads them together, these figures and not an even guess are what to beat.",
    ]


def _distributions(found: Statistics, words: Mapping[str, Counter[str]]) -> list[str]:
    lines = ["## Distributions", ""]
    for name, spread in (("True captions", found.true_lengths), ("Wrong captions", found.false_lengths)):
        if spread is not None:
            lines += [
                f"{name}: {spread.mean:.1f} words in the mean, nine tenths have {spread.low} to {spread.high}, "
                f"the longest {spread.most}.  ",
            ]
    lines += [f"Swaps, as far as the words show them: {_counted(found.swaps)}."]
    for name, counted in words.items():
        lines += ["", f"**{name.capitalize()}s** of true captions, {len(counted):,} different:", "", "```"]
        lines += [*_bars(counted.most_common(_COMMONEST)), "```"]
    return lines


def _licences(sources: Sequence[str]) -> list[str]:
    rows = []
    for source in sources:
        licence = licence_of(source)
        page = f"[page]({licence.page})" if licence.page else ""
        rows.append((source, licence.images, licence.annotations, page))
    lines = ["## Licences", "", "The set carries on the terms of its sources, here as published: check before use.", ""]
    lines += _table(("source", "images", "annotations", ""), rows)
    if refusing := non_commercial(sources):
        lines += ["", f"No commercial use, by the terms of {' and '.join(refusing)}."]
    return lines


def _limits(made: Statistics) -> list[str]:
    settings = made.making.settings if made.making else {}
    lines = ["## Known limits", ""]
    if settings.get("writer", "rules") == "rules":
        lines += ["- Captions were put together by rules from annotations: their language is plain and repeats itself."]
    else:
        lines += [
            "- Captions were written by a language model: it errs, has its own turns of phrase, and a model of its "
            "kind may find them easier than others do.",
        ]
    lines += [
        "- A wrong caption can be true of the region after all; the checks and people find many of these, not all.",
        "- What annotations leave out is not known to be absent from the image.",
        *([_CENTRE] if _design(made) == "single" else []),
        "- Boxes and masks are as good as those of the sources.",
        "- English only.",
    ]
    return lines


# Pieces


def _design(made: Statistics) -> Design:
    return "corners" if made.making and made.making.settings.get("design") == "corners" else "single"


def _words(folder: Path) -> dict[str, Counter[str]]:
    """How often each object, relation and scene is said by the true captions of the files."""
    table = pq.read_table(folder / layout.PROVENANCE, columns=list(KINDS))
    found: dict[str, Counter[str]] = {}
    for kind in KINDS:
        counted = pc.value_counts(pc.utf8_lower(table[kind]))
        found[kind] = Counter({entry["values"].as_py(): entry["counts"].as_py() for entry in counted})
    return found


def _both(dropped: Counter[str], problems: Counter[str]) -> list[tuple[str, int]]:
    """Reasons with the attempts that met them, what dropped most regions first."""
    reasons = sorted({*dropped, *problems}, key=lambda reason: (-dropped[reason], -problems[reason], reason))
    return [(reason, problems[reason]) for reason in reasons]


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _bars(counted: Sequence[tuple[str, int]]) -> list[str]:
    """Words with bars as long as they are common."""
    width = min(max((len(word) for word, _ in counted), default=0), 40)
    most = max((n for _, n in counted), default=1)
    return [f"{word[:width]:<{width}}  {'#' * max(1, round(_BAR * n / most)):<{_BAR}}  {n:,}" for word, n in counted]


def _counted(counter: Mapping[Any, int]) -> str:
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return ", ".join(f"{name}: {n:,}" for name, n in ordered) or "none"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
