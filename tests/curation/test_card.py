import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.curation.made import region, sample
from virtue.curation.export import export
from virtue.curation.licences import LICENCES, identifier_of, licence_of, non_commercial
from virtue.curation.samples import Elements, Problem
from virtue.curation.store import Curation

LOAD = """
import sys
from datasets import load_dataset
folder, cache = sys.argv[1:]
for name in ("eval", "train", "provenance"):
    for part, rows in load_dataset(folder, name, cache_dir=cache).items():
        columns = (f"{column}={kind.__class__.__name__}" for column, kind in rows.features.items())
        print(name, part, len(rows), ",".join(columns))
print(load_dataset(folder, cache_dir=cache)["my_set"][0]["tgt_text"][0])
"""


@pytest.fixture
def run(tmp_path: Path) -> Curation:
    """Six samples of two sources, two regions that were dropped, one that is new."""
    run = Curation(tmp_path / "run", make=True)
    run.settle({"seed": 0, "writer": "gpt-test", "instructions": "distractors.v1 1a2b"})
    run.set_images({"ADE20K": tmp_path, "my-set": tmp_path})
    for number in range(9):
        one = region(number, "ADE20K" if number < 4 else "my-set")
        run.add_regions([one])
        if number < 6:
            run.put_sample(sample(one, attempts=1 + number % 2))
        elif number < 8:
            problems = [[Problem("synonym", "A boat is a ship.", 1)], [Problem("synonym", "A boat is a ship.", 1)]]
            run.drop(one.id, "synonym", "A boat is a ship.", problems)
    run.count("ADE20K, left out", {"tiny": 7, "crowd": 2})
    run.put_answer("key", '{"model": "gpt-test-2026"}')
    run.add_totals({"answers": 14, "tokens_in": 12000, "money": 0.0275})
    return run


@pytest.fixture
def card(run: Curation, tmp_path: Path) -> Callable[..., str]:
    def written(**options: object) -> str:
        settings: dict[str, object] = {"eval_images": ["ADE20K/image-0", "my-set/image-4"], "images": "none"}
        export(run, tmp_path / "out", **({"baseline": False} | settings | options))  # type: ignore[arg-type]
        return (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    return written


def part(text: str, title: str) -> str:
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_counts_stand_in_the_form_of_the_papers_table(card: Callable[..., str]) -> None:
    lines = part(card(), "Contents").strip().splitlines()
    assert lines[0] == "| source | train images | train annotations | eval images | eval annotations |"
    assert lines[2:5] == ["| ADE20K | 3 | 3 | 1 | 1 |", "| my-set | 1 | 1 | 1 | 1 |", "| total | 4 | 4 | 2 | 2 |"]


def test_the_making_is_told_with_drop_rates_and_cost(card: Callable[..., str]) -> None:
    text = part(card(), "How it was made")
    for line in (
        "| writer | gpt-test |",
        "| instructions | distractors.v1 1a2b |",
        "Regions that are still waiting: 1.",
        "Of 8 regions 6 became samples and 2 were dropped:",
        "| synonym | 2 | 25.0% | 4 |",
        "Attempts at the distractors of a sample: 1: 3, 2: 3.",
        "ADE20K, left out: tiny: 7, crowd: 2.",
        "Answers by LLM, as the endpoint calls it: gpt-test-2026: 1.",
        "Used: 14 answers, 0.0275 money, 12,000 tokens_in.",
    ):
        assert line in text


def test_settings_that_are_left_open_and_what_is_not_known_are_told(run: Curation, card: Callable[..., str]) -> None:
    run.record({"per_image": None, "limit of scenes": 2000, "temperature": "the endpoint's"})
    run.add_totals({"answers_estimated": 3, "unpriced_in": 500, "unpriced_out": 20})
    text = part(card(), "How it was made")
    for line in ("| per_image | none |", "| limit of scenes | 2,000 |", "| temperature | the endpoint's |"):
        assert line in text
    assert "Used: 14 answers, 0.0275 money, 12,000 tokens_in." in text
    assert "The endpoint did not say what 3 of the answers took; that is estimated." in text
    assert "The money leaves out commands that gave no prices." in text


def test_the_baseline_is_that_of_the_design_and_the_other_guesser_stands_beside_it(
    run: Curation, card: Callable[..., str]
) -> None:
    text = card(baseline=True)
    words = part(text, "What the words alone give away")
    # Six lists of ten: chance 0.1, and two standard errors of six guesses are 2 * sqrt(0.1 * 0.9 / 6) = 0.245
    assert "scores each caption by itself, as an embedding model does. It finds the true one in **" in words
    assert "of 6 samples; chance is 10.0%, and up to 34.5% counts as near it." in words
    assert "Beside it, one that compares the ten: " in words
    assert "- The true caption is the centre of its ten" in part(text, "Known limits")
    run.record({"design": "corners"})
    text = card(baseline=True)
    words = part(text, "What the words alone give away")
    assert "compares the ten, two of which show by what they share that they are none. It finds" in words
    assert "chance is 12.5%, and up to 39.5% counts as near it." in words  # 0.125 + 2 * sqrt(0.125 * 0.875 / 6)
    assert "Beside it, one that scores each caption by itself: " in words
    assert "centre" not in text


def test_people_and_their_agreement_are_told(run: Curation, card: Callable[..., str]) -> None:
    assert "Nobody: no decision of a person is in the run." in card()
    for name, first, second in ((0, "accept", "accept"), (1, "reject", "reject"), (2, "accept", "reject")):
        run.decide(f"ADE20K/{name}", "ann", first, reason="wording" if first == "reject" else "")  # type: ignore[arg-type]
        run.decide(f"ADE20K/{name}", "bob", second, reason="wording" if second == "reject" else "")  # type: ignore[arg-type]
    run.decide("my-set/4", "ann", "accept")
    text = card()
    told = part(text, "Who looked at it")
    assert "Decisions of 2 people: accept: 4, reject: 3." in told
    assert "kept: 2, disputed: 1, rejected: 1." in told
    assert "Rejected for: wording: 3." in told
    # They agree on 2 of 3; by chance on 2/3 * 1/3 + 1/3 * 2/3 = 4/9; (2/3 - 4/9) / (1 - 4/9) = 0.4
    assert "They agree in 66.7% of these; Cohen's kappa is 0.40." in told
    assert "Every sample was accepted by a person." in text
    assert "Not exported: not reviewed: 2, disputed by people: 1, rejected by people: 1." in text


def test_words_are_shown_with_bars(run: Curation, tmp_path: Path, card: Callable[..., str]) -> None:
    cow = Elements("cow", "near a fence", "on a beach")
    run.add_regions([region(20, "ADE20K")])
    run.put_sample(sample(region(20, "ADE20K"), elements=cow, caption=cow.caption()))
    text = part(card(), "Distributions")
    assert "**Objects** of true captions, 2 different:" in text
    assert f"dog  {'#' * 30}  6\ncow  {'#' * 5:<30}  1\n" in text
    assert "True captions: 7.9 words in the mean" in text  # six of 8 words, one of 7


def test_licences_of_sources_are_told_and_own_ones_asked_for(card: Callable[..., str]) -> None:
    text = part(card(), "Licences")
    assert "non-commercial research and education only" in text
    assert "| my-set | not known here: say it | not known here: say it |  |" in text
    assert "No commercial use, by the terms of ADE20K." in text


def test_the_licence_of_a_set_is_that_of_its_sources_where_they_have_one() -> None:
    assert identifier_of(["scenes"]) == "apache-2.0"
    assert identifier_of(["scenes", "RefCOCOg"]) == "other"
    assert non_commercial(["RefCOCOg", "ADE20K", "own"]) == ["ADE20K"]
    assert licence_of("own").page == ""
    assert {"RefCOCOg", "RefCOCO_plus", "COCO_Stuff", "VisualGenome", "ADE20K"} < set(LICENCES)


def test_the_front_matter_names_parts_and_their_sizes(card: Callable[..., str]) -> None:
    front = yaml.safe_load(card().split("---\n")[1])
    assert (front["license"], front["license_link"], front["size_categories"]) == ("other", "#licences", "n<1K")
    assert front["configs"][0] == {
        "config_name": "eval",
        "default": True,
        "data_files": [
            {"split": "ADE20K", "path": "SCaR_eval_ADE20K.parquet"},
            {"split": "my_set", "path": "SCaR_eval_my_set.parquet"},
        ],
    }
    info = front["dataset_info"][0]
    assert info["features"][2:] == [{"name": "tgt_text", "list": "string"}, {"name": "bbox", "list": "float64"}]
    assert [(one["name"], one["num_examples"]) for one in info["splits"]] == [("ADE20K", 1), ("my_set", 1)]
    assert not any(character in str(front) for character in "\u2013\u2014")


def test_datasets_loads_the_folder_without_a_network(card: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    card()
    command = [sys.executable, "-c", LOAD, str(tmp_path / "out"), str(tmp_path / "cache")]
    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Ignoring" not in done.stderr
    lines = done.stdout.splitlines()
    columns = "qry_text=Value,qry_image_path=Value,tgt_text=List,bbox=List"
    assert lines[:2] == [f"eval ADE20K 1 {columns}", f"eval my_set 1 {columns}"]
    assert [line.rsplit(" ", 1)[0] for line in lines[2:5]] == ["train ADE20K 3", "train my_set 1", "provenance rows 6"]
    assert lines[5] == "dog left of a fence on a beach"
