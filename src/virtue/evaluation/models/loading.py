"""From a name to whatever can be measured: this project's checkpoints, sentence-transformers models, servers.

- "nano", a folder or a Hub id: an `Embedder`, unless the folder is laid out for sentence-transformers
  (`modules.json`); then a `SentenceEncoder`.
- "st:NAME": a `SentenceEncoder` in any case, as of a plain BERT or CLIP.
- "http://host:8000/v1#MODEL": a `ServerEncoder`; "openai:MODEL" is one at OpenAI, or at the option `base_url`.

Options may stand behind the name, as a command has them: "st:openai/clip-vit-base-patch32?fuse=sum",
"http://host:8000/v1#MODEL?dimensions=256&visual_prompts=true".
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from virtue.evaluation.models.encoder import Encoder

OPENAI = "https://api.openai.com/v1"

_TEXTS = ("revision", "base_url")  # a commit may look like a number
_SENTENCE_FILES = ("modules.json", "config_sentence_transformers.json")


def load_encoder(name: str, *, device: str | None = None, **options: Any) -> Encoder:
    """Load a model to be measured.

    Args:
        name: Which one, as the module's text says.
        device: Where it runs; by default the first of cuda, mps and cpu that there is. Means nothing to a server.
        options: What else the model takes: the arguments of `Embedder.from_pretrained`,
            `SentenceEncoder.from_pretrained` or `ServerEncoder`. They win over those behind the name.

    Raises:
        ValueError: If there is no such model, or it takes no such option; the message says which.
    """
    name, written = _split(name)
    options = written | options
    scheme, _, rest = name.partition(":")
    if scheme in ("http", "https"):
        address, _, model = name.partition("#")
        if not model:
            raise ValueError(f"Which model of {name}? Write address and model as http://host:8000/v1#MODEL.")
        return _server(name, address, model, options)
    if scheme == "openai":
        return _server(name, options.pop("base_url", OPENAI), rest, options)
    if scheme == "st":
        return _sentence(name, rest, device, options)
    if _is_for_sentences(name, options.get("revision")):
        return _sentence(name, name, device, options)
    from virtue.embedder import Embedder

    _check(name, Embedder.from_pretrained, options)
    return Embedder.from_pretrained(name, device=device, **options)


def _split(name: str) -> tuple[str, dict[str, Any]]:
    """A name, and the options that stand behind it."""
    known, _, query = name.partition("?")
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError(f"Options are written behind a name as {known}?key=value&key=value, not {name}.") from None
    if any(key == "api_key" for key, _ in pairs):
        raise ValueError(f"{known} is no place for an API key, as reports show names: set OPENAI_API_KEY.")
    return known, {key: text if key in _TEXTS else _value(text) for key, text in pairs}


def _value(text: str) -> str | int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _server(name: str, address: str, model: str, options: Mapping[str, Any]) -> Encoder:
    from virtue.evaluation.models.server_encoder import ServerEncoder

    _check(name, ServerEncoder, options)
    if address == OPENAI and not options.get("api_key") and not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(f"{name} needs an API key: set OPENAI_API_KEY, or name another server by base_url.")
    return ServerEncoder(address, model, **options)


def _sentence(name: str, known: str, device: str | None, options: Mapping[str, Any]) -> Encoder:
    try:
        from virtue.evaluation.models.sentence_encoder import SentenceEncoder
    except ImportError as error:
        raise ValueError(f"{name} needs sentence-transformers: pip install 'virtue[eval]'.") from error
    _check(name, SentenceEncoder.from_pretrained, options)
    return SentenceEncoder.from_pretrained(known, device=device, **options)


def _is_for_sentences(name: str, revision: str | None) -> bool:
    """Whether a folder or Hub id holds a sentence-transformers model that is none of this project's.

    Raises:
        ValueError: If there is no such folder or Hub id, or it holds neither.
    """
    from virtue.embedder.loading import bundled
    from virtue.model.checkpoints import is_released
    from virtue.model.weight_files import find_folder, read_json

    if bundled(name) is not None:
        return False
    folder = find_folder(name, ("*.json",), revision)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("model_type") == "virtue" or "virtue_sam" in config:
        return False
    if any((folder / file).is_file() for file in _SENTENCE_FILES):
        return True
    if config and not is_released(folder):
        raise ValueError(
            f"{name} holds a {config.get('model_type')!r} model, none of this project's: write st:{name} to have it "
            "loaded by sentence-transformers."
        )
    return False


def _check(name: str, loader: Callable[..., object], options: Mapping[str, Any]) -> None:
    known = inspect.signature(loader).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        takes = [key for key, value in known.items() if value.kind is value.KEYWORD_ONLY and key != "device"]
        raise ValueError(f"{name} takes no option {unknown[0]}; it takes {', '.join(takes)}.")
