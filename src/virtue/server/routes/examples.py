"""Examples of requests, for the documentation of the routes; they work as written against the sample index."""

from __future__ import annotations

from fastapi.openapi.models import Example

SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAQMAAABJtOi3AAAABlBMVEX////WKCi0LpysAAAAF0lEQVR42mNgIBb8/8/A"
    "xMDAQCWCWAAA9BUCHTVYa/EAAAAASUVORK5CYII="
)
"""A red square of 16 x 16 pixels in the middle of a white picture of 32 x 32."""

EMBEDDINGS: dict[str, Example] = {
    "texts": {"summary": "Texts", "value": {"input": ["a dog on a beach", "a cat"]}},
    "picture": {
        "summary": "A thing in a picture",
        "value": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": SQUARE}},
                        {"type": "visual_prompt", "points": [[16, 16, 1]]},
                        {"type": "text", "text": "in the snow"},
                    ],
                }
            ]
        },
    },
}
OPEN: dict[str, Example] = {
    "data": {"summary": "A picture that is sent along", "value": {"image": SQUARE}},
    "index": {"summary": "A picture of the index", "value": {"index_path": "scene-1329.png"}},
}
MASK: dict[str, Example] = {
    "point": {"summary": "A click", "value": {"image": SQUARE, "points": [[16, 16, 1]]}},
    "box": {"summary": "A box", "value": {"image": SQUARE, "box": [6, 6, 26, 26]}},
}
SEARCH: dict[str, Example] = {
    "words": {"summary": "By words", "value": {"query": {"text": "a dog on a beach"}, "top_k": 5}},
    "thing": {
        "summary": "By a thing in a picture",
        "value": {"query": {"image": SQUARE, "points": [[16, 16, 1]], "text": "in the snow"}, "kind": "region"},
    },
}
RANK: dict[str, Example] = {
    "captions": {
        "summary": "What is this?",
        "value": {"query": {"image": SQUARE, "box": [6, 6, 26, 26]}, "candidates": ["a red square", "a dog"]},
    }
}
