"""What requests hold, checked for form; what needs the picture or the model is checked later.

Coordinates are source pixels after the EXIF turn; boxes are XYXY.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, StrictStr

Text = StrictStr
Handle = Annotated[str, Field(description="The id of an open picture, or a data URL; an http(s) URL if allowed.")]


class Body(BaseModel):
    """A part of a request, without unknown fields."""

    model_config = ConfigDict(extra="forbid")


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
    text: Text


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
    content: StrictStr | Annotated[list[Part], Field(min_length=1, max_length=64)]


class EmbeddingsRequest(Body):
    """Texts in `input`, or a picture with words and a visual prompt in `messages`."""

    model: StrictStr | None = None
    input: Annotated[Any, Field(description="A text or a list of texts.")] = None
    messages: Annotated[list[Message] | None, Field(description="One user message.")] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or base64 of little-endian float32.")
    ] = "float"
    dimensions: Annotated[StrictInt | None, Field(description="Keep only so many, as unit vectors again.")] = None
    user: Annotated[StrictStr | None, Field(description="Taken for compatibility; changes nothing.")] = None
    instruction: Annotated[Text | None, Field(description="What the embeddings are for.")] = None


class Embedding(BaseModel):
    """One embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens of the texts; pictures are not counted."""

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

    id: str
    object: Literal["image"] = "image"
    width: int
    height: int
    bytes: int
    expires_in: int | None = None


class Deleted(BaseModel):
    """A picture that is no longer open."""

    id: str
    object: Literal["image"] = "image"
    deleted: bool = True


class MaskRequest(Prompt):
    """A picture and what in it is meant."""

    image: Handle


class MaskAnswer(BaseModel):
    """What the model sees there."""

    mask: Annotated[dict[str, Any], Field(description="COCO run lengths: size [height, width] and counts.")]
    quality: Annotated[float, Field(description="The intersection over union that the model predicts.")]
    box: Annotated[list[float] | None, Field(description="Around the mask; null if it is empty.")]
    outline: Annotated[str, Field(description="The mask's edge as an SVG path in source pixels, for strokes.")]


class Query(Prompt):
    """Words, a picture, or both, with what in the picture is meant."""

    text: Text | None = None
    image: Handle | None = None
    instruction: Annotated[Text | None, Field(description="What the embedding is for.")] = None


class SearchRequest(Body):
    """What to look for."""

    query: Query
    top_k: Annotated[int, Field(ge=1, le=1000, strict=True)] = 20
    filter: Annotated[
        StrictStr | None, Field(max_length=2000, description="A condition in SQL on the index's columns: width >= 800.")
    ] = None
    kind: Annotated[Literal["image", "region"] | None, Field(description="Only whole images, or only regions.")] = None


class FoundHit(BaseModel):
    """A picture, or a region in one."""

    path: str
    kind: Literal["image", "region"]
    similarity: float
    box: list[float] | None
    mask: dict[str, Any] | None = None
    outline: Annotated[str | None, Field(description="The region's edge as an SVG path in source pixels.")] = None
    width: int
    height: int
    image: Annotated[str, Field(description="Where the picture is.")]


class SearchAnswer(BaseModel):
    """Hits, the most similar first."""

    object: Literal["list"] = "list"
    data: list[FoundHit]


class RankRequest(Body):
    """What is this? A picture, what in it is meant, and what it may be."""

    query: Query
    candidates: Annotated[list[Text], Field(min_length=1)]


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

    path: str
    bytes: int
    image: str


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
