"""What the controller and a board say to each other: versioned JSON texts, and bytes of files.

A request is a JSON object with ``protocol`` and ``kind``; the answer is one with ``protocol`` and
``status``. Nothing of ours is pickled: Dask carries the name of one function and these texts.
"""

from __future__ import annotations

import json
from typing import Any

from cspbench.errors import CspbenchError

#: Raise with every change that an older side would misread. Both sides must have the same.
PROTOCOL = 2
#: Longest JSON text that is read.
MAX_BYTES = 64 * 2**20

Json = dict[str, Any]


class ProtocolError(CspbenchError):
    """The other side speaks another protocol, or no protocol at all; one sentence."""


def encode(kind: str, content: Json) -> str:
    """A message of a kind.

    Raises:
        ValueError: the content is not JSON.
    """
    return json.dumps({"protocol": PROTOCOL, "kind": kind, **content}, allow_nan=False)


def decode(text: object, who: str) -> Json:
    """Read a message.

    Args:
        text: what arrived.
        who: who sent it, for the sentence.

    Raises:
        ProtocolError: another version, or not a message.
    """
    if not isinstance(text, str) or len(text) > MAX_BYTES:
        raise ProtocolError(f"{who} sent no message of cspbench")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{who} sent no message of cspbench") from None
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError(f"{who} sent no message of cspbench")
    check_version(message.get("protocol"), who)
    return message


def check_version(version: object, who: str) -> None:
    """Refuse every protocol but ours.

    Raises:
        ProtocolError: says who must do what.
    """
    if version == PROTOCOL:
        return
    newer = isinstance(version, int) and version > PROTOCOL
    side = "this cspbench" if newer else who
    raise ProtocolError(
        f"{who} speaks protocol {version!r} of cspbench's fleet, and this side speaks {PROTOCOL}: "
        f"upgrade {side}"
    )
