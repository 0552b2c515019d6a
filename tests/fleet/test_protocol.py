"""Messages between controller and board: versioned JSON, refused with a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.plain import MAX_NUMBER
from cspbench.fleet.protocol import PROTOCOL, ProtocolError, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_NUMBER, MAX_NUMBER) | st.text()
    | st.floats(-MAX_NUMBER, MAX_NUMBER),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON))
def test_what_is_encoded_is_decoded(content):
    content = {key: value for key, value in content.items() if key not in ("protocol", "kind")}
    message = decode(encode("launch", content), "the board")
    assert message == {"protocol": PROTOCOL, "kind": "launch", **content}


@given(st.text() | st.binary() | st.none() | JSON.map(json.dumps))
def test_anything_else_is_refused_in_a_sentence(text):
    with pytest.raises(ProtocolError, match=r"the board (sent|speaks protocol)"):
        decode(text, "the board")


@pytest.mark.parametrize(
    ("version", "who"), [(PROTOCOL - 1, "the agent"), (PROTOCOL + 1, "this cspbench")]
)
def test_the_older_side_is_told_to_upgrade(version, who):
    text = json.dumps({"protocol": version, "kind": "board"})
    with pytest.raises(ProtocolError, match=f"upgrade {who}$"):
        decode(text, "the agent")


def test_what_is_no_json_is_not_sent():
    with pytest.raises(ValueError, match="JSON"):
        encode("launch", {"value": float("nan")})
