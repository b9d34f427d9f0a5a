"""The review page's server: what it deals, keeps and shows, as a FastAPI app.

    GET  /                 the page, and its files under /static
    GET  /api/session      which run this is, the reasons there are, and on this machine the token
    POST /api/deal         the next samples of a reviewer, which are held for them, and how far the review is
    POST /api/hold         holds samples on
    POST /api/leave        gives back what a reviewer held
    GET  /api/item         one sample, to look at again
    GET  /api/mine         what a reviewer decided last, to look at again and to take back
    POST /api/decide       keeps a decision
    POST /api/undo         takes a decision back
    GET  /api/agreement    how far reviewers agree
    GET  /api/image        the picture of a sample

A decision comes with a key of its own: sent again, because the answer was lost, it is kept once. It also says which
decision about its sample the page knew last: if others decided meanwhile, both are kept and the answer shows theirs.
And it has the digest of the captions that were shown: if a build wrote others meanwhile, because the page held its
sample no longer, it is refused (409, with `rewritten`).
"""

from __future__ import annotations

import math
import secrets
import sqlite3
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from virtue.curation.review.agreement import agreement
from virtue.curation.review.edits import MAX_LENGTH, Check, problems_of
from virtue.curation.review.guard import Guard
from virtue.curation.review.items import decision_json, digest, item_json
from virtue.curation.review.outcomes import outcome
from virtue.curation.review.pictures import image_file, picture
from virtue.curation.review.queue import Mode, Queue
from virtue.curation.review.reasons import OTHER, REASONS, written
from virtue.curation.samples import Sample

PAGE_FILES = (
    "review.html", "review.css", "review.js", "captions.js", "dialogs.js", "keys.js", "picture.js", "server.js",
)  # fmt: skip

KINDS_OF_FILES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

MOST = 5
"""Samples that a page may hold at once."""

REMEMBERED = 200
"""How many of their last decisions a page can go back through."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f]+$")]
Key = Annotated[str, StringConstraints(min_length=16, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4 * MAX_LENGTH)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reviewer: Name


class Deal(_Body):
    """Asks for the next samples."""

    count: int = 1
    mode: Mode = "queue"


class Hold(_Body):
    """Names samples that are looked at still."""

    regions: list[Id]


class Decide(_Body):
    """A decision."""

    key: Key
    region: Id
    verdict: Literal["accept", "reject", "edit", "skip"]
    seen: int = 0
    digest: Annotated[str, StringConstraints(max_length=64)] = ""  # pages of before do not send it
    reason: str = ""
    note: Text = ""
    captions: list[Text] | None = None


class Undo(_Body):
    """Takes a decision back."""

    number: int


def create_app(
    queue: Queue, images: Path | None = None, *, token: str | None = None, check: Check | None = None
) -> FastAPI:
    """The app.

    Args:
        queue: Deals the samples of its run.
        images: Folder that the images' paths are relative to; by default those that the run remembers.
        token: That pages need; None lets in whoever is on this machine.
        check: What edits have to pass, beyond being different captions.
    """
    app = FastAPI(title="virtue review", docs_url=None, redoc_url=None, openapi_url=None)
    curation = queue.curation
    run, own_token = _identity(queue)
    app.add_middleware(Guard, token=token or own_token, run=run, is_open=token is None)
    app.add_exception_handler(RequestValidationError, _on_malformed)
    app.add_exception_handler(sqlite3.OperationalError, partial(_on_refused_write, curation.folder))
    _add_page(app)
    _add_dealing(app, queue)
    _add_deciding(app, queue, check)

    @app.get("/api/session")
    def session() -> dict[str, Any]:
        given = own_token if token is None else None
        name = curation.folder.resolve().name
        return {"run": run, "name": name, "token": given, "reasons": REASONS, "other": OTHER, "lease": queue.lease}

    @app.get("/api/agreement")
    def agreed() -> dict[str, Any]:
        found = agreement(curation)
        pairs = [{"reviewers": pair, **_finite(asdict(kappa))} for pair, kappa in found.pairs.items()]
        return asdict(found) | {"kappa": _finite(asdict(found.kappa)), "pairs": pairs}

    @app.get("/api/image")
    def image(region: Id) -> Response:
        try:
            data = picture(image_file(curation, _sample(queue, region).region, images))
        except (ValueError, FileNotFoundError) as error:
            raise HTTPException(404, str(error)) from error
        return Response(data, media_type="image/jpeg")

    return app


def _add_page(app: FastAPI) -> None:
    """The page's files: these and no others."""
    folder = files("virtue.curation.review") / "static"
    for name in PAGE_FILES:
        path = "/" if name == "review.html" else f"/static/{name}"
        kind = KINDS_OF_FILES[name.rpartition(".")[2]]
        app.add_api_route(path, _constant((folder / name).read_bytes(), kind), methods=["GET"], response_class=Response)


def _constant(data: bytes, kind: str) -> Any:
    def get() -> Response:
        return Response(data, media_type=kind)

    return get


def _add_dealing(app: FastAPI, queue: Queue) -> None:
    """What tells a reviewer what to look at."""
    curation = queue.curation

    @app.post("/api/deal")
    def deal(body: Deal) -> dict[str, Any]:
        names = queue.deal(body.reviewer, min(max(body.count, 1), MOST), body.mode)
        items = [item_json(curation, name, body.reviewer, body.mode == "disputed") for name in names]
        return {"items": items, "progress": asdict(queue.progress(body.reviewer))}

    @app.post("/api/hold")
    def hold(body: Hold) -> dict[str, Any]:
        queue.hold(body.reviewer, [name for name in body.regions[:MOST] if curation.has_sample(name)])
        return {}

    @app.post("/api/leave")
    def leave(body: _Body) -> dict[str, Any]:
        curation.release(body.reviewer)
        return {}

    @app.get("/api/item")
    def item(region: Id, reviewer: Name) -> dict[str, Any]:
        _sample(queue, region)
        return item_json(curation, region, reviewer)

    @app.get("/api/mine")
    def mine(reviewer: Name) -> dict[str, Any]:
        last = curation.last_decisions(reviewer, REMEMBERED)
        return {"decisions": [decision_json(decision) for decision in last]}


def _add_deciding(app: FastAPI, queue: Queue, check: Check | None) -> None:
    """What keeps decisions."""
    curation = queue.curation

    @app.post("/api/decide")
    def decide(body: Decide) -> Response:
        return _decided(queue, body, check)

    @app.post("/api/undo")
    def undo(body: Undo) -> dict[str, Any]:
        if curation.reviewer_of(body.number) != body.reviewer:
            raise HTTPException(404, f"{body.reviewer} made no decision {body.number}; only one's own are taken back.")
        region = curation.undo(body.number).region_id
        queue.hold(body.reviewer, [region])
        return {"item": item_json(curation, region, body.reviewer), "progress": asdict(queue.progress(body.reviewer))}


def _decided(queue: Queue, body: Decide, check: Check | None) -> Response:
    """Keeps a decision, or says what is wrong with an edit, or that its captions are no longer there."""
    curation, sample = queue.curation, _sample(queue, body.region)
    if _is_rewritten(queue, body):
        return _rewritten()
    verdict, captions = body.verdict, tuple(body.captions or ())
    if verdict == "edit" and captions == sample.captions:
        verdict = "accept"  # words that were changed back
    if verdict == "edit" and (problems := _problems(sample, captions, check)):
        shown = [problem.to_json() for problem in problems]
        return JSONResponse({"detail": "The edit does not pass the checks.", "problems": shown}, 422)
    said: dict[str, Any] = {"reason": _reason(body) if verdict == "reject" else ""}
    said["captions"] = captions if verdict == "edit" else None
    with curation.transaction(durable=True):  # what others decided is looked at in the same moment
        if _is_rewritten(queue, body):
            return _rewritten()
        kept = curation.decide(body.region, body.reviewer, verdict, key=body.key, **said)
        history = curation.all_decisions(body.region)
    others = [own for own in history if own.reviewer != kept.reviewer and not own.undone]
    meanwhile = [decision_json(own) for own in others if body.seen < own.number < kept.number]
    return JSONResponse({"decision": decision_json(kept), "meanwhile": meanwhile, "state": outcome(history).state})


def _is_rewritten(queue: Queue, body: Decide) -> bool:
    """Whether a decision that is not kept yet is about other captions than a sample has now."""
    is_other = body.digest not in ("", digest(_sample(queue, body.region).captions))
    return is_other and not queue.curation.has_decision(body.key)


def _rewritten() -> Response:
    sentence = "This sample was written anew since its captions were shown: look at it again."
    return JSONResponse({"detail": sentence, "rewritten": True}, 409)


def _sample(queue: Queue, region: str) -> Sample:
    try:
        return queue.curation.sample(region)
    except KeyError as error:
        raise HTTPException(404, f"There is no sample {region}.") from error


def _problems(sample: Sample, captions: tuple[str, ...], check: Check | None) -> list[Any]:
    try:
        return problems_of(sample, captions, check)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def _reason(body: Decide) -> str:
    try:
        return written(body.reason, body.note)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


async def _on_malformed(request: Request, error: Exception) -> Response:
    """One sentence instead of a list of lists."""
    found = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    field = ".".join(str(part) for part in found.get("loc", ()) if part not in ("body", "query"))
    return JSONResponse({"detail": f"The request is malformed at {field or 'its start'}: {found.get('msg')}."}, 422)


async def _on_refused_write(folder: Path, request: Request, error: Exception) -> Response:
    """What a full disk or one that became read-only is said as; the page sends its decision again."""
    return JSONResponse({"detail": f"The run in {folder} cannot be written to now: {error}."}, 503)


def _identity(queue: Queue) -> tuple[str, str]:
    """A name for the run and a token, which stay the same when the server is started again."""
    curation = queue.curation
    with curation.transaction():
        known = curation.noted("review")
        if known is None:
            known = {"run": secrets.token_hex(8), "token": secrets.token_urlsafe(24)}
            curation.note("review", known)
    return known["run"], known["token"]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
