"""Programs that a backend compiled, in the user's cache: made once, read by later launches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import file_digest, replacing, write_whole

#: Whether this process found what it needed; None if it asked for nothing.
_was_there: bool | None = None


def was_there() -> bool | None:
    """Whether this process found its compiled program in the cache; None if it asked for none."""
    return _was_there


def compiled(
    place: tuple[str, str],
    artifact: Path,
    facts: Mapping[str, object],
    make: Callable[[Path], None],
) -> Path:
    """The compiled form of an artifact, which is made where the cache has none.

    Args:
        place: folder of the cache, and the file's suffix with its dot.
        artifact: what is compiled; its content is part of the key.
        facts: what else the compiler's answer depends on: versions, device, settings.
        make: writes it to a path.

    Returns:
        A file whose content is what was written: it is hashed when it is read, too.
    """
    global _was_there  # noqa: PLW0603 - one worker runs one model
    text = json.dumps({"artifact": file_digest(artifact), **facts}, sort_keys=True, default=str)
    folder, suffix = cache_folder(place[0]), place[1]
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}{suffix}"
    noted = path.with_suffix(".sha256")
    _was_there = noted.exists() and noted.read_text() == file_digest(path)
    if not _was_there:
        make_cache_folder(folder)
        with replacing(path, shared=True) as temporary:
            make(temporary)
        write_whole(noted, file_digest(path).encode(), shared=True)
    return path
