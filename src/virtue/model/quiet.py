"""Keeps transformers from printing what is no news to a user: bars of its own, and warnings about what is meant so."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the bars of transformers inside, and leave the setting as it was."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def only_errors() -> Iterator[None]:
    """Hide the warnings of transformers inside, and leave the setting as it was."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
