"""Parts of error messages."""

import difflib
from collections.abc import Iterable


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?` if something is spelled alike."""
    close = difflib.get_close_matches(word, list(candidates), 1, 0.7)
    return f" Did you mean {close[0]!r}?" if close else ""


def shortened(items: Iterable[str], limit: int = 5) -> str:
    """Returns the items separated by commas, the last ones only counted."""
    items = list(items)
    tail = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + tail
