"""A server on this machine that speaks OpenAI's chat completions, files and batches over real HTTP, faults and all.

It answers for any region (`llm_answers`). Which request meets which fault depends on its content, its turn and a seed,
so a run repeats whatever the order in which requests come. What passes (429, 500, a cut connection, slowness) depends
on how often the same thing was asked; what stays (a refusal, a malformed answer) on the content alone.

Every answer that is sent, and so would be paid for, is a line `{"key", "task", "batch"}` in the log: the key is the
`Idempotency-Key` that came with the request, or a batch's `custom_id`.

    with LlmServer(faults=Faults(limited=0.2), log=folder / "bought.jsonl") as server:
        AsyncOpenAI(base_url=server.url, api_key="none")
    python -m tests.curation.llm_server --port 8900 --log bought.jsonl --faults limited=0.2,malformed=0.1
"""

from __future__ import annotations

import argparse
import contextlib
import email
import email.policy
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.curation import llm_answers


@dataclass(frozen=True)
class Faults:
    """Shares of requests, 0 to 1, that meet a fault."""

    slow: float = 0.0  # answered after `slow_seconds`
    limited: float = 0.0  # 429 with Retry-After
    broken: float = 0.0  # 500
    cut: float = 0.0  # the connection is closed without an answer, before anything is bought
    refused: float = 0.0  # message.refusal
    filtered: float = 0.0  # finish_reason "content_filter"
    malformed: float = 0.0  # no JSON
    misshapen: float = 0.0  # JSON of another form
    seed: int = 0
    slow_seconds: float = 0.3
    retry_after: float = 0.05
    passing: int = 2  # a fault that passes hits the same request at most so often


@dataclass
class State:
    """What the server knows, shared by its threads."""

    faults: Faults = Faults()
    delay: float = 0.0
    log: Path | None = None
    structured: bool = True  # whether it takes a JSON schema
    rejected: str | None = None  # what holds these words is answered 400
    silent: bool = False  # whether it keeps to itself how many tokens an answer took
    telltale: str = ""  # what it writes before all replacements, until it is told not to
    token_word: str = "max_tokens"  # how it calls the limit of an answer's tokens
    api_key: str | None = None
    batch_polls: int = 1  # a batch is done when it was looked at so often
    batch_failures: float = 0.0  # share of a batch's requests that come back without an answer
    batch_end: str = "completed"  # how batches end: "failed" ones have no answers
    batch_faults: int = 0  # so many requests for files and batches are answered 500, the last after it was done
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: Counter[str] = field(default_factory=Counter)  # requests by key
    bought: Counter[str] = field(default_factory=Counter)  # answers by key
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)  # of chat requests, as they came
    times: list[float] = field(default_factory=list)  # when they came
    in_flight: int = 0
    most_in_flight: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def rng(self, *parts: object) -> random.Random:
        """Chance that depends on the seed and what is given."""
        return random.Random("/".join(str(part) for part in (self.faults.seed, *parts)))

    def buy(self, key: str, task: str, batch: bool) -> None:
        """Notes that an answer is sent; the line is in the file before."""
        with self.lock:
            self.bought[key] += 1
            if self.log is not None:
                with self.log.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"key": key, "task": task, "batch": batch}) + "\n")


class LlmServer:
    """The server in threads of this process, for `with`. `state` shows what happened; options are those of `State`."""

    def __init__(self, port: int = 0, **options: Any) -> None:
        self.state = State(**options)
        handler = type("Handler", (_Handler,), {"state": self.state})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """What a client takes as `base_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> LlmServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _FailedError(Exception):
    """A request that is answered by a status and an error of OpenAI's form."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers


class _CutError(Exception):
    """A request that is never answered."""


class _Handler(BaseHTTPRequestHandler):
    state: State
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve({"chat/completions": self._chat, "files": self._upload, "batches": self._batch}, body)

    def do_GET(self) -> None:
        self._serve({"files": self._download, "batches": self._look}, b"")

    def _serve(self, routes: dict[str, Any], body: bytes) -> None:
        with _counted(self.state):
            try:
                path = self.path.partition("?")[0].removeprefix("/v1/")
                route = next((name for name in routes if path == name or path.startswith(f"{name}/")), None)
                if route is None:
                    raise _FailedError(404, f"There is no {path}.")
                if self.state.api_key and self.headers.get("Authorization") != f"Bearer {self.state.api_key}":
                    raise _FailedError(401, "Incorrect API key provided.", "invalid_api_key")
                status, answer, headers = 200, routes[route](path, body), {}
            except _FailedError as error:
                status, headers = error.status, error.headers
                answer = {"error": {"message": error.message, "type": "error", "param": None, "code": error.code}}
            except _CutError:
                self.close_connection = True
                return
        self._send(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with self.state.lock:
            self.state.statuses[status] += 1
        with contextlib.suppress(ConnectionError):  # the client may be dead by now
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _chat(self, path: str, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        key = self.headers.get("Idempotency-Key") or hashlib.blake2b(body, digest_size=16).hexdigest()
        with self.state.lock:
            turn = self.state.asked[key]
            self.state.asked[key] += 1
            self.state.bodies.append(request)
            self.state.times.append(time.monotonic())
        time.sleep(self.state.delay)
        _meet_passing(self.state, key, turn)
        _check_known(self.state, request)
        answer = completion(self.state, request)
        self.state.buy(key, task(request), batch=False)
        return answer

    def _meet_batch_fault(self, left: int = 1) -> None:
        """Fails while more faults are left than given."""
        with self.state.lock:
            if self.state.batch_faults <= left:
                return
            self.state.batch_faults -= 1
        raise _FailedError(500, "The server had an error.")

    def _upload(self, path: str, body: bytes) -> dict[str, Any]:
        self._meet_batch_fault()
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts()
        content = next(bytes(part.get_payload(decode=True)) for part in parts if part.get_filename())
        with self.state.lock:
            name = f"file-{len(self.state.files)}"
            self.state.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "requests.jsonl",
                "purpose": "batch", "status": "processed"}  # fmt: skip

    def _download(self, path: str, body: bytes) -> bytes:
        self._meet_batch_fault()
        name = path.split("/")[1]
        if name not in self.state.files:
            raise _FailedError(404, f"There is no file {name}.")
        return self.state.files[name]

    def _batch(self, path: str, body: bytes) -> dict[str, Any]:
        self._meet_batch_fault()
        request = json.loads(body)
        answers, errors = _run_batch(self.state, self.state.files[request["input_file_id"]])
        with self.state.lock:
            name = f"batch_{len(self.state.batches)}"
            number = len(self.state.files)
            self.state.files |= {f"file-{number}": answers, f"file-{number + 1}": errors}
            self.state.batches[name] = {
                "id": name, "object": "batch", "endpoint": request["endpoint"], "status": "in_progress",
                "input_file_id": request["input_file_id"], "completion_window": "24h", "created_at": 0,
                "metadata": request.get("metadata"), "looks": 0,
                "files": {"output_file_id": f"file-{number}", "error_file_id": f"file-{number + 1}"},
            }  # fmt: skip
        self._meet_batch_fault(left=0)
        return _public(self.state.batches[name])

    def _look(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "batches":
            asked = parse_qs(self.path.partition("?")[2])
            data = [_public(batch) for batch in reversed(self.state.batches.values())]
            ids = [batch["id"] for batch in data]
            start = ids.index(asked["after"][0]) + 1 if "after" in asked else 0
            stop = start + int(asked.get("limit", ["20"])[0])
            return {"object": "list", "data": data[start:stop], "has_more": stop < len(data)}
        batch = self.state.batches.get(path.split("/")[1])
        if batch is None:
            raise _FailedError(404, f"There is no batch {path}.")
        with self.state.lock:
            batch["looks"] += 1
            if batch["looks"] >= self.state.batch_polls and batch["status"] == "in_progress":
                batch |= {"status": self.state.batch_end, **batch["files"]}
                if self.state.batch_end == "failed":
                    errors = [{"code": "invalid", "message": "Invalid file.", "line": 1, "param": None}]
                    batch |= {
                        "errors": {"object": "list", "data": errors},
                        "output_file_id": None,
                        "error_file_id": None,
                    }
        return _public(batch)


@contextlib.contextmanager
def _counted(state: State) -> Iterator[None]:
    with state.lock:
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
    try:
        yield
    finally:
        with state.lock:
            state.in_flight -= 1


def _public(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in ("looks", "files")}


def _meet_passing(state: State, key: str, turn: int) -> None:
    """Whatever goes wrong before the answer."""
    faults = state.faults
    chance = state.rng("passing", key, turn).random()
    if turn >= faults.passing:
        return
    for share, failure in (
        (
            faults.limited,
            _FailedError(429, "Rate limit reached.", "rate_limit_exceeded", Retry_After=str(faults.retry_after)),
        ),
        (faults.broken, _FailedError(500, "The server had an error.")),
        (faults.cut, _CutError()),
    ):
        if chance < share:
            raise failure
        chance -= share
    if chance < faults.slow:
        time.sleep(faults.slow_seconds)


def _check_known(state: State, request: dict[str, Any]) -> None:
    """Refuses parameters that this server is said not to know."""
    if "response_format" in request and not state.structured:
        raise _FailedError(400, "Unknown parameter: 'response_format'.", "unknown_parameter")
    if state.rejected is not None and state.rejected in first_text(request):
        raise _FailedError(400, "Invalid image.", "invalid_image")
    for word in ("max_tokens", "max_completion_tokens"):
        if word in request and word != state.token_word:
            message = (
                f"Unsupported parameter: '{word}' is not supported with this model. Use '{state.token_word}' instead."
            )
            raise _FailedError(400, message, "unsupported_parameter")


def first_text(request: dict[str, Any]) -> str:
    """The text part of the first message of the user."""
    content = next(message["content"] for message in request["messages"] if message["role"] == "user")
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(part for part in parts if part)


def task(request: dict[str, Any]) -> str:
    """ "elements", "distractors" or "pick"; "" of what is none of them."""
    return llm_answers.fields(first_text(request)).get("Task", "")


def completion(state: State, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a chat request, which is paid for whatever it says."""
    said = json.dumps(request["messages"], sort_keys=True)
    digest = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
    turns = sum(message["role"] == "assistant" for message in request["messages"])
    text = first_text(request)
    blind = text.replace(f"{state.telltale} ", "") if state.telltale and task(request) == "pick" else text
    whole = llm_answers.answer(blind, turns) if task(request) else {}
    if task(request) == "distractors" and state.telltale and f'"{state.telltale}"' not in text:
        whole = {kind: [f"{state.telltale} {words}" for words in listed] for kind, listed in whole.items()}
    message: dict[str, Any] = {"role": "assistant", "content": json.dumps(whole), "refusal": None}
    reason, faults, rng = "stop", state.faults, state.rng("staying", digest)
    chance = rng.random()
    if chance < faults.refused:
        message |= {"content": None, "refusal": "I cannot help with that picture."}
    elif (chance := chance - faults.refused) < faults.filtered:
        message["content"], reason = "", "content_filter"
    elif (chance := chance - faults.filtered) < faults.malformed:
        message["content"] = llm_answers.malformed(whole, rng)
    elif chance - faults.malformed < faults.misshapen:
        message["content"] = llm_answers.misshapen(whole, rng)
    tokens = {"prompt_tokens": 1000 + len(text) // 4, "completion_tokens": len(message["content"] or "") // 4 + 1}
    return {
        "id": f"chatcmpl-{digest}", "object": "chat.completion", "created": 0, "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        **({} if state.silent else {"usage": {**tokens, "total_tokens": sum(tokens.values())}}),
    }  # fmt: skip


def _run_batch(state: State, requests: bytes) -> tuple[bytes, bytes]:
    """The output and the error file of a batch."""
    answers, errors = [], []
    for line in map(json.loads, requests.splitlines()):
        key = line["custom_id"]
        with state.lock:
            turn = state.asked[key]
            state.asked[key] += 1
        status, body = 200, {}
        try:
            _check_known(state, line["body"])
        except _FailedError as error:
            status, body = error.status, {"error": {"message": error.message, "code": error.code}}
        if turn < state.faults.passing and state.rng("batch", key, turn).random() < state.batch_failures:
            status, body = 500, {"error": {"message": "The server had an error."}}
        if status == 200:
            body = completion(state, line["body"])
            state.buy(key, task(line["body"]), batch=True)
        answer = {"id": f"r-{key}", "custom_id": key, "response": {"status_code": status, "body": body}, "error": None}
        (answers if status == 200 else errors).append(json.dumps(answer))
    return "\n".join(answers).encode(), "\n".join(errors).encode()


def main() -> None:
    """Serves until it is killed; prints its URL first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--batch-polls", type=int, default=1)
    parser.add_argument("--faults", default="", help="as in limited=0.2,malformed=0.1,seed=3")
    given = parser.parse_args()
    kinds = {entry.name: entry.default for entry in fields(Faults)}
    pairs = [part.split("=") for part in given.faults.split(",") if part]
    faults = Faults(**{name: type(kinds[name])(value) for name, value in pairs})
    options = {"log": given.log, "delay": given.delay, "batch_polls": given.batch_polls, "faults": faults}
    with LlmServer(given.port, **options) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
