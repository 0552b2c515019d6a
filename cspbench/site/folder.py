"""The folder of a site: its pages, and its data as chunks that pages load as scripts.

A page from ``file://`` may fetch nothing, but its script may load scripts. A chunk is a call with
one JSON value, whose texts are escaped as in every page.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from cspbench.core.files import make_folder, open_input, write_output
from cspbench.errors import InputError
from cspbench.report.data import to_script

#: What was written, and from what: file -> digest of its inputs. It marks the folder of a site.
STATE = "data/state.json"
#: Names of files that a site writes; nothing else is ever removed.
_OWN = re.compile(
    r"(?:(?:run|case|machine|data|data/\w+)/)?[A-Za-z0-9][A-Za-z0-9._-]*\.(?:html|js)"
)


class SiteFolder:
    """Writes what has changed, and removes what a site no longer holds."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written = 0
        self._before = self._state()
        self._now: dict[str, str] = {}

    def page(self, name: str, inputs: object, render: Callable[[], str]) -> None:
        """Write a page, unless it was written from the same inputs."""
        digest = _digest(inputs)
        self._now[name] = digest
        if self._before.get(name) != digest or not (self.out / name).exists():
            self._write(name, render())

    def chunk(self, name: str, value: Any, inputs: object = None) -> None:
        """Write data that pages load by its name; ``inputs`` say whether it is new."""
        file = f"data/{name}.js"
        digest = _digest(value if inputs is None else inputs)
        self._now[file] = digest
        if self._before.get(file) != digest or not (self.out / file).exists():
            self._write(file, f"{_call(name)}{to_script(value)});\n")

    def read_chunk(self, name: str) -> Any:
        """The value of a chunk of an earlier build; None if there is none."""
        with contextlib.suppress(OSError, ValueError):
            with open_input(self.out / "data" / f"{name}.js") as file:
                text = file.read().decode()
            if text.startswith(_call(name)):
                return from_json(text[len(_call(name)) : -len(");\n")])
        return None

    def keep_chunk(self, name: str) -> bool:
        """Keep a chunk of an earlier build as it is; False if there is none."""
        file = f"data/{name}.js"
        if file not in self._before:
            return False
        self._now[file] = self._before[file]
        return True

    def finish(self) -> int:
        """Remove pages and chunks of runs that are gone; return how many files have changed."""
        gone = [name for name in self._before if name not in self._now and _OWN.fullmatch(name)]
        for name in gone:
            with contextlib.suppress(OSError):
                (self.out / name).unlink()
        changed = self.written + len(gone)
        if changed:
            self._write(STATE, json.dumps(self._now, indent=0, sort_keys=True))
        return changed

    def _write(self, name: str, content: str) -> None:
        write_output(self.out / name, content, folder=True)
        self.written += name != STATE

    def _state(self) -> dict[str, str]:
        file = self.out / STATE
        try:
            if not file.exists() and self.out.is_dir() and any(self.out.iterdir()):
                raise InputError(
                    f"{self.out} holds files that are no site of cspbench: name an empty folder"
                )
            make_folder(self.out)
            with open_input(file) as opened:
                state = from_json(opened.read())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write a site to {self.out}: {error}") from error
        return state if isinstance(state, dict) else {}


def _call(name: str) -> str:
    return f'cspbenchData("{name}",'


def _digest(inputs: object) -> str:
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
