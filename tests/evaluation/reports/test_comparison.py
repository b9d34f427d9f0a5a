import pytest

from tests.evaluation.reports.made_results import results, task
from virtue.evaluation.benchmarks.mmeb import mmeb_table
from virtue.evaluation.benchmarks.scar import SETS
from virtue.evaluation.reports.comparison import compare, comparison_sheets, holm, run_names
from virtue.evaluation.reports.tables import Sheet
from virtue.evaluation.results import Results
from virtue.evaluation.tasks import NotMeasured

WRONG, RIGHT = [0.0] * 40, [1.0] * 40
HALF = [0.0, 1.0] * 20


def tables(*runs: Results) -> list[Sheet]:
    return comparison_sheets(runs, compare(runs))


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 become 3, 2 and 1 times as much; the last may not fall below the one before."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_runs_of_one_name_are_numbered() -> None:
    runs = [results(strategy="prompt"), results(strategy="none"), results(strategy="prompt")]
    assert run_names(runs) == ["nano, prompt", "nano, none", "nano, prompt (2)"]


def test_runs_of_one_name_are_called_by_the_settings_that_differ() -> None:
    box, point, twin = (results(settings={"shown": shown, "count": 9}) for shown in ("box", "point", "point"))
    unlike = results(settings={"shown": "mask"}, strategy="crop")
    scar = results(settings={"limit": None, "robustness": True})  # nothing was shown of scenes
    assert run_names([box, scar]) == ["nano, prompt", "nano, prompt (2)"]
    assert run_names([box, point, twin, unlike]) == [
        "nano, prompt, shown box",
        "nano, prompt, shown point",
        "nano, prompt, shown point (2)",
        "nano, crop",
    ]


def test_a_difference_beyond_noise_is_marked_by_its_sign() -> None:
    first = results(task("scenes/a", WRONG), task("scenes/b", RIGHT), task("scenes/c", HALF))
    other = results(task("scenes/a", RIGHT), task("scenes/b", WRONG), task("scenes/c", HALF[::-1]), strategy="none")
    found = {one.task: one for one in compare([first, other])}
    assert [found[f"scenes/{name}"].mark for name in "abc"] == ["▲", "▼", ""]
    assert found["scenes/a"].difference is not None
    assert found["scenes/a"].difference.mean == 1.0
    by_task, differences = tables(first, other)
    assert by_task.rows[0] == ("scenes/a", "0.0 [-10.0, 10.0]", "100.0 [90.0, 110.0] ▲")
    assert "than nano, prompt beyond noise" in by_task.notes[0]
    assert differences.title == "nano, none: hit@1 less that of nano, prompt"
    assert differences.rows[0][:3] == ("scenes/a", "+100.0", "[+100.0, +100.0]")


def test_what_one_task_would_show_many_need_not() -> None:
    """8 wins out of 8 have p = 2 / 2**8 = 0.0078, and among ten tasks 0.078."""
    few = [0.0] * 8
    for count, mark in ((1, "▲"), (10, "")):
        first = [task(f"t/{number}", few) for number in range(count)]
        other = [task("t/0", [1.0] * 8), *first[1:]]
        assert compare([results(*first), results(*other)])[0].mark == mark


def test_other_queries_are_shown_and_not_compared() -> None:
    runs = [results(task("scenes/a", WRONG)), results(task("scenes/a", RIGHT, digest="d2"), strategy="none")]
    (by_task,) = tables(*runs)
    assert by_task.rows == (("scenes/a", "0.0 [-10.0, 10.0]", "100.0 [90.0, 110.0]"),)
    assert by_task.notes[-1] == (
        "scenes/a of nano, none is not compared: its queries, candidates or lists are not those of nano, prompt."
    )


def test_the_same_questions_are_compared_however_regions_are_shown() -> None:
    box = results(task("scenes/a", WRONG, asked="a1", manner="box"), settings={"shown": "box"})
    point = results(task("scenes/a", RIGHT, digest="d2", asked="a1", manner="point"), settings={"shown": "point"})
    other = results(task("scenes/a", RIGHT, digest="d3", asked="a2", manner="box"), strategy="none")
    by_task, *_ = tables(box, point, other)
    assert by_task.rows == (("scenes/a", "0.0 [-10.0, 10.0]", "100.0 [90.0, 110.0] ▲", "100.0 [90.0, 110.0]"),)
    assert by_task.notes[-2:] == (
        "nano, prompt, shown point was asked the same as nano, prompt, shown box in another way, point instead of box: "
        "scenes/a.",
        "scenes/a of nano, none is not compared: its queries, candidates or lists are not those of nano, prompt, shown "
        "box.",
    )


def test_other_words_of_an_instruction_are_another_way_too() -> None:
    first = results(task("scar/a", WRONG, asked="a1", manner="box, with an instruction"))
    other = results(task("scar/a", WRONG, digest="d2", asked="a1", manner="box, with an instruction"), strategy="none")
    assert [one.otherwise for one in compare([first, other])] == ["other visual prompts or another instruction"]
    assert [one.otherwise for one in compare([first, first])] == [""]


def test_results_of_before_have_no_digest_of_what_is_asked() -> None:
    old = [results(task("scar/a", WRONG, digest=digest, asked="")) for digest in ("d1", "d2")]
    assert compare(old)[0].difference is None


def test_what_was_not_measured_is_said() -> None:
    lost = NotMeasured("mmeb/OVEN", "it has no queries: left out were 5 with a missing image")
    by_task, *_ = tables(results(task("mmeb/CIRR", WRONG), not_measured=[lost]))
    assert "NOT MEASURED: mmeb/OVEN, because it has no queries: left out were 5 with a missing image." in by_task.notes


def test_tasks_that_a_run_lacks_are_dashes() -> None:
    by_task = tables(results(task("a/a", WRONG)), results(task("a/b", RIGHT), strategy="none"))[0]
    assert [row[0] for row in by_task.rows] == ["a/a", "a/b"]
    assert by_task.rows[0][2] == "–"  # noqa: RUF001


def test_scar_stands_beside_the_paper() -> None:
    run = results(*[task(f"scar/{name}", [1.0, 0.0]) for name in SETS])
    _, sheet = tables(run)
    assert sheet.title == "SCaR, five sets, hit@1 beside the paper"
    assert sheet.header[1:] == ("RefCOCO_plus", "RefCOCOg", "VisualGenome", "COCO_Stuff", "ADE20K", "Overall")
    assert sheet.rows[0] == ("nano, prompt", *["50.0"] * 6)
    assert ("paper: VIRTUE-7B + SCaR-train", "63.2", "66.1", "48.2", "52.2", "54.9", "56.9") in sheet.rows
    assert "arXiv 2510.00523" in sheet.notes[0]


def test_sets_that_are_not_whole_do_not_stand_beside_the_paper() -> None:
    part = task("scar/ADE20K", [1.0], missing={"beyond the limit": 5})
    _, sheet = tables(results(part, task("scar/RefCOCOg", [1.0])))
    assert sheet.rows[0] == ("nano, prompt", "–", "100.0", "–", "–", "–", "–")  # noqa: RUF001


@pytest.mark.parametrize(("ranking", "count"), [("own", 2), ("global", 1)])
def test_mmeb_stands_beside_the_paper_if_it_was_ranked_as_there(ranking: str, count: int) -> None:
    run = results(*[task(f"mmeb/{name}", [1.0]) for name in mmeb_table()], settings={"ranking": ranking})
    found = tables(run)
    assert len(found) == count
    if count == 2:
        assert found[1].rows[0] == ("nano, prompt", *["100.0"] * 7)
