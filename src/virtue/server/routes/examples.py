"""Examples of requests, for the documentation of the routes; they work as written against the sample index."""

from __future__ import annotations

from fastapi.openapi.models import Example

DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGP8z8Dwn4EUwESSavwAAHh2Ag6i7pY6"
    "AAAAAElFTkSuQmCC"
)
"""A picture of 8 x 8 pixels."""

EMBEDDINGS: dict[str, Example] = {
    "texts": {"summary": "Texts", "value": {"input": ["a dog on a beach", "a cat"]}},
    "picture": {
        "summary": "A thing in a picture",
        "value": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": DOT}},
                        {"type": "visual_prompt", "points": [[4, 4, 1]]},
                        {"type": "text", "text": "in the snow"},
                    ],
                }
            ]
        },
    },
}
OPEN: dict[str, Example] = {
    "data": {"summary": "A picture that is sent along", "value": {"image": DOT}},
    "index": {"summary": "A picture of the index", "value": {"index_path": "scene-1329.png"}},
}
MASK: dict[str, Example] = {"point": {"summary": "A click", "value": {"image": DOT, "points": [[4, 4, 1]]}}}
SEARCH: dict[str, Example] = {
    "words": {"summary": "By words", "value": {"query": {"text": "a dog on a beach"}, "top_k": 5}},
    "thing": {
        "summary": "By a thing in a picture",
        "value": {"query": {"image": DOT, "points": [[4, 4, 1]], "text": "in the snow"}, "kind": "region"},
    },
}
RANK: dict[str, Example] = {
    "captions": {
        "summary": "What is this?",
        "value": {"query": {"image": DOT, "box": [0, 0, 6, 6]}, "candidates": ["a red square", "a dog"]},
    }
}
