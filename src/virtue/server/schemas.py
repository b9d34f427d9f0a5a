"""What requests hold, checked for form; what needs the picture or the model is checked later.

Coordinates are source pixels after the EXIF turn; boxes are XYXY.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, StrictStr, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from virtue.server.errors import UNKNOWN_FIELD

Text = StrictStr
Handle = Annotated[StrictStr, Field(description="The id of an open picture, or a data URL; an http(s) URL if allowed.")]
OneOrMore = Annotated[
    Any,  # checked where the number of a text that is none can be said
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}),
]


class Body(BaseModel):
    """A part of a request, without unknown fields."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _knows_all_fields(cls, given: Any) -> Any:
        """Refuses unknown fields in words that name those there are."""
        for name in given if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                shown = name.encode(errors="replace").decode()  # half of a surrogate pair could not be answered
                known = {"field": shown, "fields": ", ".join(cls.model_fields)}
                raise PydanticCustomError(UNKNOWN_FIELD, "There is no such field.", known)
        return given


class Rle(Body):
    """A mask as COCO run lengths, down the columns, the background first."""

    size: Annotated[list[StrictInt], Field(min_length=2, max_length=2, description="Height and width.")]
    counts: Annotated[StrictStr | list[StrictInt], Field(description="Compressed, or run lengths.")]


class Prompt(Body):
    """What in a picture is meant: points, a box and a mask together."""

    points: Annotated[
        list[Annotated[list[FiniteFloat], Field(min_length=2, max_length=3)]] | None,
        Field(max_length=256, description="[x, y, label] each: label 1 is on the thing, 0 is not; 1 if left out."),
    ] = None
    box: Annotated[
        list[FiniteFloat] | None, Field(min_length=4, max_length=4, description="x1, y1, x2, y2 around the thing.")
    ] = None
    mask: Annotated[Rle | None, Field(description="Its pixels, as large as the picture.")] = None


class TextPart(Body):
    """Words of a message."""

    type: Literal["text"]
    text: Annotated[Text, Field(description="Several are joined by a space.")]


class ImageUrl(Body):
    """Where a picture is."""

    url: Annotated[StrictStr, Field(description="A data URL, virtue:ID of an open picture, or an http(s) URL.")]
    detail: Annotated[str | None, Field(description="Taken for compatibility; changes nothing.")] = None


class ImagePart(Body):
    """The picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class PromptPart(Prompt):
    """The visual prompt of a message."""

    type: Literal["visual_prompt"]


Part = Annotated[TextPart | ImagePart | PromptPart, Field(discriminator="type")]


class Message(Body):
    """The message of a multimodal request."""

    role: Literal["user"]
    content: Annotated[
        StrictStr | Annotated[list[Part], Field(min_length=1, max_length=64)],
        Field(description="Words, or a list of parts."),
    ]


class EmbeddingsRequest(Body):
    """Texts in `input`, or a picture with words and a visual prompt in `messages`."""

    model: Annotated[StrictStr | None, Field(description="The model's name; the one there is if left out.")] = None
    input: Annotated[OneOrMore, Field(description="A text or a list of texts; empty or left out beside messages.")] = (
        None
    )
    messages: Annotated[
        list[Message] | None,
        Field(description="One user message: a picture, perhaps a visual prompt, perhaps words."),
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="Numbers, or base64 of little-endian float32.")
    ] = "float"
    dimensions: Annotated[StrictInt | None, Field(description="Keep only so many, as unit vectors again.")] = None
    user: Annotated[StrictStr | None, Field(description="Taken for compatibility; changes nothing.")] = None
    instruction: Annotated[Text | None, Field(description="What the embeddings are for.")] = None


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Annotated[list[float] | str, Field(description="A unit vector, or its bytes in base64.")]


class Usage(BaseModel):
    """Tokens that the language model read, those of pictures and visual prompts among them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class OpenRequest(Body):
    """A picture to open: sent along, or one of the index."""

    image: Annotated[StrictStr | None, Field(description="A data URL, or an http(s) URL if allowed.")] = None
    index_path: Annotated[StrictStr | None, Field(description="A picture of the index, by its path.")] = None


class OpenImage(BaseModel):
    """An open picture."""

    id: Annotated[str, Field(description="Names it in other requests; the same picture has the same id.")]
    object: Literal["image"] = "image"
    width: int
    height: int
    bytes: Annotated[int, Field(description="Memory that it takes.")]
    expires_in: Annotated[int | None, Field(description="Always null: it stays until memory is needed.")] = None


class Deleted(BaseModel):
    """A picture that is no longer open."""

    id: str
    object: Literal["image"] = "image"
    deleted: bool = True


class MaskRequest(Prompt):
    """A picture and what in it is meant."""

    image: Handle
    size: Annotated[
        int | None,
        Field(
            ge=1,
            strict=True,
            description="Pixels of the mask's longer side, at most; the picture's own if left out. Previews of large "
            "pictures come faster when they are small.",
        ),
    ] = None


class Mask(BaseModel):
    """A mask as compressed COCO run lengths, as pycocotools reads them."""

    size: Annotated[list[int], Field(min_length=2, max_length=2, description="Height and width.")]
    counts: str


class MaskAnswer(BaseModel):
    """What the model sees there, in pixels of the mask: those of the picture, unless a smaller mask was asked for."""

    mask: Mask
    quality: Annotated[float, Field(description="The intersection over union that the model predicts.")]
    box: Annotated[
        list[float] | None,
        Field(min_length=4, max_length=4, description="x1, y1, x2, y2 around the mask; null if it is empty."),
    ]
    outline: Annotated[
        str,
        Field(
            description="The lines between what is in the mask and what is not, as the d of an SVG path: "
            "for a stroke, as it has no inside to fill."
        ),
    ]


class Query(Prompt):
    """Words, a picture, or both, with what in the picture is meant."""

    text: Annotated[Text | None, Field(description="Words, alone or about the picture.")] = None
    image: Handle | None = None
    instruction: Annotated[Text | None, Field(description="What the embedding is for.")] = None


class SearchRequest(Body):
    """What to look for."""

    query: Query
    top_k: Annotated[int, Field(ge=1, le=1000, strict=True, description="How many hits at most.")] = 20
    filter: Annotated[
        StrictStr | None, Field(max_length=2000, description="A condition in SQL on the index's columns: width >= 800.")
    ] = None
    kind: Annotated[Literal["image", "region"] | None, Field(description="Only whole images, or only regions.")] = None


class FoundHit(BaseModel):
    """A picture, or a region in one."""

    path: str
    kind: Literal["image", "region"]
    similarity: Annotated[float, Field(description="Cosine of the angle between query and hit, at most 1.")]
    box: Annotated[
        list[float] | None, Field(min_length=4, max_length=4, description="x1, y1, x2, y2 around the region.")
    ]
    mask: Annotated[Mask | None, Field(description="The region's pixels.")] = None
    outline: Annotated[str | None, Field(description="The region's edge, as /v1/mask has it.")] = None
    width: Annotated[int, Field(description="Of the picture.")]
    height: Annotated[int, Field(description="Of the picture.")]
    image: Annotated[str, Field(description="Where the server has the picture.")]


class SearchAnswer(BaseModel):
    """Hits, the most similar first."""

    object: Literal["list"] = "list"
    data: list[FoundHit]


class RankRequest(Body):
    """What is this? A picture, what in it is meant, and what it may be."""

    query: Query
    candidates: Annotated[list[Text], Field(min_length=1, description="What it may be.")]


class Ranked(BaseModel):
    """A candidate: how similar it is to the query, and to the query without its visual prompt."""

    text: str
    similarity: float
    similarity_without: float


class RankAnswer(BaseModel):
    """Candidates in the order in which they were given."""

    object: Literal["list"] = "list"
    data: list[Ranked]


class GalleryImage(BaseModel):
    """A picture of the index."""

    path: Annotated[str, Field(description="In the indexed folder.")]
    bytes: Annotated[int, Field(description="Of the file.")]
    width: int
    height: int
    image: Annotated[str, Field(description="Where the server has the picture.")]


class Gallery(BaseModel):
    """Some of the index's pictures, by path."""

    object: Literal["list"] = "list"
    total: int
    offset: int
    data: list[GalleryImage]


class Model(BaseModel):
    """The model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "virtue"
    dimensions: int
    segments: Annotated[bool, Field(description="Whether it draws masks and reads visual prompts.")]


class Models(BaseModel):
    """The models there are: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether the server takes requests."""

    status: Literal["ok", "loading", "stopping", "failed"]


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: Annotated[str, Field(description="One sentence: what was wrong, and what would be right.")]
    type: Literal[
        "invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error", "server_error"
    ]
    param: Annotated[str | None, Field(description="Which part of the request it is about.")]
    code: Annotated[str | None, Field(description="The same for programs.")]


class ErrorAnswer(BaseModel):
    """What a request is answered with instead of a result, in OpenAI's form."""

    error: ErrorDetail
