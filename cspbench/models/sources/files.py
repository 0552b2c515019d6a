"""Files that sources read: checked paths and checkpoints. Imports torch only where it loads one."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.options import Axis, Options
from cspbench.core.text import printable
from cspbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn

#: An archive's members may be this many times larger than it, and this much in bytes besides.
MAX_RATIO = 20
MAX_SMALL = 2**20
#: The option of every source that can load weights.
WEIGHTS = Axis("weights", "", "text", summary="file of weights; without it they are seeded")


def regular_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a regular file that exists.

    Raises:
        InputError: it is not; ``what`` names the kind of file.
    """
    try:
        if Path(path).is_file():
            return Path(path)
    except (OSError, ValueError):  # too long, or with a null character
        pass
    raise InputError(f"{path}: there is no such file ({what})")


def check_archive(path: Path) -> None:
    """Refuse an archive that becomes far larger than it is. torch writes its own uncompressed.

    What is no archive passes: its reader says what is wrong.

    Raises:
        InputError: its members are larger than MAX_RATIO times the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return
    size = path.stat().st_size
    if members > MAX_RATIO * size + MAX_SMALL:
        raise InputError(
            f"{path}: its {size:,} bytes would become {members:,}, more than {MAX_RATIO} times as "
            "many; store it uncompressed, as torch does"
        )


def weights_file(options: Options, folder: Path | None = None) -> Path | None:
    """Return the file that the option ``weights`` names, or None without it.

    A relative path is looked up in ``folder`` (beside the file that defines the model) first, then
    in the working directory.

    Raises:
        InputError: there is no such file.
    """
    name = str(options.get("weights", ""))
    if not name:
        return None
    if folder is not None and (folder / name).is_file():
        return folder / name
    return regular_file(name, "option weights")


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Load a state dict into ``module``, never running code (``weights_only=True``).

    A dictionary with a ``state_dict`` or ``model`` entry is opened; parameters on the meta device
    become real.

    Raises:
        InputError: not a checkpoint of plain tensors, not this model's, or one that is compressed
            beyond MAX_RATIO.
    """
    import torch

    check_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error class of its own
        raise InputError(
            f"{path}: is not a checkpoint of plain tensors ({_first_line(error)})"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise InputError(f"{path}: contains a {type(state).__name__}, not a state dict")
    try:
        module.load_state_dict(state, assign=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: does not fit the model ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return printable(text)[:300]
