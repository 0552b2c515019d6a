"""What a command costs: processor time and peak memory of a process with all that it starts.

``python tests/spent.py COMMAND...`` prints one JSON object. It is a process of its own, because the
kernel counts the memory of the process that starts a command as the command's, and pytest is large.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Only to end a command that hangs.
HANG_SECONDS = 600
#: What no command may take for an input below 10 MB (weights that large aside).
MOST_MB = 512
MOST_SECONDS = 10


@dataclass(frozen=True)
class Spent:
    """A command's end; ``seconds`` are processor time, which a busy machine does not change."""

    code: int
    output: str
    seconds: float
    peak_mb: float

    @property
    def modest(self) -> bool:
        """True if it took no more than any command may."""
        return self.peak_mb <= MOST_MB and self.seconds <= MOST_SECONDS


def spent(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Spent:
    """Run a command to its end."""
    measured = subprocess.run(
        [sys.executable, __file__, *map(str, command)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )
    return Spent(**json.loads(measured.stdout))


def main() -> None:
    """Run the command in the arguments."""
    ended = subprocess.run(
        sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    json.dump(
        {
            "code": ended.returncode,
            "output": ended.stdout.decode(errors="replace"),
            "seconds": used.ru_utime + used.ru_stime,
            "peak_mb": used.ru_maxrss / 1024,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
