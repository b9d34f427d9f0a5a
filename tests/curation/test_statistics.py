import json
import math
from collections import Counter
from pathlib import Path

import pytest

from tests.curation.made import region, sample
from tests.curation.published import TEN, eval_row, train_row, write
from virtue.curation import statistics
from virtue.curation.samples import Problem
from virtue.curation.sampling import split_of
from virtue.curation.statistics import Count, Spread, statistics_of_files, statistics_of_run, swap_shown
from virtue.curation.store import Curation
from virtue.curation.wording import Wording


def test_lengths_by_hand() -> None:
    assert Spread.of(Counter()) is None
    assert Spread.of(Counter({3: 1, 5: 2, 9: 1})) == Spread(mean=5.5, low=3, median=5, high=9, most=9)
    assert Spread.of(Counter({1: 5, 2: 90, 3: 5})) == Spread(mean=2.0, low=2, median=2, high=2, most=3)


@pytest.mark.parametrize(
    ("false", "kind"),
    [
        ("a cat left of a fence on a beach", "object"),
        ("dog above the fence on a beach", "relation"),
        ("dog left of a fence in a kitchen", "scene"),
        ("a cat above a boat in a kitchen", "unclear"),
        ("the dog left of a fence on a beach", "unclear"),
        ("Dog left of a fence, on a beach.", "unclear"),
        ("dog left of a fence, in a kitchen.", "scene"),
    ],
)
def test_what_was_swapped_shows_where_captions_differ(false: str, kind: str) -> None:
    assert swap_shown("dog left of a fence on a beach", false) == kind


def test_published_files_are_counted_in_the_form_of_the_papers_table(tmp_path: Path) -> None:
    write(tmp_path / "SCAR_ADE20K.parquet", *(train_row(f"ade20k_train/{name}.png") for name in (1, 1, 2)))
    write(tmp_path / "SCaR_eval_ADE20K.parquet", eval_row("ade20k_val/3.png"))
    write(tmp_path / "SCaR_eval_VisualGenome.parquet", *(eval_row(f"visualgenome_val/{name}.png") for name in (1, 2)))
    found = statistics_of_files([tmp_path], baseline=False)
    assert found.table() == [("ADE20K", 2, 3, 1, 1), ("VisualGenome", 0, 0, 2, 2), ("total", 2, 3, 3, 3)]
    assert found.swaps == {"object": 18, "relation": 18, "scene": 18}
    assert found.true_lengths == Spread(8.0, 8, 8, 8, 8)
    assert found.words["category"].commonest == (("dog", 3),)
    assert found.making is None and found.people is None and found.wording is None


@pytest.mark.parametrize(
    ("noted", "design"),
    [('{"design": "corners"}', "corners"), ('{"design": "single"}', "single"), ('{"design": "spiral"}', None),
     ("[]", None), ("{", None), (None, None)],
)  # fmt: skip
def test_the_baseline_of_files_is_that_of_the_design_that_their_export_names(
    tmp_path: Path, noted: str | None, design: str | None
) -> None:
    write(tmp_path / "SCaR_eval_made.parquet", *(eval_row(f"{number}.png") for number in range(4)))
    if noted is not None:
        (tmp_path / "export.json").write_text(noted)
    found = statistics_of_files([tmp_path])
    assert found.design == design
    assert found.wording is not None and found.wording.design == (design or "single")
    assert found.wording.chance == (0.125 if design == "corners" else 0.1)


def test_files_of_two_designs_are_taken_as_single_swaps(tmp_path: Path) -> None:
    for name in ("single", "corners"):
        write(tmp_path / name / "SCaR_eval_made.parquet", eval_row("1.png"), eval_row("2.png"))
        (tmp_path / name / "export.json").write_text(json.dumps({"design": name}))
    found = statistics_of_files([tmp_path / "single", tmp_path / "corners"])
    assert found.design is None and found.wording is not None and found.wording.design == "single"


def test_one_file_and_other_names_are_counted_too(tmp_path: Path) -> None:
    found = statistics_of_files([write(tmp_path / "mine.parquet", eval_row("1.png"))], baseline=False)
    assert found.counts == {"mine": {"eval": Count(1, 1)}}


@pytest.fixture
def run(tmp_path: Path):
    with Curation(tmp_path / "run", make=True) as curation:
        curation.settle({"seed": 3, "design": "single"})
        curation.add_regions(region(number, image_id=f"made/{number // 2}") for number in range(8))
        curation.count("made", {"tiny": 4})
        for number in range(6):
            curation.put_sample(sample(region(number, image_id=f"made/{number // 2}"), attempts=1 + number % 2))
        curation.drop("made/6", "picked", "it was", [[Problem("picked", "it was", 0)]])
        curation.put_answer("key", "answer", {"answers": 1, "tokens_in": 900})
        yield curation


def test_a_run_is_counted_as_an_export_would_split_it(run: Curation) -> None:
    found = statistics_of_run(run, eval_share=0.5, baseline=False)
    splits = Counter(split_of(f"made/{number}", 0.5, 3) for number in range(3))
    assert found.counts == {"made": {split: Count(images, 2 * images) for split, images in sorted(splits.items())}}
    assert found.table()[-1][1] + found.table()[-1][3] == 3
    assert found.words["relation"].commonest == (("left of a fence", 6),)
    assert found.swaps == {"object": 18, "relation": 18, "scene": 18}


def test_a_run_says_how_it_was_made(run: Curation) -> None:
    made = statistics_of_run(run.folder, baseline=False).making
    assert made is not None
    assert made.settings == {"seed": 3, "design": "single"}
    assert made.states == {"made": {"written": 6, "dropped": 1, "new": 1}}
    assert made.left_out == {"made": {"tiny": 4}}
    assert made.dropped == made.problems == {"picked": 1}
    assert made.attempts == {1: 3, 2: 3}
    assert made.totals == {"answers": 1, "tokens_in": 900}


def test_people_are_counted_where_they_looked(run: Curation) -> None:
    assert statistics_of_run(run, baseline=False).people is None
    run.decide("made/0", "ann", "accept")
    run.decide("made/0", "bob", "reject", reason="wording")
    found = statistics_of_run(run, baseline=False)
    assert found.people is not None
    assert found.people.reviewers == {"ann": {"accept": 1}, "bob": {"reject": 1}}
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(written["people"]["pairs"]) == ["ann and bob"]
    assert written["counts"] == {} and written["left_out"] == {"not reviewed": 5, "disputed by people": 1}


def test_a_run_counts_what_an_export_would_hold(run: Curation) -> None:
    captions = run.sample("made/1").captions
    run.decide("made/0", "ann", "accept")
    run.decide("made/1", "ann", "edit", captions=["wolf left of a fence on a beach", *captions[1:]])
    run.decide("made/2", "ann", "reject", reason="wording")
    run.decide("made/3", "ann", "accept")
    run.decide("made/3", "bob", "reject", reason="wording")
    found = statistics_of_run(run, eval_share=0)
    assert found.table()[-1] == ("total", 1, 2, 0, 0)  # both are of one photograph
    assert found.left_out == {"rejected by people": 1, "disputed by people": 1, "not reviewed": 2}
    assert sorted(found.words["object"].commonest) == [("dog", 1), ("wolf", 1)]
    assert found.swaps == {"object": 6, "relation": 6, "scene": 6}
    assert found.wording is not None and found.wording.samples == 2
    assert found.making is not None and found.making.attempts == {1: 3, 2: 3}  # of all that were written
    assert found.to_json()["left_out"] == {"rejected by people": 1, "disputed by people": 1, "not reviewed": 2}


def test_another_seed_is_another_split(run: Curation) -> None:
    for seed in (3, 4, 5):
        found = statistics_of_run(run, eval_share=0.5, seed=seed, baseline=False)
        splits = Counter(split_of(f"made/{number}", 0.5, seed) for number in range(3))
        assert {split: count.images for split, count in found.counts["made"].items()} == splits


def test_the_baseline_is_measured_unless_it_is_not_wanted(run: Curation, tmp_path: Path) -> None:
    of_run = statistics_of_run(run).wording
    assert of_run is not None and of_run.samples == 6 and math.isclose(of_run.chance, 0.1)
    rows = [eval_row(f"{number}.png", tgt_text=TEN) for number in range(4)]
    of_files = statistics_of_files([write(tmp_path / "SCaR_eval_a.parquet", *rows)]).wording
    assert of_files is not None and of_files.samples == 4


def test_the_baseline_reads_a_fair_part_of_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(statistics, "MEASURED", 20)
    measure = statistics.wording_of_captions

    def noting(lists: list[list[str]], images: list[str]) -> Wording:
        read.extend(images)
        return measure(lists, images)

    monkeypatch.setattr(statistics, "wording_of_captions", noting)
    for source in ("A", "B"):
        rows = [eval_row(f"{number}.png") for number in range(100)]
        write(tmp_path / f"SCaR_eval_{source}.parquet", *rows)
    statistics_of_files([tmp_path])
    counted = Counter(image.partition("/")[0] for image in read)
    assert len(set(read)) == 20 and min(counted["A"], counted["B"]) >= 5
