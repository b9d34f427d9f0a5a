import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.data.files import write_lines, write_parquet
from virtue.training.sources import open_part, open_source

SCAR = {"qry": "Find it.", "qry_image_path": "a.jpg", "pos_text": "a dog", "bbox": [1.0, 2.0, 3.0, 4.0]}
MMEB = {"qry": "What?", "qry_image_path": "a.jpg", "pos_text": "a dog", "pos_image_path": ""}


def test_every_kind_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scar = write_parquet(tmp_path / "SCAR_X.parquet", [SCAR])
    mmeb = write_parquet(tmp_path / "A/original-0.parquet", [MMEB])
    write_parquet(tmp_path / "A/diverse_instruction-0.parquet", [MMEB, MMEB])
    pairs = write_lines(tmp_path / "pairs.jsonl", [{"query": "a", "positive": "b"}])
    module = ModuleType("datasets")
    module.load_dataset = lambda name, split: Fake(f"{name}/{split}")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    eval_row = {"qry_text": "Find it.", "qry_image_path": "a.jpg", "tgt_text": ["a", "b"], "bbox": [1.0, 2.0, 3.0, 4.0]}
    scar_eval = write_parquet(tmp_path / "SCaR_eval_X.parquet", [eval_row])
    specs: list[dict[str, Any]] = [
        {"kind": "scar", "path": str(scar), "images": str(tmp_path)},
        {"kind": "scar-eval", "path": str(scar_eval), "images": str(tmp_path)},
        {"kind": "mmeb", "path": str(mmeb), "images": tmp_path},
        {"kind": "mmeb", "path": str(tmp_path / "A"), "images": tmp_path, "split": "diverse_instruction"},
        {"kind": "mmeb", "path": [mmeb, mmeb], "images": tmp_path},
        {"kind": "pairs", "path": str(pairs), "images": tmp_path},
        {"kind": "datasets", "name": "me/it", "split": "dev", "columns": {"q": "query", "a": "positive"}},
        {"kind": "scenes", "count": "4", "size": ["64", 96]},
    ]
    sources = [open_source(spec) for spec in specs]
    assert [(source.name, len(source)) for source in sources] == [
        ("SCAR_X", 1),
        ("SCaR_eval_X", 1),
        ("A/original-0", 1),
        ("A", 2),
        ("A/original-0", 2),
        ("pairs", 1),
        ("me/it", 1),
        ("scenes train", 4),
    ]
    assert sources[0][0].query.image == tmp_path / "a.jpg"
    assert sources[6][0].query.text == "me/it/dev"
    assert sources[7][0].query.image.size == (64, 96)  # type: ignore[union-attr]


class Fake:
    column_names = ("q", "a")

    def __init__(self, text: str) -> None:
        self.text = text

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, str]:
        return {"q": self.text, "a": "yes"}


def test_a_part_takes_weight_and_cap_as_numbers_or_text(tmp_path: Path) -> None:
    pairs = write_lines(tmp_path / "pairs.jsonl", [{"query": "a", "positive": "b"}] * 5)
    spec = {"kind": "pairs", "path": pairs, "weight": "2.5", "cap": "3"}
    part = open_part(spec)
    assert (part.weight, part.cap, part.rows, part.source.name) == (2.5, 3, 3, "pairs")
    assert "weight" in spec  # what was given is left alone
    plain = open_part({"kind": "pairs", "path": pairs})
    assert (plain.weight, plain.cap, plain.rows) == (None, None, 5)
    with pytest.raises(ValueError, match="weight must be a number, got 'much'"):
        open_part(spec | {"weight": "much"})
    with pytest.raises(ValueError, match=r"cap must be a whole number, got 2\.5"):
        open_part(spec | {"cap": 2.5})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, r"^A source needs a kind; there are scar, scar-eval, mmeb, pairs, datasets, scenes\.$"),
        ({"kind": "csv"}, r"^There is no kind of source 'csv'; there are scar, scar-eval, mmeb, pairs, datasets"),
        ({"kind": "scar", "file": "x"}, r"^A source of kind 'scar' has no 'file'; it takes path, images\.$"),
        ({"kind": "scar", "path": "x"}, r"^A source of kind 'scar' needs 'images'; it takes path, images\.$"),
        ({"kind": "scenes", "count": "many"}, "^count must be a whole number, got 'many'"),
        ({"kind": "scenes", "count": True}, "^count must be a whole number, got True"),
        ({"kind": "scenes", "count": 1, "size": 64}, r"^size must be \[width, height\], got 64"),
        ({"kind": "scenes", "count": 1, "size": [64, 6.5]}, r"^size must be a whole number, got 6\.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(spec)


@pytest.mark.parametrize(
    ("kind", "help_"),
    [("scar", "data set Sony/SCaR-Train"), ("mmeb", "data set TIGER-Lab/MMEB-train"), ("pairs", r"virtue\.data\.own")],
)
def test_missing_files_and_folders_are_named_with_where_to_get_them(tmp_path: Path, kind: str, help_: str) -> None:
    file = write_parquet(tmp_path / "x.parquet", [SCAR])
    with pytest.raises(FileNotFoundError, match=rf"There is no file .*none\.parquet\. .*{help_}"):
        open_source({"kind": kind, "path": tmp_path / "none.parquet", "images": tmp_path})
    with pytest.raises(FileNotFoundError, match=rf"There is no folder .*none\. .*{help_}"):
        open_source({"kind": kind, "path": file, "images": tmp_path / "none"})
