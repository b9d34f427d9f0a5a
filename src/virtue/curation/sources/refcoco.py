"""RefCOCO+ and RefCOCOg: objects of COCO that people described so that others could find them.

`refs(unc).p` (RefCOCO+) or `refs(umd).p` (RefCOCOg) is a pickle of a list of `{"ref_id", "ann_id", "image_id",
"category_id", "split", "sentences": [{"sent", "raw", "tokens", "sent_id"}]}`, beside COCO's `instances.json`, which has
the boxes, the polygons and the categories. A pickle is a program, so it is read by `plain_pickle`. A ref's `file_name`
is that of no file, since the annotation's id stands behind it; `instances.json` has the image's own.

Of an object's sentences the caption is the one with the most words, since a caption has to say object, relation and
scene; the first one where there are several.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from virtue.curation.sources.coco import Captions, CocoFile, read_annotations
from virtue.curation.sources.json_entries import lists
from virtue.curation.sources.plain_pickle import load_plain
from virtue.curation.sources.source import MIN_SHARE, Contents, Picture, Source

NO_ANNOTATION = "that refer to no annotation"

_TESTS = ("testA", "testB")  # of people, and of other things


class RefCoco(Source):
    """Objects with referring expressions.

    Args:
        name: "RefCOCOg" or "RefCOCO_plus".
        images: The folder of COCO's images.
        refs: The pickle.
        instances: COCO's annotations beside it.
        captions: Captions of whole images (`captions_train2014.json`), or None.
        split: Only the refs of this split, such as "val"; "test" stands for testA and testB; None for all.
        min_share: As `Source`.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a file is not what it should be, or there is no such split.
    """

    def __init__(
        self,
        name: str,
        images: str | Path,
        *,
        refs: str | Path,
        instances: str | Path,
        captions: str | Path | None = None,
        split: str | None = None,
        min_share: float = MIN_SHARE,
    ) -> None:
        super().__init__(name, images, min_share=min_share)
        self._sentences = _sentences(refs, split)
        self._coco = CocoFile(instances)
        self._captions = Captions(captions)

    def pictures(self) -> Sequence[Picture]:
        """The images that refs are about, in the order of the refs; see `Source.pictures`."""
        return [Picture(f"COCO/{key}", key) for key in self._sentences]

    def contents(self, picture: Picture) -> Contents:
        """What stands in an image; what no ref is about is one of the others. See `Source.contents`."""
        sentences = self._sentences[picture.key]
        image = self._coco.images.get(picture.key)
        if image is None:
            self.leave_out(NO_ANNOTATION, len(sentences))
            return Contents("", None, ())
        size = self._coco.size(picture.key)
        things = [
            replace(thing, caption=sentences.get(thing.id) or None, is_region=thing.id in sentences)
            for thing in read_annotations(self._coco.annotations.of(picture.key), self._coco)
        ]
        self.leave_out(NO_ANNOTATION, len(sentences.keys() - {thing.id for thing in things}))
        return Contents(image["file_name"], size, things, self._captions.of(picture.key))


def _sentences(refs: str | Path, split: str | None) -> dict[Hashable, dict[str, str]]:
    """The caption of each annotation that is referred to, by image, in the order of the refs."""
    entries = load_plain(refs)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{refs} is not a list of refs as RefCOCO+ and RefCOCOg have it.")
    splits = sorted({_text(entry, "split") for entry in entries} - {""})
    wanted = {own for own in splits if split in (None, own) or (split == "test" and own in _TESTS)}
    if split is not None and not wanted:
        raise ValueError(f"{refs} has no split {split!r}; it has {', '.join(splits)}.")
    found: dict[Hashable, dict[str, list[str]]] = {}
    for entry in entries:
        if split is None or _text(entry, "split") in wanted:
            said = found.setdefault(_number(entry, "image_id", refs), {})
            said.setdefault(str(_number(entry, "ann_id", refs)), []).extend(_texts(entry))
    return {
        image: {thing: max(texts, key=lambda text: len(text.split()), default="") for thing, texts in things.items()}
        for image, things in found.items()
    }


def _text(entry: Mapping[str, Any], field: str) -> str:
    value = entry.get(field)
    return value if isinstance(value, str) else ""


def _texts(entry: Mapping[str, Any]) -> list[str]:
    sentences = [sentence for sentence in lists(entry.get("sentences")) if isinstance(sentence, dict)]
    texts = [sentence.get("sent") or sentence.get("raw") for sentence in sentences]
    return [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]


def _number(entry: Mapping[str, Any], field: str, refs: str | Path) -> int:
    value = entry.get(field)
    if not isinstance(value, int):
        # What stands there is not shown: lists that hold each other are small in a pickle and without end in words.
        raise ValueError(f"{refs} has a ref without a number as {field}.")
    return value
