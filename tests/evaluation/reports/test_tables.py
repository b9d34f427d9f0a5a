import io

import pytest
from rich.console import Console

from tests.evaluation.reports.made_results import curve, results, task
from virtue.evaluation.benchmarks.mmeb import mmeb_table
from virtue.evaluation.benchmarks.scar import SETS
from virtue.evaluation.reports.tables import Sheet, percent, report, sheets
from virtue.evaluation.results import Interval
from virtue.evaluation.tasks import NotMeasured

NAN = float("nan")
SCAR = [task(f"scar/{name}", [1.0, 0.0]) for name in SETS]


def test_percent_has_one_decimal_and_the_interval_where_it_is_known() -> None:
    assert percent(Interval(0.8237, 0.801, 0.8466)) == "82.4 [80.1, 84.7]"
    assert percent(Interval(0.8237, NAN, NAN)) == "82.4"
    assert percent(0.1) == "10.0"
    assert percent(None) == "–"  # noqa: RUF001


def test_a_table_as_markdown() -> None:
    sheet = Sheet("A title", ("task", "hit@1"), (("a|b", "1.0"),), ("A note.",))
    assert sheet.to_markdown() == "### A title\n\n| task | hit@1 |\n| --- | ---: |\n| a\\|b | 1.0 |\n\nA note."


def test_a_table_in_a_terminal_takes_no_name_for_markup() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Sheet("[bold]", ("task", "hit@1"), (("[red]", "80.0 [70.0, 90.0]"),), ("See [1].",)).to_rich())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(words in shown for words in ("[bold]", "[red]", "80.0 [70.0, 90.0]", "See [1]."))


def test_scar_has_its_kinds_of_swap_and_both_overalls() -> None:
    by = {"swap": {"object": Interval(0.9, 0.8, 1.0), "relation": Interval(0.6, 0.5, 0.7), "scene": Interval(1, 1, 1)}}
    bigger = task("scar/ADE20K", [1.0, 1.0, 1.0, 1.0, 0.0, 1.0], by=by, guesser=0.3)
    others = [one for one in SCAR if one.name != "scar/ADE20K"]
    (sheet,) = sheets(results(bigger, *others))
    assert sheet.header == ("set", "queries", "hit@1", "object", "relation", "scene", "guesser", "chance")
    name, queries, _, *swaps, guesser, chance = sheet.rows[0]
    assert (name, queries, guesser, chance) == ("ADE20K", "6", "30.0", "10.0")
    assert swaps == ["90.0 [80.0, 100.0]", "60.0 [50.0, 70.0]", "100.0 [100.0, 100.0]"]
    assert sheet.rows[-2][:2] == ("mean of sets", "14")
    assert sheet.rows[-2][2].startswith("56.7 [")  # (5/6 + 4 * 1/2) / 5
    assert sheet.rows[-1][2].startswith("64.3 [")  # 9 / 14


def test_a_partial_set_is_said_loudly_and_there_is_no_overall() -> None:
    part = task("scar/ADE20K", [1.0, 0.0], missing={"beyond the limit": 1200, "with no captions": 0})
    (sheet,) = sheets(results(part, *[one for one in SCAR if one.name != part.name]))
    assert [row[0] for row in sheet.rows] == list(SETS)
    assert "PARTIAL: scar/ADE20K is not whole, left out are 1,200 beyond the limit." in sheet.notes
    assert "No overall is given, because it takes all five sets: some are partial." in sheet.notes


def test_sets_that_are_not_there_are_named() -> None:
    (sheet,) = sheets(results(*SCAR[:4]))
    assert f"No overall is given, because it takes all five sets: there is no {list(SETS)[4]}." in sheet.notes


def test_other_distractors_are_another_benchmark() -> None:
    found = sheets(results(*SCAR, *[task(f"scar-image/{name}", [1.0, 1.0]) for name in SETS]))
    assert [sheet.title for sheet in found] == ["SCaR", "SCaR, distractors: image"]
    assert found[1].rows[-1][2].startswith("100.0")


def test_mmeb_has_its_means() -> None:
    table = mmeb_table()
    tasks = [task(f"mmeb/{name}", [float(entry.split == "ind")]) for name, entry in table.items()]
    each, means = sheets(results(*tasks))
    assert each.rows[0][:3] == ("ImageNet-1K", "classification", "ind")
    assert means.header == ("mean over", "tasks", "hit@1")
    assert means.rows == (  # one query each, so that no interval is known
        ("Classification", "10", "50.0"),
        ("VQA", "10", "60.0"),
        ("Retrieval", "12", "66.7"),
        ("Grounding", "4", "25.0"),
        ("IND", "20", "100.0"),
        ("OOD", "16", "0.0"),
        ("Overall", "36", "55.6"),
    )
    assert means.notes == ()


def test_means_of_mmeb_have_intervals_that_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = results(*[task(f"mmeb/{name}", [1.0, 0.0]) for name in mmeb_table()])
    means = sheets(run)[1]
    assert all(row[2].startswith("50.0 [") for row in means.rows)
    monkeypatch.setattr("virtue.evaluation.results.bootstrap_of_choices", lambda *args: pytest.fail("drawn again"))
    assert sheets(run)[1] == means


def test_mmeb_has_no_mean_that_a_task_is_missing_from() -> None:
    names = list(mmeb_table())
    tasks = [task(f"mmeb/{name}", [1.0]) for name in names[:-1]]  # the last is of grounding
    tasks[0] = task(f"mmeb/{names[0]}", [1.0], missing={"queries beyond the limit": 9})  # the first of classification
    each, means = sheets(results(*tasks))
    assert [row[2] for row in means.rows] == ["–", "100.0", "100.0", "–", "–", "–", "–"]  # noqa: RUF001
    assert means.notes == ("No mean is given of which a task is not there, or is partial.",)
    assert each.notes[0].startswith("PARTIAL: mmeb/ImageNet-1K")


def test_no_mean_is_made_of_what_was_not_measured() -> None:
    *names, last = mmeb_table()  # the last is of grounding
    lost = NotMeasured(f"mmeb/{last}", "it has no queries: left out were 5 with a missing image")
    each, means = sheets(results(*[task(f"mmeb/{name}", [1.0]) for name in names], not_measured=[lost]))
    assert each.notes == (
        f"NOT MEASURED: mmeb/{last}, because it has no queries: left out were 5 with a missing image.",
    )
    assert [row[0] for row in means.rows if row[2] == "–"] == ["Grounding", "OOD", "Overall"]  # noqa: RUF001


@pytest.mark.parametrize("name", ["scar/ADE20K", "mmeb/OVEN", "region-to-image/ADE20K"])
def test_a_benchmark_of_which_nothing_was_measured_says_so(name: str) -> None:
    found = sheets(results(task("scenes/a", [1.0]), not_measured=[NotMeasured(name, "it has no queries")]))
    notes = [note for sheet in found for note in sheet.notes]
    assert f"NOT MEASURED: {name}, because it has no queries." in notes


def test_what_a_definition_leaves_out_does_not_make_a_run_partial() -> None:
    part = task("scar/ADE20K", [1.0, 0.0], excluded={"whose image has no other caption": 7})
    (sheet,) = sheets(results(part, *[one for one in SCAR if one.name != part.name]))
    assert "Not asked in scar/ADE20K, by its definition: 7 whose image has no other caption." in sheet.notes
    assert sheet.rows[-2][0] == "mean of sets"


def test_other_tasks_have_their_metrics_and_tags() -> None:
    made = task(
        "scenes/region-to-caption",
        [1.0, 0.0],
        by={"swap": {"object": Interval(1, 1, 1)}, "size": {"small": Interval(0, 0, 0)}},
        metrics={"hit@1": Interval(0.5, 0.4, 0.6), "mrr": Interval(0.7, 0, 1), "hit@5": Interval(0.9, 0, 1)},
        guesser=0.12,
    )
    main, further, swap, size = sheets(results(made, task("scenes/text-to-image", [1.0])))
    assert main.header == ("task", "queries", "candidates", "hit@1", "MRR", "guesser", "chance")
    assert main.rows[0] == ("region-to-caption", "2", "20", "50.0 [40.0, 60.0]", "70.0", "12.0", "10.0")
    assert further.rows == (("region-to-caption", "90.0"), ("text-to-image", "–"))  # noqa: RUF001
    assert (swap.title, swap.rows) == ("scenes, hit@1 by swap", (("object", "100.0 [100.0, 100.0]"),))
    assert (size.header, size.rows) == (("size", "region-to-caption"), (("small", "0.0 [0.0, 0.0]"),))


def test_curves_are_tables_too() -> None:
    *_, sheet = sheets(results(task("scenes/region-to-caption", [1.0]), curves=[curve()]))
    assert sheet.title == "scenes/region-to-caption, hit@1 by severity"
    assert sheet.header == ("disturbance", "step 1", "step 2", "step 3")
    assert sheet.rows == (("box jittered, share of the side", "0 %: 80.0", "10 %: 70.0", "20 %: 60.0"),)


def test_a_report_says_how_to_get_the_figures_again() -> None:
    text = report(results(task("own/mine", [1.0])))
    assert text.startswith("# nano, prompt\n")
    for line in ("- fingerprint: f00d", "- batch size: 32", "- versions: torch 2.13.0", "- digest of own/mine: d1"):
        assert line in text
    assert "limit" not in text  # was not set
    assert "| mine | 1 | 10 | 100.0 [90.0, 110.0] | 100.0 | 10.0 |" in text


@pytest.mark.parametrize("name", ["plain", "own/deep/er"])
def test_names_of_any_form_are_shown(name: str) -> None:
    assert sheets(results(task(name, [1.0])))[0].rows[0][0] == name.removeprefix("own/")
