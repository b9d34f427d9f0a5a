"""Samples for Label Studio and decisions from it, for teams that review there.

A task shows the picture with its region as a rectangle and the ten captions in an order that does not tell which is
the true one. Annotators choose every caption that is true of the region, and may give a reason to reject or change the
words. On the way back

    a reason was given            reject, for this reason
    the words were changed        edit
    the true caption alone        accept
    the true one is not chosen    reject, "not true"
    others are chosen as well     reject, "ambiguous"
    the task was skipped          skip

A rectangle that was moved moves nothing here: "wrong box" is the reason for that. The formats are those of Label
Studio's "Task format" and "Pre-annotations" pages: rectangles in percent of the picture, from its upper left corner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from virtue.curation.decisions import Verdict
from virtue.curation.review.edits import Check, problems_of
from virtue.curation.review.reasons import REASONS, written
from virtue.curation.samples import Problem, Region, Sample
from virtue.curation.store import Curation

IMAGE_ROOT = "/data/local-files/?d="

_Said = tuple[Verdict, str, tuple[str, ...] | None]  # verdict, reason, captions of an edit


def export_tasks(curation: Curation, file: str | Path, *, image_root: str = IMAGE_ROOT) -> tuple[int, Path]:
    """Writes all samples as tasks, and beside them the labeling interface that reads them.

    Args:
        curation: The run.
        file: JSON file to write, its folder is made if missing; one that is there is replaced when the new one is
            whole.
        image_root: What the images' paths start with in Label Studio, such as the address of a folder; "{source}" in it
            stands for the region's source. The default is for a folder that Label Studio serves itself.

    Returns:
        How many tasks there are, and the file of the interface.

    Raises:
        ValueError: If the file's name does not end in .json.
    """
    path = Path(file)
    if path.suffix != ".json":
        raise ValueError(f"Label Studio reads tasks from a .json file, not from {path.name}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, count = path.with_name(path.name + ".unfinished"), 0
    with unfinished.open("w", encoding="utf-8") as out:
        out.write("[")
        for sample in curation.samples():
            out.write((",\n" if count else "\n") + json.dumps(task(sample, image_root), ensure_ascii=False))
            count += 1
        out.write("\n]\n")
    interface = path.with_suffix(".xml")
    interface.write_text(INTERFACE, encoding="utf-8")
    unfinished.replace(path)
    return count, interface


def task(sample: Sample, image_root: str = IMAGE_ROOT) -> dict[str, Any]:
    """A sample as Label Studio's JSON.

    Args:
        sample: The sample.
        image_root: What the image's path starts with.
    """
    region, captions = sample.region, _shuffled(sample)
    return {
        "data": {
            "image": image_root.replace("{source}", quote(region.source)) + quote(region.image),
            "region": region.id,
            "captions": [{"value": text} for text in captions],
            "words": "\n".join(captions),
        },
        "predictions": [{"model_version": "region", "result": [_rectangle(region)]}],
    }


def import_decisions(curation: Curation, file: str | Path, *, check: Check | None = None) -> int:
    """Reads what annotators decided. All of a file is kept or, after an error, nothing.

    Args:
        curation: The run that the tasks were written from.
        file: What Label Studio exports as "JSON".
        check: What edits have to pass, beyond being ten different captions.

    Returns:
        How many decisions were not there before.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such export.
        WrongAnnotationsError: If it is of another run, holds annotations that make no sense, or edits that do not pass.
    """
    tasks = _read(Path(file))
    wrong: list[str] = []
    new = 0
    try:
        with curation.transaction(durable=True):
            for one, annotation in _annotations(tasks):
                try:
                    new += _decide(curation, one, annotation, check)
                except ValueError as error:
                    wrong.append(str(error))
            if wrong:
                raise WrongAnnotationsError(file, wrong)
    except (AttributeError, KeyError, TypeError) as error:  # a list where an object should be, and the like
        raise ValueError(f"{file} is no export of Label Studio: {type(error).__name__}, {error}.") from error
    return new


def _decide(curation: Curation, one: Mapping[str, Any], annotation: Mapping[str, Any], check: Check | None) -> bool:
    """Keeps what an annotation of a task stands for; whether it was not there before."""
    sample = _sample(curation, one)
    key = _key(sample.region.id, annotation)
    if curation.has_decision(key):  # it passed when it was read
        return False
    verdict, reason, captions = _said(sample, one, annotation, check)
    curation.decide(
        sample.region.id,
        _reviewer(annotation.get("completed_by")),
        verdict,
        reason=reason,
        captions=captions,
        key=key,
        made=_made(annotation),
    )
    return True


def _shuffled(sample: Sample) -> list[str]:
    """All captions in an order that goes by their words."""

    def place(text: str) -> bytes:
        return hashlib.blake2b(f"{sample.region.id}\n{text}".encode(), digest_size=16).digest()

    return sorted(sample.captions, key=place)


def _rectangle(region: Region) -> dict[str, Any]:
    box, across, down = region.box, 100 / region.width, 100 / region.height
    return {
        "id": "region",
        "type": "rectanglelabels",
        "from_name": "region",
        "to_name": "image",
        "original_width": region.width,
        "original_height": region.height,
        "image_rotation": 0,
        "value": {
            "x": box.x1 * across,
            "y": box.y1 * down,
            "width": (box.x2 - box.x1) * across,
            "height": (box.y2 - box.y1) * down,
            "rotation": 0,
            "rectanglelabels": ["region"],
        },
    }


def _interface() -> str:
    reasons = "\n".join(
        f"    <Choice value={quoteattr(reason)} hint={quoteattr(meaning)}/>" for reason, meaning in REASONS.items()
    )
    return f"""<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <RectangleLabels name="region" toName="image"><Label value="region" background="#ffe100"/></RectangleLabels>
  <Header value="Which captions are true of the region? Choose every one; none if none is."/>
  <Choices name="true" toName="image" choice="multiple" value="$captions"/>
  <Header value="Should it be rejected for another reason?"/>
  <Choices name="reason" toName="image" choice="single" showInline="true">
{reasons}
  </Choices>
  <TextArea name="note" toName="image" placeholder="The reason in your own words" maxSubmissions="1"/>
  <Header value="Or changed? One caption a line, in this order, all ten of them."/>
  <TextArea name="words" toName="image" value="$words" rows="10" editable="true" maxSubmissions="1"/>
</View>
"""


INTERFACE = _interface()
"""The labeling interface, to be pasted into a project's settings."""


# The way back


class WrongAnnotationsError(ValueError):
    """Annotations that keep a file out.

    Attributes:
        lines: A sentence about each, with its task.
    """

    def __init__(self, file: str | Path, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        one = len(lines) == 1
        super().__init__(
            lines[0] if one else f"{len(lines)} annotations of {file} cannot be taken, so none was: {' '.join(lines)}"
        )


def _read(file: Path) -> list[Any]:
    try:
        tasks = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {file}.") from None
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    if not isinstance(tasks, list) or not all(isinstance(one, dict) and "annotations" in one for one in tasks):
        raise ValueError(f'{file} is no export of Label Studio with annotations: choose "JSON" there, not "JSON-MIN".')
    return tasks


def _annotations(tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each annotation with its task, those that were changed last at the end: they are the ones that count."""
    pairs = [(one, annotation) for one in tasks for annotation in one["annotations"] or ()]
    yield from sorted(pairs, key=lambda pair: str(pair[1].get("updated_at") or pair[1].get("created_at") or ""))


def _sample(curation: Curation, one: Mapping[str, Any]) -> Sample:
    region = (one.get("data") or {}).get("region")
    try:
        sample = curation.sample(str(region))
    except KeyError:
        raise ValueError(f"Task {one.get('id')} is about {region}, which has no sample in {curation.folder}.") from None
    if sorted(_shown(one)) != sorted(sample.captions):
        raise ValueError(f"Task {one.get('id')} has other captions than the sample {region} in {curation.folder}.")
    return sample


def _shown(one: Mapping[str, Any]) -> list[str]:
    """The captions of a task in the order in which they were shown."""
    return [str(choice["value"]) for choice in one["data"].get("captions") or ()]


def _said(sample: Sample, one: Mapping[str, Any], annotation: Mapping[str, Any], check: Check | None) -> _Said:
    """Verdict, reason and captions that an annotation stands for."""
    if annotation.get("was_cancelled"):
        return "skip", "", None
    said = _values(annotation)
    try:
        if reasons := said.get("reason"):
            return "reject", written(reasons[0], " ".join(said.get("note", ()))), None
        captions = _changed(sample, _shown(one), said.get("words", []))
        problems = problems_of(sample, captions, check) if captions else []
    except ValueError as error:
        raise ValueError(f"An annotation of task {one.get('id')} makes no sense: {error}") from error
    if problems:
        found = sorted((_line(problem, sample, _shown(one)), problem.message) for problem in problems)
        named = " ".join(f"Line {line}: {message}" for line, message in found)
        raise ValueError(f"An edit in task {one.get('id')} does not pass the checks: {named}")
    if captions:
        return "edit", "", captions
    chosen = set(said.get("true", ()))
    if sample.caption not in chosen:
        return "reject", "not true", None
    return ("accept", "", None) if len(chosen) == 1 else ("reject", "ambiguous", None)


def _line(problem: Problem, sample: Sample, shown: Sequence[str]) -> int:
    """The line of a task that a problem is about, from 1; the true caption's where it is about the whole sample."""
    place = 0 if problem.where is None else problem.where + 1
    return shown.index(sample.captions[place]) + 1


def _values(annotation: Mapping[str, Any]) -> dict[str, list[str]]:
    """What was chosen or written under each name of the interface."""
    found: dict[str, list[str]] = {}
    for result in annotation.get("result") or ():
        value = result.get("value") or {}
        words = value.get("choices") or value.get("text") or ()
        found.setdefault(str(result.get("from_name")), []).extend([words] if isinstance(words, str) else words)
    return found


def _changed(sample: Sample, shown: Sequence[str], words: Sequence[str]) -> tuple[str, ...] | None:
    """All captions as they were rewritten, the true one first; None where they were left as they are."""
    lines = [" ".join(line.split()) for text in words for line in text.splitlines() if line.strip()]
    if not lines or lines == [" ".join(text.split()) for text in shown]:
        return None
    if len(lines) != len(shown):
        raise ValueError(f"{len(shown)} captions were shown, and {len(lines)} lines are written.")
    now = dict(zip(shown, lines, strict=True))
    return tuple(now[text] for text in sample.captions)


def _reviewer(completed_by: object) -> str:
    """A name for whoever Label Studio says; it knows accounts by number, or by address and name."""
    if isinstance(completed_by, Mapping):
        completed_by = completed_by.get("email") or completed_by.get("username") or completed_by.get("id")
    if isinstance(completed_by, str) and completed_by.strip():
        return completed_by.strip()
    return "Label Studio" if completed_by in (None, "") else f"Label Studio {completed_by}"


def _key(region_id: str, annotation: Mapping[str, Any]) -> str:
    """The same for the same annotation in the same state, so that a file that is read twice changes nothing."""
    names = ("id", "completed_by", "updated_at", "created_at", "was_cancelled", "result")
    parts = json.dumps([region_id, *(annotation.get(name) for name in names)], sort_keys=True)
    return "label-studio-" + hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _made(annotation: Mapping[str, Any]) -> str | None:
    """When, as the store writes it; None where it is not said."""
    try:
        made = datetime.fromisoformat(str(annotation.get("updated_at") or annotation.get("created_at")))
    except ValueError:
        return None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
