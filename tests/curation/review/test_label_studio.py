"""Tasks for Label Studio, and decisions out of what it exports."""

import json
import xml.etree.ElementTree as ET

import pytest

from tests.curation.review.made_run import made_run
from virtue.curation.review.label_studio import WrongAnnotationsError, export_tasks, import_decisions
from virtue.curation.review.reasons import REASONS
from virtue.curation.samples import Problem


@pytest.fixture
def curation(tmp_path):
    return made_run(tmp_path, 2)


def exported(curation, tmp_path, **options):
    """The tasks as Label Studio would hold them after an import."""
    file = tmp_path / "tasks.json"
    export_tasks(curation, file, **options)
    return [one | {"id": number} for number, one in enumerate(json.loads(file.read_text()), 1)]


def annotation(number=1, by=7, when="2026-03-09T22:16:08.728353Z", *, cancelled=False, **said):
    """An annotation as Label Studio exports it: what was chosen and written, by name."""
    result = [
        {
            "id": f"r{name}",
            "from_name": name,
            "to_name": "image",
            "type": "textarea" if name in ("note", "words") else "choices",
            "value": {"text" if name in ("note", "words") else "choices": value},
        }
        for name, value in said.items()
    ]
    return {"id": number, "completed_by": by, "was_cancelled": cancelled, "updated_at": when, "result": result}


def imported(curation, tmp_path, tasks, **options):
    file = tmp_path / "export.json"
    file.write_text(json.dumps(tasks))
    return import_decisions(curation, file, **options)


def test_a_task_has_the_region_in_percent_and_does_not_tell_the_true_caption(curation, tmp_path):
    tasks = exported(curation, tmp_path)
    for one, sample in zip(tasks, curation.samples(), strict=True):
        shown = [choice["value"] for choice in one["data"]["captions"]]
        assert sorted(shown) == sorted(sample.captions)
        assert one["data"]["words"].split("\n") == shown
        assert one["data"]["image"] == f"/data/local-files/?d={sample.region.image}"
    result = tasks[0]["predictions"][0]["result"][0]
    # Box (4, 4, 40, 30) in 64 x 48.
    value = {"x": 6.25, "y": 100 * 4 / 48, "width": 56.25, "height": 100 * 26 / 48, "rotation": 0}
    assert result["value"].pop("rectanglelabels") == ["region"]
    assert result["value"] == pytest.approx(value)
    assert (result["original_width"], result["original_height"]) == (64, 48)
    first = {one["data"]["captions"][0]["value"] for one in tasks}
    assert first != {"dog left of a fence on a beach"}


def test_image_paths_are_quoted_and_know_their_source(tmp_path):
    curation = made_run(tmp_path, 1, image="a b/ü.png")
    (one,) = exported(curation, tmp_path, image_root="https://images.example/{source}/")
    assert one["data"]["image"] == "https://images.example/made/a%20b/%C3%BC.png"


def test_the_interface_names_what_tasks_and_decisions_use(curation, tmp_path):
    count, file = export_tasks(curation, tmp_path / "new" / "tasks.json")
    assert (count, file) == (2, tmp_path / "new" / "tasks.xml")
    view = ET.fromstring(file.read_text())
    assert {tag.get("name") for tag in view} == {"image", "region", "true", "reason", "note", "words", None}
    assert [choice.get("value") for choice in view.find("Choices[@name='reason']")] == list(REASONS)
    data = exported(curation, tmp_path)[0]["data"]
    assert {tag.get("value")[1:] for tag in view if (tag.get("value") or "").startswith("$")} <= set(data)


def test_what_annotators_chose_becomes_decisions_and_a_second_import_nothing(curation, tmp_path):
    one, two = exported(curation, tmp_path)
    truth = "dog left of a fence on a beach"
    one["annotations"] = [
        annotation(1, by=1, true=[truth]),
        annotation(2, by={"id": 2, "email": "ben@example.org"}, true=[truth, "cat left of a fence on a beach"]),
        annotation(3, by="cid", true=[]),
    ]
    two["annotations"] = [
        annotation(4, by=1, reason=["other"], note=["too dark"], true=[truth]),
        annotation(5, by=2, cancelled=True),
    ]
    assert imported(curation, tmp_path, [one, two]) == 5
    kept = [(own.region_id, own.reviewer, own.verdict, own.reason) for own in curation.decisions()]
    first, second = one["data"]["region"], two["data"]["region"]
    assert kept == [
        (first, "Label Studio 1", "accept", ""),
        (first, "ben@example.org", "reject", "ambiguous"),
        (first, "cid", "reject", "not true"),
        (second, "Label Studio 1", "reject", "other: too dark"),
        (second, "Label Studio 2", "skip", ""),
    ]
    assert curation.decisions()[0].made == "2026-03-09T22:16:08.728353+00:00"
    assert imported(curation, tmp_path, [one, two]) == 0
    assert len(curation.all_decisions()) == 5


def test_rewritten_lines_become_an_edit_in_the_order_of_the_sample(curation, tmp_path):
    one, _ = exported(curation, tmp_path)
    words = one["data"]["words"]
    one["annotations"] = [annotation(true=["dog left of a fence on a beach"], words=[words])]
    assert imported(curation, tmp_path, [one]) == 1
    assert curation.decisions()[0].verdict == "accept"
    changed = words.replace("dog left of a fence on a beach", "puppy left of a fence  on a beach")
    one["annotations"] = [annotation(when="2026-03-10T00:00:00Z", words=[changed])]
    assert imported(curation, tmp_path, [one]) == 1
    (last,) = curation.decisions()
    original = curation.sample(last.region_id).captions
    assert last.captions == ("puppy left of a fence on a beach", *original[1:])


def test_the_annotation_that_was_changed_last_counts(curation, tmp_path):
    one, _ = exported(curation, tmp_path)
    one["annotations"] = [
        annotation(2, when="2026-03-11T00:00:00Z", reason=["wording"]),
        annotation(1, when="2026-03-10T00:00:00Z", true=["dog left of a fence on a beach"]),
    ]
    imported(curation, tmp_path, [one])
    assert [own.reason for own in curation.decisions()] == ["wording"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"words": ["only\ntwo"]}, "10 captions were shown, and 2 lines are written"),
        ({"reason": ["ugly"]}, "A reason is one of not true"),
        ({"words": ["same\n" * 10]}, "task 2 does not pass the checks: Line [12]: \"same\" is there twice. Line"),
    ],
)  # fmt: skip
def test_an_annotation_that_makes_no_sense_keeps_the_whole_file_out(curation, tmp_path, said, message):
    one, two = exported(curation, tmp_path)
    one["annotations"] = [annotation(1, when="2026-01-01", true=["dog left of a fence on a beach"])]
    two["annotations"] = [annotation(2, **said)]
    with pytest.raises(ValueError, match=message):
        imported(curation, tmp_path, [one, two])
    assert curation.all_decisions() == []


def test_edits_pass_the_check_that_is_given(curation, tmp_path):
    one, _ = exported(curation, tmp_path)
    one["annotations"] = [annotation(words=[one["data"]["words"].replace("cat", "pup")])]
    with pytest.raises(ValueError, match="A pup is a dog"):
        imported(curation, tmp_path, [one], check=lambda new: [Problem("likeness", "A pup is a dog.", 0)])


def test_every_annotation_that_cannot_be_taken_is_named(curation, tmp_path):
    one, two = exported(curation, tmp_path)
    shown = [choice["value"] for choice in one["data"]["captions"]]
    cat, boat = "cat left of a fence on a beach", "boat left of a fence on a beach"
    changed = one["data"]["words"].replace("cat", "pup").replace(boat, boat.replace("beach", "shore"))
    one["annotations"] = [annotation(1, when="2026-01-01", words=[changed]), annotation(2, when="2026-01-02")]
    two["annotations"] = [annotation(3, when="2026-01-03", reason=["ugly"])]
    found = [Problem("kind", "A pup is a dog.", 0), Problem("scene", "A shore is a beach.", 1)]
    with pytest.raises(WrongAnnotationsError, match=r"2 annotations of .*export\.json cannot be taken") as error:
        imported(curation, tmp_path, [one, two], check=lambda new: found)
    lines = error.value.lines
    said = f"Line {shown.index(cat) + 1}: A pup is a dog. Line {shown.index(boat) + 1}: A shore is a beach."
    assert lines[0] == f"An edit in task 1 does not pass the checks: {said}"
    assert lines[1].startswith("An annotation of task 2 makes no sense: A reason is one of not true")
    assert curation.all_decisions() == []


def test_what_was_taken_before_is_not_checked_again(curation, tmp_path):
    one, two = exported(curation, tmp_path)
    one["annotations"] = [annotation(1, words=[one["data"]["words"].replace("cat", "pup")])]
    assert imported(curation, tmp_path, [one]) == 1
    two["annotations"] = [annotation(2)]
    assert imported(curation, tmp_path, [one, two], check=lambda new: [Problem("kind", "A pup is a dog.", 0)]) == 1


def test_tasks_of_another_run_are_refused(curation, tmp_path):
    one, two = exported(curation, tmp_path)
    one["annotations"], two["annotations"] = [annotation()], [annotation()]
    one["data"]["region"] = "made/99"
    with pytest.raises(ValueError, match="Task 1 is about made/99, which has no sample in"):
        imported(curation, tmp_path, [one])
    two["data"]["captions"][0]["value"] = "something else"
    with pytest.raises(ValueError, match="Task 2 has other captions than the sample"):
        imported(curation, tmp_path, [two])


def test_files_that_are_no_export_are_refused(curation, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        import_decisions(curation, tmp_path / "nothing.json")
    file = tmp_path / "export.json"
    for content, message in (("{", "is no JSON"), ('[{"image": "a"}]', 'choose "JSON" there, not "JSON-MIN"')):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            import_decisions(curation, file)
    with pytest.raises(ValueError, match=r"reads tasks from a \.json file, not from tasks\.csv"):
        export_tasks(curation, tmp_path / "tasks.csv")


def test_exports_of_odd_form_are_refused_in_a_sentence_and_leave_nothing(curation, tmp_path):
    one, two = exported(curation, tmp_path)
    one["annotations"] = [annotation(true=["anything"])]
    odd = [
        two | {"annotations": 5},
        two | {"annotations": ["accept"]},
        two | {"annotations": [annotation()], "data": [1]},
        two | {"annotations": [annotation()], "data": two["data"] | {"captions": ["a dog"]}},
        two | {"annotations": [annotation() | {"result": ["accept"]}]},
    ]
    for task in odd:
        with pytest.raises(ValueError, match="is no export of Label Studio"):
            imported(curation, tmp_path, [one, task])
    assert curation.all_decisions() == []


def test_an_annotation_that_is_there_twice_counts_once(curation, tmp_path):
    one, _ = exported(curation, tmp_path)
    one["annotations"] = [annotation(), annotation()]
    assert imported(curation, tmp_path, [one]) == 1
