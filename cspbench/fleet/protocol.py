"""Messages between the controller and a board: versioned JSON texts, and bytes of files.

A request is a JSON object with ``protocol`` and ``kind``; the answer is one with ``protocol`` and
``status``. cspbench pickles nothing: Dask carries the name of one function and these texts.
"""

from __future__ import annotations

import json
from typing import Any

from cspbench.core.plain import parse_plain
from cspbench.errors import CspbenchError

#: Raise with every change that an older side would misread. Both sides must have the same.
PROTOCOL = 4
#: Longest JSON text that is read.
MAX_BYTES = 64 * 2**20

Json = dict[str, Any]


class ProtocolError(CspbenchError):
    """The sender speaks another protocol version, or sent no message of cspbench."""


def encode(kind: str, content: Json) -> str:
    """Write a message of a kind.

    Raises:
        ValueError: the content is not JSON.
    """
    return json.dumps({"protocol": PROTOCOL, "kind": kind, **content}, allow_nan=False)


def decode(text: object, sender: str) -> Json:
    """Read a message.

    Args:
        text: what arrived.
        sender: names the sender in error messages.

    Raises:
        ProtocolError: the text is no message, or one of another protocol version.
    """
    # `encode` writes ASCII only. Other text would grow when it is stored.
    if not isinstance(text, str) or len(text) > MAX_BYTES or not text.isascii():
        raise ProtocolError(f"{sender} sent no message of cspbench")
    try:
        message = parse_plain(text)
    except ValueError as error:
        raise ProtocolError(f"{sender} sent no message of cspbench: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError(f"{sender} sent no message of cspbench")
    check_version(message.get("protocol"), sender)
    return message


def check_version(version: object, sender: str) -> None:
    """Refuse every protocol version but `PROTOCOL`.

    Raises:
        ProtocolError: the versions differ; the message says which side to upgrade.
    """
    if type(version) is int and version == PROTOCOL:
        return
    if type(version) is not int:
        raise ProtocolError(f"{sender} sent a message without the version of its protocol")
    side = "this cspbench" if version > PROTOCOL else sender
    raise ProtocolError(
        f"{sender} speaks protocol {version} of cspbench's fleet, and this side speaks "
        f"{PROTOCOL}: upgrade {side}"
    )
