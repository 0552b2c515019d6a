"""Damaged configurations: an InputError or a network, nothing else, and soon."""

from __future__ import annotations

import re
import subprocess
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cspbench.errors import InputError
from cspbench.models.sources.darknet.cfg import MAX_BYTES, MAX_NUMBERS, MAX_SECTIONS
from cspbench.models.sources.darknet.network import DarknetNetwork, parse_network
from cspbench.models.sources.darknet.sections import SECTIONS, UNSUPPORTED
from tests.models.darknet_tables import tables

TABLES = tables()
WHOLE = {name: TABLES[name].cfg() for name in ("yolov3-tiny-prn", "efficientnet-b0", "resnet10")}
NUMBER = re.compile(r"-?\d+")
NUMBERS = st.sampled_from(
    ["-1", "0", "1", "-2147483649", "4294967296", "9" * 40, "1e9", "nan", "", "-", "0x10", "２"]
) | st.integers(-70_000, 70_000).map(str)


def read(text: str) -> DarknetNetwork | None:
    """The network of ``text``, or None where it is refused; checks what every answer must hold."""
    try:
        network = parse_network(text, "a.cfg")
    except InputError as refused:
        problems = refused.problems
    else:
        problems = ()
    for problem in problems:
        assert problem.startswith("a.cfg:")
        assert problem.isprintable()
        assert len(problem) < 400
    if problems:
        return None
    for layer in network.layers:
        assert all(-1 <= source < layer.index for source in layer.sources)
        assert all(side > 0 for side in layer.out_shape)
        assert layer.macs >= 0
    return network


@settings(max_examples=150)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_truncated(name, data):
    text = WHOLE[name]
    read(text[: data.draw(st.integers(0, len(text)))])


@settings(max_examples=150)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_lines_missing_doubled_and_swapped(name, data):
    lines = WHOLE[name].splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        to = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["delete", "double", "swap", "cut"]))
        if kind == "delete":
            del lines[min(at, to) : max(at, to)][:20]
            lines = lines or ["[net]"]
        elif kind == "double":
            lines.insert(to, lines[at])
        elif kind == "swap":
            lines[at], lines[to] = lines[to], lines[at]
        else:
            lines[at] = lines[at][: len(lines[at]) // 2]
    read("\n".join(lines))


@settings(max_examples=200)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_numbers_replaced(name, data):
    text = WHOLE[name]
    spans = [match.span() for match in NUMBER.finditer(text)]
    for start, end in sorted(data.draw(st.sets(st.sampled_from(spans), max_size=3)), reverse=True):
        text = text[:start] + data.draw(NUMBERS) + text[end:]
    read(text)


KEYS = st.sampled_from(
    re.findall(
        r"\w+",
        """size stride filters groups pad padding layers from activation output out_channels classes
        maxpool_depth mask num side reverse width height channels group_id dilation scale crop_width
        antialiasing share_index weights_type weights_normalization scale_wh crop_height""",
    )
)
VALUES = NUMBERS | st.sampled_from(["leaky", "-1,-2", "0,0", "per_channel", "softmax", "mish"])
OPTION = st.tuples(KEYS, VALUES).map("=".join)
HEADER = st.sampled_from([*SECTIONS, *UNSUPPORTED, "net", "nonsense"]).map("[{}]".format)
NET = "[net]\nwidth=16\nheight=16\nchannels=4\n"


@settings(max_examples=300)
@given(st.lists(HEADER | OPTION, max_size=30))
def test_any_sections_with_any_options(lines):
    read(NET + "\n".join(lines))


@settings(max_examples=150)
@given(st.text(max_size=200))
@example("[net]\n[")
@example("=")
@example("[net]\x00\nwidth=1")
def test_any_text(text):
    read(text)
    read(NET + text)


def worst_cases() -> dict[str, str]:
    """Files of the largest legal size that make the reader work hardest."""
    first = "[net]\nwidth=64\nheight=64\nchannels=3\n[dropout]\n"
    route = f"[route]\nlayers={','.join(['-1'] * MAX_NUMBERS)}\n"
    route += "[maxpool]\nmaxpool_depth=1\nout_channels=3\n"
    return {
        "many layers": first + "[dropout]\n" * (MAX_SECTIONS - 2),
        "many sources": first + route * (MAX_SECTIONS // 2 - 1),
        "many options": first + "a=1\n" * (MAX_BYTES // 4 - 40),
        "different options": first + "".join(f"{n}=1\n" for n in range(MAX_BYTES // 9 - 40)),
        "one long value": first + "key=" + "1" * (MAX_BYTES - 100),
        "one long comment": first + "#;" * (MAX_BYTES // 2 - 100),
        "many empty lines": "\r" * MAX_BYTES,
        "one long name": "[" + "n" * (MAX_BYTES - 2) + "]",
        "one size only": first + "[dropout]\n" * (MAX_SECTIONS - 3) + "[connected]\n",
        "spaces": first + "a " * (MAX_BYTES // 2 - 100) + "=1",
    }


def test_the_worst_files_take_little_memory_and_do_not_hang(tmp_path):
    for number, text in enumerate(worst_cases().values()):
        (tmp_path / f"{number}.cfg").write_text(text, newline="")
    code = (
        "import pathlib, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (256 * 2**20, 256 * 2**20))\n"
        "from cspbench.errors import InputError\n"
        "from cspbench.models.sources.darknet import spec\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.cfg'):\n"
        "    try:\n"
        "        spec(str(path))\n"
        "    except InputError:\n"
        "        pass\n"
        "    print(path.name)\n"
    )
    # A hang would end in the time-out; a file takes a fraction of a second.
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True, timeout=120, capture_output=True, text=True,
    )  # fmt: skip
    assert len(done.stdout.split()) == len(worst_cases())
