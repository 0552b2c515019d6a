"""Dask's table of versions that differ, kept to packages that carry the messages.

Dask warns of numpy, pandas and lz4 as well. Boards lack some of them by design, and cspbench
compares the libraries that are measured itself.
"""

from __future__ import annotations

import logging
import re
import warnings

#: A table in which none of these packages has a row.
_HARMLESS = re.compile(
    r"(?!.*\|\s*(?:dask|distributed|msgpack|cloudpickle|tornado|toolz|python)\s*\|)"
    r".*Mismatched versions found",
    re.DOTALL,
)
_LOGGERS = ("distributed.worker", "distributed.scheduler")


def _matters(record: logging.LogRecord) -> bool:
    return not _HARMLESS.match(record.getMessage())


def ignore_harmless() -> None:
    """Let Dask say nothing of packages that no message needs; in this process, from now on."""
    from distributed.versions import VersionMismatchWarning

    warnings.filterwarnings("ignore", f"(?s:{_HARMLESS.pattern})", VersionMismatchWarning)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_matters)
