"""Put files into the cache so that nobody ever sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary neighbour, then move it into place."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_outputs(path: Path, outputs: Sequence[np.ndarray]) -> None:
    """Store reference outputs, in order, as ``.npz``."""
    import numpy as np

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez(file, *outputs)

    write_atomically(path, write)
