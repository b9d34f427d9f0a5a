import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image
from pydantic import BaseModel

from tests.curation.llm_server import Faults, LlmServer
from virtue.curation.budget import Budget, Usage
from virtue.curation.client import REJECTIONS, LlmClient, LlmError
from virtue.curation.endpoint import retry_after
from virtue.curation.llm_settings import Settings
from virtue.curation.llm_writer import ElementsForm
from virtue.curation.pace import Pace
from virtue.curation.picture import Picture
from virtue.curation.questions import Question, Reply, schema
from virtue.curation.samples import Region
from virtue.curation.store import Curation
from virtue.curation.writers import WriterRefusal
from virtue.prompts import Box

T = TypeVar("T")
QUICK = Settings(first_wait=0.01, timeout=5.0)
STRUCTURED = Settings(first_wait=0.01, timeout=5.0, structured=True)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Curation(tmp_path / "run", make=True)
    yield run
    run.close()


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "a.png")
    return Picture(Region("own/1", "own", "a.png", "a", 64, 48, Box(10, 10, 30, 30), "dog"), tmp_path / "a.png")


def question(number: int = 0, picture: Picture | None = None) -> Question:
    text = f"Task: elements\nCategory: dog {number}\nKnown to be true: dog | left of | boat"
    return Question("elements", "Describe.", text, ElementsForm, picture)


def asked(
    server: LlmServer,
    run: Curation,
    work: Callable[[LlmClient], Coroutine[Any, Any, T]],
    *,
    settings: Settings = QUICK,
    budget: Budget | None = None,
) -> T:
    """What some work with a client of the server comes to."""

    async def main() -> T:
        async with LlmClient("tiny", run, base_url=server.url, api_key="k", budget=budget, settings=settings) as client:
            return await work(client)

    return asyncio.run(main())


def many(count: int) -> Callable[[LlmClient], Coroutine[Any, Any, list[ElementsForm | BaseException]]]:
    async def work(client: LlmClient) -> list[ElementsForm | BaseException]:
        calls = [client.ask(question(number), ElementsForm) for number in range(count)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return work


def one(client: LlmClient) -> Coroutine[Any, Any, ElementsForm]:
    return client.ask(question(), ElementsForm)


def test_a_question_goes_out_as_openai_has_it_and_comes_back_in_its_form(run: Curation, picture: Picture) -> None:
    with LlmServer(api_key="k") as server:
        form = asked(server, run, lambda client: client.ask(question(7, picture), ElementsForm))
    assert form == ElementsForm(object="dog 7", relation="left of", scene="boat")
    (body,) = server.state.bodies
    assert (body["model"], body["max_tokens"], "temperature" in body) == ("tiny", 2000, False)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Describe."}
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    described = body["response_format"]["json_schema"]
    assert (described["name"], described["strict"]) == ("elements", True)
    assert described["schema"] == {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("object", "relation", "scene")},
        "required": ["object", "relation", "scene"],
        "additionalProperties": False,
    }


def test_nothing_is_bought_twice_and_totals_go_on(run: Curation, picture: Picture) -> None:
    async def work(client: LlmClient) -> list[ElementsForm]:
        return await asyncio.gather(*(client.ask(question(0, picture), ElementsForm) for _ in range(5)))

    with LlmServer() as server:
        first, second = asked(server, run, work), asked(server, run, work)
    assert first == second and len(set(map(str, first))) == 1
    assert list(server.state.bought.values()) == [1]
    assert set(server.state.bought) == {question(0, picture).key("tiny", QUICK.sampling)}  # the header bears it
    answer = {"object": "dog 0", "relation": "left of", "scene": "boat"}
    used = {"tokens_in": 1000 + len(question().text) // 4, "tokens_out": len(json.dumps(answer)) // 4 + 1}
    unpriced = {f"un{name.replace('tokens', 'priced')}": n for name, n in used.items()}
    assert run.totals() == {"answers": 1, **used, **unpriced}


def test_a_key_goes_by_all_that_an_answer_depends_on(picture: Picture) -> None:
    base = question(0, picture)
    other = Picture(picture.region, picture.image, side=32)
    keys = {
        base.key("tiny", {}),
        base.key("big", {}),
        base.key("tiny", {"temperature": 0}),
        question(1, picture).key("tiny", {}),
        question(0).key("tiny", {}),
        question(0, other).key("tiny", {}),
        base.again("{}", "No.").key("tiny", {}),
        Question("elements", "Describe!", base.text, ElementsForm, picture).key("tiny", {}),
    }
    assert len(keys) == 8
    assert base.key("tiny", {}) == question(0, picture).key("tiny", {})
    Image.new("RGB", (64, 48), "blue").save(picture.image)
    assert base.key("tiny", {}) not in keys


def test_no_more_requests_are_in_flight_than_allowed(run: Curation) -> None:
    with LlmServer(delay=0.03) as server:
        asked(server, run, many(20), settings=Settings(concurrency=3))
    assert server.state.most_in_flight == 3


def test_what_passes_is_asked_again_and_bought_once(run: Curation) -> None:
    faults = Faults(limited=0.25, broken=0.25, cut=0.25, slow=0.1, slow_seconds=0.05, retry_after=0.02)
    with LlmServer(faults=faults) as server:
        forms = asked(server, run, many(24))
    assert [form.object for form in forms if isinstance(form, ElementsForm)] == [f"dog {n}" for n in range(24)]
    assert set(server.state.bought.values()) == {1}
    assert server.state.statuses[429] > 2 and server.state.statuses[500] > 2
    assert run.totals()["unanswered"] > 2


def test_retry_after_holds_all_requests_back(run: Curation) -> None:
    with LlmServer(faults=Faults(limited=1.0, passing=1, retry_after=0.4)) as server:
        asked(server, run, many(3))
    first, later = server.state.times[:3], server.state.times[3:]
    assert len(later) == 3 and min(later) - max(first) > 0.35


def test_an_endpoint_that_asks_for_a_long_wait_or_stays_broken_ends_the_run(run: Curation) -> None:
    with (
        LlmServer(faults=Faults(limited=1.0, retry_after=3600)) as server,
        pytest.raises(LlmError, match=r"answered 429: .*Rate limit reached.* It asks to wait for 60 minutes"),
    ):
        asked(server, run, one)
    with (
        LlmServer(faults=Faults(broken=1.0, passing=99)) as server,
        pytest.raises(LlmError, match=r"answered 500: .*had an error.* It was tried 3 times"),
    ):
        asked(server, run, one, settings=Settings(first_wait=0.01, retries=2))


def test_an_answer_that_takes_too_long_is_asked_for_again(run: Curation) -> None:
    with LlmServer(faults=Faults(slow=1.0, slow_seconds=1.5, passing=1)) as server:
        asked(server, run, one, settings=Settings(first_wait=0.01, timeout=1.0))
    assert list(server.state.asked.values()) == [2]


def test_nobody_there(run: Curation) -> None:
    with LlmServer() as server:
        pass
    for retries, tries in ((1, 2), (8, 4)):  # an address that never answered is not waited for as long
        with pytest.raises(
            LlmError, match=rf"http://127\.0\.0\.1:\d+/v1 cannot be reached: .*\. It was tried {tries} "
        ):
            asked(server, run, one, settings=Settings(first_wait=0.01, retries=retries))


def test_a_wrong_key_ends_the_run_at_once(run: Curation) -> None:
    with LlmServer(api_key="another") as server, pytest.raises(LlmError, match=r"answered 401: .*Incorrect API key"):
        asked(server, run, one)
    assert server.state.statuses == {401: 1}


def test_a_refusal_is_an_answer_and_is_kept(run: Curation) -> None:
    for number, words in enumerate(["I cannot help", "content filter"]):
        faults = Faults(filtered=1.0) if number else Faults(refused=1.0)
        for bought in (1, 0):
            with LlmServer(faults=faults) as server, pytest.raises(WriterRefusal, match=words) as caught:
                asked(server, run, lambda client, n=number: client.ask(question(n), ElementsForm))
            assert (caught.value.reason, len(server.state.bought)) == ("refused", bought)


def test_what_was_refused_is_asked_anew_as_often_as_wanted(run: Curation) -> None:
    def ask(server: LlmServer, tries: int) -> object:
        return asked(server, run, lambda client: client.ask(question(), ElementsForm, tries=tries))

    with LlmServer(faults=Faults(refused=1.0)) as server:
        for tries in (0, 0, 1, 1):
            with pytest.raises(WriterRefusal, match="I cannot help"):
                ask(server, tries)
        assert len(server.state.bought) == 2  # each try once
    with LlmServer() as server:
        assert ask(server, 2) == ask(server, 2)
        assert len(server.state.bought) == 1
        asked(server, run, lambda client: client.ask(question(1), ElementsForm, tries=3))
        assert len(server.state.bought) == 2  # what is answered is not asked anew
    assert run.totals()["answers"] == 4


def test_what_is_rejected_is_asked_once_whatever_the_tries(run: Curation) -> None:
    with LlmServer(rejected="dog 0\n") as server, pytest.raises(WriterRefusal, match="answered 400"):
        asked(server, run, lambda client: client.ask(question(), ElementsForm, tries=3), settings=STRUCTURED)
    assert server.state.statuses[400] == 1


def test_an_unreadable_answer_is_shown_with_what_is_wrong_a_few_times(run: Curation) -> None:
    for faults in (Faults(malformed=1.0), Faults(misshapen=1.0)):
        number = int(faults.malformed)
        with LlmServer(faults=faults) as server, pytest.raises(WriterRefusal, match="no usable answer in 3") as caught:
            asked(server, run, lambda client, n=number: client.ask(question(n), ElementsForm))
        assert caught.value.reason == "unreadable"
        roles = [[message["role"] for message in body["messages"]] for body in server.state.bodies]
        assert roles == [["system", "user", *["assistant", "user"] * turn] for turn in range(3)]
        assert server.state.bodies[2]["messages"][-1]["content"].startswith("That answer cannot be used: ")
        with LlmServer() as server, pytest.raises(WriterRefusal, match="no usable answer"):  # all of it is kept
            asked(server, run, lambda client, n=number: client.ask(question(n), ElementsForm))
        assert not server.state.asked


def test_some_unreadable_answers_are_put_right(run: Curation) -> None:
    with LlmServer(faults=Faults(malformed=0.3, misshapen=0.2)) as server:
        forms = asked(server, run, many(20))
    assert sum(isinstance(form, ElementsForm) for form in forms) > 15
    assert len(server.state.bodies) > 22


def test_an_endpoint_without_structured_output_gets_the_schema_in_words(run: Curation) -> None:
    with LlmServer(structured=False) as server:
        asked(server, run, many(3))
    taken = [body for body in server.state.bodies if "response_format" not in body]
    assert len(taken) == 3
    assert json.dumps(schema(ElementsForm)) in taken[0]["messages"][1]["content"][0]["text"]


def test_an_endpoint_that_calls_the_limit_otherwise_is_understood(run: Curation) -> None:
    with LlmServer(token_word="max_completion_tokens") as server:
        asked(server, run, one)
    assert [{"max_tokens", "max_completion_tokens"} & body.keys() for body in server.state.bodies] == [
        {"max_tokens"},
        {"max_completion_tokens"},
    ]


def test_a_question_that_the_endpoint_does_not_take_is_dropped_and_a_manner_ends_the_run(run: Curation) -> None:
    with LlmServer(rejected="dog 1\n") as server:
        forms = asked(server, run, many(3), settings=Settings(structured=True))
        assert isinstance(forms[1], WriterRefusal) and forms[1].reason == "rejected"
        assert "answered 400" in forms[1].message
        with pytest.raises(WriterRefusal, match="answered 400"):  # nothing else was answered in this run
            asked(server, run, lambda client: client.ask(question(1), ElementsForm))
    with LlmServer(rejected="") as server, pytest.raises(LlmError, match="answered 400"):
        asked(server, run, lambda client: client.ask(question(5), ElementsForm))


def test_close_keeps_what_is_under_way(run: Curation) -> None:
    async def main(server: LlmServer) -> None:
        async with LlmClient("tiny", run, base_url=server.url) as client:
            task = asyncio.create_task(client.ask(question(), ElementsForm))
            while not server.state.asked:
                await asyncio.sleep(0.005)
            task.cancel()
        assert task.cancelled()

    with LlmServer(delay=0.1) as server:
        asyncio.run(main(server))
        assert list(server.state.bought.values()) == [1]
        asked(server, run, one)
    assert list(server.state.bought.values()) == [1]


def test_pace_spreads_requests_and_tokens() -> None:
    async def seconds(pace: Pace, tokens: int) -> float:
        begun = time.monotonic()
        for _ in range(4):
            await pace.wait(tokens)
        return time.monotonic() - begun

    assert 0.14 < asyncio.run(seconds(Pace(requests=1200), 0)) < 2  # three gaps of 50 ms
    assert 0.14 < asyncio.run(seconds(Pace(tokens=120_000), 100)) < 2
    assert asyncio.run(seconds(Pace(), 10**9)) < 1
    with pytest.raises(ValueError, match="above 0"):
        Pace(requests=0)


def test_retry_after_is_read_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "2", "retry-after-ms": "150"}) == 0.15
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) == 0.0
    assert retry_after({}) == 0.0


class Count(BaseModel):
    count: int


@pytest.mark.parametrize(
    "text",
    ['{"count": 3}', '```json\n{"count": 3}\n```', 'Here: {"count": 3}.', '<think>{"count": 1}?</think>{"count": 3}'],
)
def test_an_answer_is_found_amid_words(text: str) -> None:
    assert Reply(text).read(Count) == Count(count=3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("three", "it holds no JSON object"),
        ('{"count": 3', "it holds no JSON object"),
        ('{"count": }', "its JSON cannot be read"),
        ("{}", "count: Field required"),
        ('{"count": "many"}', "count: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Reply(text).read(Count)
    with pytest.raises(ValueError, match="was cut off"):
        Reply('{"count": 3', cut=True).read(Count)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="concurrency are at least 1"):
        Settings(concurrency=0)
    with pytest.raises(ValueError, match="temperature is not negative"):
        Settings(temperature=-1)


def test_openai_itself_needs_a_key(run: Curation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="wants an API key in OPENAI_API_KEY"):
        LlmClient("tiny", run)
    with pytest.raises(ValueError, match="An LLM needs a name"):
        LlmClient("", run, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match=r"of the form http://host:8000/v1, not localhost:8000"):
        LlmClient("tiny", run, base_url="localhost:8000")
    with pytest.raises(ValueError, match="put a key in OPENAI_API_KEY"):
        LlmClient("tiny", run, base_url="http://me:secret@host/v1")


@pytest.mark.parametrize(
    ("message", "usage", "refusal"),
    [
        ({"content": "{}", "refusal": ""}, "many", None),
        ({"content": "{}", "refusal": {"why": "no"}}, [1], "{'why': 'no'}"),
        ({"content": "{}"}, {"prompt_tokens": "7"}, None),
    ],
)
def test_odd_answers_are_read_all_the_same(message: dict[str, Any], usage: object, refusal: str | None) -> None:
    reply = Reply.of({"choices": [{"message": message}], "usage": usage}, Usage(3, 4))
    assert (reply.text, reply.refusal, reply.tokens_in, reply.tokens_out) == ("{}", refusal, 3, 4)


def test_an_endpoint_that_rejects_everything_from_some_moment_on_ends_the_run(run: Curation) -> None:
    async def work(client: LlmClient) -> list[BaseException | ElementsForm]:
        await client.ask(question(0), ElementsForm)
        server.state.rejected = ""  # as where the money is used up, which some answer with 400
        calls = [client.ask(question(number), ElementsForm) for number in range(1, REJECTIONS + 1)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with LlmServer() as server:
        *refusals, last = sorted(asked(server, run, work), key=lambda error: isinstance(error, LlmError))
    assert isinstance(last, LlmError) and all(isinstance(error, WriterRefusal) for error in refusals)
