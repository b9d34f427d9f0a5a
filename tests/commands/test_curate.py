import json
import shlex
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from tests.curation.llm_server import Faults, LlmServer, first_text
from tests.curation.test_store import read_only
from virtue import cli
from virtue.commands import curate_build
from virtue.commands.curate_people import _EditCheck
from virtue.commands.curate_regions import parse_images, parse_sources
from virtue.curation import review
from virtue.curation.database import FILE
from virtue.curation.instructions import load_instructions
from virtue.curation.store import Curation
from virtue.scenes.write import write_scenes


def run(*args: object, **env: str | None) -> Result:
    return CliRunner().invoke(
        cli.app, ["curate", *map(str, args)], prog_name="virtue", env={"OPENAI_API_KEY": None, **env}
    )


def said(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 8, "test", 0, width=96, height=96)
    return folder


def by_rules(scenes: Path, to: Path, *more: object) -> Result:
    return run("build", "--source", f"scenes={scenes}", "--to", to, "--writer", "rules", "--no-wordnet", *more)


def by_llm(scenes: Path, to: Path, url: str, *more: object) -> Result:
    source = ["--source", f"scenes={scenes}", "--limit", 6, "--to", to, "--no-wordnet", "--no-baseline"]
    return run("build", *source, "--model", "m", "--base-url", url, *more)


@pytest.fixture(scope="module")
def built(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by rules. Tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("built") / "run"
    result = by_rules(scenes, folder, "--limit", 20)
    assert result.exit_code == 0, result.output
    return folder


def test_rules_build_a_run(scenes: Path, tmp_path: Path) -> None:
    result = by_rules(scenes, tmp_path / "run", "--limit", 20)
    assert result.exit_code == 0, result.output
    assert "scenes: 20 regions added" in said(result)
    assert "20 of 20 regions" in result.stdout
    assert "Text-only baseline, hit@1 over 20 samples, each caption scored by itself" in result.stdout
    assert "chance is 10.0%, and up to 23.4% counts as near it." in result.stdout  # 0.1 + 2 * sqrt(0.1 * 0.9 / 20)
    assert "Beside it, comparing the ten: " in result.stdout
    assert result.stdout.endswith(f"Next: virtue curate review {tmp_path / 'run'}\n")
    again = by_rules(scenes, tmp_path / "run", "--limit", 22)
    assert "scenes: 2 regions added" in said(again)
    assert "22 of 22 regions" in again.stdout


def test_what_was_read_is_not_read_again_unless_asked(scenes: Path, built: Path) -> None:
    assert "scenes was read before" in said(by_rules(scenes, built, "--limit", 20))
    assert "scenes: 0 regions added" in said(by_rules(scenes, built, "--limit", 20, "--read-again"))


def test_another_setting_would_mix(scenes: Path, built: Path) -> None:
    result = by_rules(scenes, built, "--limit", 20, "--design", "corners")
    assert result.exit_code == 2
    assert "was begun with design single, not corners: give the same, or another folder." in said(result)
    assert "begun with seed 0, not 1" in said(by_rules(scenes, built, "--seed", 1))
    assert "begun with per_image none, not 1" in said(by_rules(scenes, built, "--per-image", 1))
    assert "begun with min_share 0.002, not 0.1" in said(by_rules(scenes, built, "--min-share", 0.1))


def test_settings_of_the_llm_are_the_runs(scenes: Path, tmp_path: Path) -> None:
    with LlmServer() as server:
        assert by_llm(scenes, tmp_path / "run", server.url).exit_code == 0
        result = by_llm(scenes, tmp_path / "run", server.url, "--temperature", 0)
        assert "was begun with temperature the endpoint's, not 0" in said(result)
        assert "was begun with side 1024, not 512" in said(by_llm(scenes, tmp_path / "run", server.url, "--side", 512))
    with Curation(tmp_path / "run") as kept:
        chosen = {"seed": 0, "min_share": 0.002, "per_image": None, "per_category": None, "limit of scenes": 6}
        made = {"design": "single", "attempts": 3, "wordnet": False}
        written = {"writer": "m", "temperature": "the endpoint's", "side": 1024}
        assert kept.settings == chosen | made | written | {"instructions": load_instructions().version}


def test_the_largest_limit_is_recorded(scenes: Path, tmp_path: Path) -> None:
    for limit, largest in ((["--limit", 5], 5), (["--limit", 3], 5), ([], None), (["--limit", 7], None)):
        assert by_rules(scenes, tmp_path / "run", "--no-baseline", *limit).exit_code == 0
        with Curation(tmp_path / "run") as kept:
            assert kept.settings["limit of scenes"] == largest


def test_one_build_at_a_time(scenes: Path, built: Path) -> None:
    with FileLock(built / "build.lock"):
        result = by_rules(scenes, built)
    assert result.exit_code == 2
    assert "Another `virtue curate build` works on" in said(result)


def test_an_llm_builds_a_run_and_is_asked_once(scenes: Path, tmp_path: Path) -> None:
    with LlmServer(faults=Faults(refused=0.1, malformed=0.1, limited=0.1, retry_after=0.01)) as server:
        results = [by_llm(scenes, tmp_path / "run", server.url, "--price-in", 1, "--price-out", 2) for _ in range(2)]
        assert [result.exit_code for result in results] == [0, 0], results[0].output
        assert "6 of 6 regions" in results[0].stdout
        assert " answers bought: " in results[0].stdout and "in money" in results[0].stdout
        assert results[0].stdout == results[1].stdout
        assert max(server.state.bought.values()) == 1


def test_a_batch_comes_to_the_same(scenes: Path, tmp_path: Path) -> None:
    with LlmServer() as server:
        assert by_llm(scenes, tmp_path / "one", server.url).exit_code == 0
        result = by_llm(scenes, tmp_path / "batch", server.url, "--batch", "--poll", 0.1)
        assert result.exit_code == 0, result.output
        assert server.state.batches
    with Curation(tmp_path / "one") as one, Curation(tmp_path / "batch") as other:
        assert list(one.samples()) == list(other.samples())


def test_what_a_batch_is_asked_is_not_asked_one_by_one(scenes: Path, tmp_path: Path) -> None:
    with LlmServer() as server:
        with Curation(tmp_path / "run", make=True) as kept:
            kept.put_batch("a", {"requests": 4, "id": "batch_9", "address": server.url})
        result = by_llm(scenes, tmp_path / "run", server.url)
        assert result.exit_code == 2 and "is under way" in said(result) and "go on with --batch" in said(result)
        assert by_llm(scenes, tmp_path / "run", server.url, "--batch", "--poll", 0.1).exit_code == 0
        assert by_llm(scenes, tmp_path / "run", server.url).exit_code == 0


def test_a_folder_of_images_that_is_not_there_drops_nothing(scenes: Path, tmp_path: Path) -> None:
    assert by_rules(scenes, tmp_path / "run", "--limit", 5).exit_code == 0
    result = by_rules(scenes, tmp_path / "run", "--limit", 5, "--images", tmp_path / "phtos")
    assert result.exit_code == 2 and "There is no folder of images" in said(result)
    with Curation(tmp_path / "run") as kept:
        assert kept.noted("images") == {"scenes": str(scenes)}


def test_a_budget_stops_the_build_and_more_of_it_goes_on(scenes: Path, tmp_path: Path) -> None:
    with LlmServer() as server:
        result = by_llm(scenes, tmp_path / "run", server.url, "--budget-tokens", 9000)
        assert result.exit_code == 1
        assert "Stopped: The budget leaves no room" in said(result)
        assert "keeps what was bought and written; the same command goes on." in said(result)
        bought = server.state.bought.total()
        assert bought
        assert by_llm(scenes, tmp_path / "run", server.url, "--budget-tokens", 900000).exit_code == 0
        assert max(server.state.bought.values()) == 1


def test_an_endpoint_that_lets_nobody_in_ends_in_a_sentence(scenes: Path, tmp_path: Path) -> None:
    with LlmServer(api_key="secret") as server:
        result = by_llm(scenes, tmp_path / "run", server.url)
        assert result.exit_code == 1
        assert "answered 401" in said(result)
        assert by_llm(scenes, tmp_path / "run", server.url, "--attempts", 2).exit_code == 1  # nothing was made yet


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "m"], "OpenAI wants an API key in OPENAI_API_KEY"),
        (["--model", "m", "--base-url", "localhost:1"], "of the form http://host:8000/v1, not localhost:1"),
        (["--model", "m", "--base-url", "http://h/v1", "--budget", 5], "needs the prices of a million tokens"),
        (["--model", "m", "--base-url", "http://h/v1", "--rate", 0], "Requests and tokens per minute are above 0"),
        (["--model", "m", "--base-url", "http://h/v1", "--instructions", "gone"], "There is no folder gone"),
        ([], "An LLM needs a name: give --model"),
    ],
)
def test_the_llms_options_are_checked_before_anything_is_read_or_made(
    scenes: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    result = run("build", "--source", f"scenes={scenes}", "--to", tmp_path / "run", "--no-wordnet", *options)
    assert result.exit_code == 2
    assert message in said(result) and "regions added" not in said(result)
    assert not (tmp_path / "run").exists()


def test_money_is_counted_for_commands_that_gave_no_prices(scenes: Path, tmp_path: Path) -> None:
    with LlmServer() as server:
        first = by_llm(scenes, tmp_path / "run", server.url, "--limit", 2)
        assert "in money" not in first.stdout
        second = by_llm(scenes, tmp_path / "run", server.url, "--price-in", 1, "--price-out", 2)
        assert "Earlier commands gave no prices; their tokens count as 0.0" in said(second)
        third = by_llm(scenes, tmp_path / "run", server.url, "--limit", 7)
    assert third.stdout.splitlines()[1].endswith(" in money, without that of commands that gave no prices")
    with Curation(tmp_path / "run") as kept:
        used = kept.totals()
    left_in, left_out = (used[name] for name in ("unpriced_in", "unpriced_out"))
    assert left_in > 0 and used["money"] == pytest.approx(
        (used["tokens_in"] - left_in + 2 * (used["tokens_out"] - left_out)) / 1e6
    )


def test_what_gives_the_truth_away_is_written_again_by_the_command_that_is_shown(tmp_path: Path) -> None:
    write_scenes(tmp_path / "many", 20, "test", 0, width=96, height=96)
    source = ["--source", f"scenes={tmp_path / 'many'}", "--to", tmp_path / "a run", "--limit", 40]
    build = ["build", *source, "--attempts", 6]
    with LlmServer(telltale="x") as server:
        first = run(*build, "--no-wordnet", "--model", "m", "--base-url", server.url)
        *_, why, command = first.stdout.splitlines()
        assert why.startswith("That is above it: the wording gives true captions away, most surely those of ")
        assert command.startswith("Next: virtue curate build --source ") and command.endswith(" --try-again wording")
        words = shlex.split(command.removeprefix("Next: virtue curate "))
        second = run(*words)
    assert second.exit_code == 0, second.output
    assert "Written again, as their words give the true caption away: " in said(second)
    assert "That is above it" not in second.stdout and "Written again for their wording: " in second.stdout
    assert f"Next: virtue curate review {tmp_path / 'a run'}" in second.stdout
    told = [text for text in map(first_text, server.state.bodies) if "An earlier answer could not be used" in text]
    assert sum('Captions that say "x"' in text for text in told) > len(told) / 2


def test_what_was_dropped_is_taken_up_again(scenes: Path, tmp_path: Path) -> None:
    with LlmServer(faults=Faults(refused=1.0)) as server:
        first = by_llm(scenes, tmp_path / "run", server.url)
    assert "6 dropped (6 refused)" in first.stdout
    with LlmServer() as server:
        unknown = by_llm(scenes, tmp_path / "run", server.url, "--try-again", "refuse")
        assert unknown.exit_code == 2 and "was dropped for 'refuse', but for refused (6): --try-again" in said(unknown)
        assert "6 refused" in by_llm(scenes, tmp_path / "run", server.url).stdout
        result = by_llm(scenes, tmp_path / "run", server.url, "--try-again", "refused", "--try-again", "synonym")
    assert "Taken up again: 6 regions that were dropped for 'refused'." in said(result)
    assert "Taken up again: 0 regions that were dropped for 'synonym'." in said(result)
    assert "6 samples, 0 dropped" in result.stdout


def test_a_run_that_may_not_be_written_to_is_counted_and_exported(built: Path, tmp_path: Path) -> None:
    run("export", built, "--to", tmp_path / "set", "--no-baseline")  # imports what another user may not read
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o777)
        with read_only({FILE: (built / FILE).read_bytes()}) as folder:
            counted = run("stats", folder, "--json", "--no-baseline")
            exported = run("export", folder, "--to", Path(open_to_all) / "set", "--images", "none", "--no-baseline")
            again = by_rules(Path("scenes"), folder)
    assert counted.exit_code == 0, counted.output
    assert json.loads(counted.stdout)["making"]["settings"]["writer"] == "rules"
    assert exported.exit_code == 0, exported.output
    assert again.exit_code == 2 and "may be read here and not written to" in said(again)


def test_who_stops_it_is_told_that_the_command_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(curate_build, "_build", interrupted)
    result = by_rules(scenes, tmp_path / "run")
    assert result.exit_code == 130
    assert "keeps what was bought and written; the same command goes on." in said(result)
    result = by_rules(scenes, tmp_path / "run", "--try-again", "wording")
    assert "the same command without --try-again goes on." in said(result)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--source", "photos"],
            "A source is written KIND=FOLDER or KIND=FILE, as in COCO=instances.json, got",
        ),
        (["--source", "photos=here"], "There is no kind of source 'photos'"),
        (["--source", "scenes=gone"], "There is no gone to read scenes from"),
        (["--source", "scenes=a", "--source", "scenes=b"], "2 sources are called scenes: name them apart"),
        (["--source", "scenes=a", "--images", "other=b"], "--images names 'other', which is no source"),
    ],
)
def test_a_source_that_cannot_be_is_refused(tmp_path: Path, args: list[str], message: str) -> None:
    result = run("build", *args, "--to", tmp_path / "run", "--writer", "rules", "--no-wordnet")
    assert result.exit_code == 2
    assert message in said(result)


def test_without_wordnet_it_says_what_to_do(scenes: Path, tmp_path: Path) -> None:
    where = ["--to", tmp_path / "run", "--writer", "rules", "--wordnet-folder", tmp_path]
    result = run("build", "--source", f"scenes={scenes}", *where)
    assert result.exit_code == 2
    assert "To check without it, give --no-wordnet." in said(result)


def test_sources_and_images_by_hand(tmp_path: Path) -> None:
    first, second = parse_sources(["refcoco+@val=refs,instances.json", "coco:mine=a.json"])
    assert (first.kind, first.name, first.part, first.paths) == (
        "RefCOCO_plus",
        None,
        "val",
        ("refs", "instances.json"),
    )
    assert (second.kind, second.name, second.part, second.paths) == ("COCO", "mine", None, ("a.json",))
    assert parse_images(["photos", "mine=other"]) == {"": "photos", "mine": "other"}
    (tmp_path / "a=b").mkdir()
    assert parse_images([str(tmp_path / "a=b")]) == {"": str(tmp_path / "a=b")}
    with pytest.raises(ValueError, match="Two folders are given for the images of all sources"):
        parse_images(["a", "b"])


def test_instructions_are_shown_and_copied(tmp_path: Path) -> None:
    whole = run("instructions")
    assert whole.exit_code == 0
    assert all(f"# {name}.v" in whole.stdout for name in ("elements", "distractors", "pick"))
    one = run("instructions", "pick")
    assert "# elements" not in one.stdout and "# pick.v" in one.stdout
    assert "holds 1 instructions" in run("instructions", "pick", "--to", tmp_path).stdout
    (file,) = tmp_path.iterdir()
    file.write_text("Choose well.")
    assert "Choose well." in run("instructions", "pick", "--instructions", tmp_path).stdout
    again = run("instructions", "pick", "--to", tmp_path)
    assert again.exit_code == 2 and "exists: it may hold your changes" in said(again)


def test_a_run_is_counted_exported_and_valid(built: Path, tmp_path: Path) -> None:
    counted = run("stats", built)
    assert counted.exit_code == 0, counted.output
    assert "train annotations" in counted.stdout and "Text-only baseline" in counted.stdout
    whole = json.loads(run("stats", built, "--json", "--no-baseline").stdout)
    assert whole["making"]["settings"]["writer"] == "rules"
    result = run("export", built, "--to", tmp_path / "set", "--eval-share", 0.5)
    assert result.exit_code == 0, result.output
    rows = sum(pq.read_metadata(file).num_rows for file in (tmp_path / "set").glob("SC*.parquet"))
    assert f"holds {rows:,} samples" in " ".join(result.stdout.split())
    checked = run("validate", tmp_path / "set", "--images", tmp_path / "set")
    assert checked.exit_code == 0, checked.output
    assert f"{rows} rows of 2 files: 0 problems." in checked.stdout
    of_files = json.loads(run("stats", tmp_path / "set", "--json", "--no-baseline").stdout)
    assert of_files["swaps"] == {"object": 3 * rows, "relation": 3 * rows, "scene": 3 * rows}


def test_a_run_is_counted_by_itself(built: Path, scenes: Path) -> None:
    result = run("stats", built, scenes)
    assert result.exit_code == 2
    assert "is a run, and is counted by itself" in said(result)
    assert "holds no file of SCaR" in said(run("stats", scenes.parent))


def test_problems_are_named_and_the_exit_code_says_so(scenes: Path) -> None:
    result = run("validate", scenes, "--images", scenes.parent / "test")
    assert result.exit_code == 2
    images = scenes / "images" / "none"
    images.mkdir(exist_ok=True)
    result = run("validate", scenes, "--images", images)
    assert result.exit_code == 1
    assert "SCaR_eval_scenes.parquet row 1: the image images/test_00000000.png is missing." in result.stdout
    assert " missing image" in result.stdout
    assert "Images were not looked at" in run("validate", scenes).stdout


def test_the_page_is_served_with_the_runs_settings(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, object] = {}

    def serve(folder: Path, images: Path | None, **named: object) -> None:
        called.update(named, folder=folder, images=images)
        named["ready"]("http://127.0.0.1:1/")  # type: ignore[operator]

    monkeypatch.setattr(review, "serve", serve)
    result = run("review", built, "--share", 0.2, "--port", 0)
    assert result.exit_code == 0, result.output
    assert "Review at http://127.0.0.1:1/" in said(result)
    assert (called["folder"], called["images"], called["seed"], called["reviewers_share"]) == (built, None, 0, 0.2)
    assert "There is no run in" in said(run("review", built.parent))


def test_edits_are_checked_as_samples_are(built: Path) -> None:
    with Curation(built) as curation:
        sample = next(curation.samples())
    check = _EditCheck(False, "single")
    assert check(sample) == []
    assert _EditCheck(False, "corners")(sample)


def test_label_studio_there(built: Path, tmp_path: Path) -> None:
    result = run("label-studio", "export", built, tmp_path / "tasks.json")
    assert result.exit_code == 0, result.output
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert f"{len(tasks):,} tasks" in " ".join(result.stdout.split())
    (tmp_path / "empty.json").write_text("[]")
    assert "0 new decisions" in run("label-studio", "import", built, tmp_path / "empty.json").stdout


def test_each_part_shows_its_own_examples() -> None:
    shown = run("stats", "--help").output.partition("Examples:")[2]
    assert "virtue curate stats" in shown and "virtue curate build" not in shown
