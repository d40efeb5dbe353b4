"""Whether a file is the one that was pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 22


def file_sha256(file: Path, progress: Callable[[int], None] = lambda count: None) -> str:
    """Return the SHA-256 of a file (hex); `progress` gets the number of bytes read since the last call."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()
