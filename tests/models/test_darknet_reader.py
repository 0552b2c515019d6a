"""Reading .cfg text: tolerance, references, bounds, and what each mistake says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cspbench.errors import InputError
from cspbench.models.sources.darknet.cfg import MAX_BYTES, MAX_SECTIONS, parse_sections
from cspbench.models.sources.darknet.network import parse_network, read_network

NET = "[net]\nwidth=16\nheight=16\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


def problem(text: str) -> str:
    """The one sentence with which ``text`` is refused."""
    with pytest.raises(InputError) as caught:
        parse_network(text, "a.cfg")
    (sentence,) = caught.value.problems
    assert "\n" not in sentence
    return sentence


def test_comments_spaces_line_ends_and_duplicates():
    text = (
        "\ufeff# a comment\r\n; another\r\n\r\n"
        "  [ net ]  # behind a section\r\n"
        " width = 16\r\nheight=16;behind a value\r\n\tchannels\t=\t3\r\n"
        "[convolutional]\r\nfilters=4\r\nfilters=9\r\nsize=1\r\nsome_new_key=1"
    )
    network = parse_network(text.lstrip("\ufeff"))
    # The first of two equal keys wins, as in Darknet.
    assert network.layers[0].out_shape == (4, 16, 16)
    assert network.layers[0].line == 8


def test_a_byte_order_mark_and_old_line_ends_are_read(tmp_path):
    file = tmp_path / "a.cfg"
    file.write_bytes(b"\xef\xbb\xbf" + (NET + CONV).replace("\n", "\r").encode())
    assert len(read_network(file).layers) == 1


def test_sections_and_values_know_their_lines():
    sections = parse_sections(NET + "\n" + CONV)
    assert [(section.name, section.line) for section in sections] == [
        ("net", 1),
        ("convolutional", 6),
    ]
    assert sections[1].options["size"].line == 8


def test_short_names_and_network():
    text = NET.replace("[net]", "[network]") + "[conv]\nfilters=4\n[max]\n[avg]\n[soft]\n"
    kinds = [layer.kind for layer in parse_network(text).layers]
    assert kinds == ["conv", "max", "avg", "soft"]


WRONG = {
    "empty": ("", "a.cfg: has no [net] section, so it is not a network"),
    "only comments": ("# nothing\n", "a.cfg: has no [net] section, so it is not a network"),
    "no net": (CONV, "a.cfg:1: the first section must be [net], not [convolutional]"),
    "no layers": (NET, "a.cfg:1: [net] is not followed by any layer"),
    "second net": (NET + CONV + NET, "a.cfg:9: [net] appears a second time"),
    "no width": (
        "[net]\nheight=16\nchannels=3\n" + CONV,
        "a.cfg:1: [net] needs width=: networks without an image as input are not supported",
    ),
    "cut header": (NET + "[convolu", "a.cfg:5: '[convolu' is not a [section]"),
    "cut key": (NET + CONV + "activa", "a.cfg:9: 'activa' is neither [section] nor key=value"),
    "no value": (NET + "[net]\nsize=\n", "a.cfg:6: 'size=' is neither [section] nor key=value"),
    "option first": ("width=1\n" + NET, "a.cfg:1: 'width=1' comes before the first section"),
    "typo": (
        NET + "[convolutionl]\n",
        "a.cfg:5: [convolutionl] is not a Darknet section (did you mean 'convolutional'?)",
    ),
    "unsupported": (
        NET + "[lstm]\noutput=5\n",
        "a.cfg:5: [lstm] is not supported: recurrent networks keep a state between images",
    ),
    "no number": (
        NET + "[convolutional]\nfilters=many\n",
        "a.cfg:6: [convolutional] filters must be a whole number, not 'many'",
    ),
    "negative": (
        NET + "[convolutional]\nfilters=-4\n",
        "a.cfg:6: [convolutional] filters=-4 must be between 1 and 131072",
    ),
    "huge": (
        NET + "[convolutional]\nfilters=4294967296\n",
        "a.cfg:6: [convolutional] filters=4294967296 must be between 1 and 131072",
    ),
    "absurd": (
        NET + "[convolutional]\nfilters=" + "9" * 5000 + "\n",
        "a.cfg:6: [convolutional] filters must be a whole number, not '" + "9" * 37 + "...'",
    ),
    "huge input": (
        NET.replace("16", "1000000") + CONV,
        "a.cfg:3: [net] height=1000000 must be between 1 and 16384",
    ),
    "huge map": (
        NET.replace("16", "16384") + CONV,
        "a.cfg:5: [convolutional] its output of 4x16384x16384 is larger than this reader allows",
    ),
    "growing map": (
        NET + CONV + "[upsample]\nstride=1000\n",
        "a.cfg:9: [upsample] its output of 4x16000x16000 is larger than this reader allows",
    ),
    "too many weights": (
        NET + ("[connected]\noutput=100000\n" * 2),
        "a.cfg:7: [connected] brings the network to more than 1073741824 weights",
    ),
    "zero stride": (
        NET + "[convolutional]\nstride=0\n",
        "a.cfg:6: [convolutional] stride=0 must be between 1 and 1024",
    ),
    "kernel too large": (
        NET + "[convolutional]\nsize=17\n",
        "a.cfg:6: [convolutional] size=17 does not fit the 16x16 map before it",
    ),
    "groups": (
        NET + "[convolutional]\nfilters=4\ngroups=2\n",
        "a.cfg:7: [convolutional] groups=2 must divide the 3 input channels and filters=4",
    ),
    "activation": (
        NET + "[convolutional]\nactivation=leeky\n",
        "a.cfg:6: [convolutional] unknown activation 'leeky' (did you mean 'leaky'?)",
    ),
    "dilation": (
        NET + "[convolutional]\nsize=3\ndilation=2\n",
        "a.cfg:7: [convolutional] dilation=2 needs pad=1 and an odd size",
    ),
    "route without layers": (NET + CONV + "[route]\n", "a.cfg:9: [route] needs layers="),
    "dangling": (
        NET + CONV + "[route]\nlayers=-5\n",
        "a.cfg:10: [route] layers=-5: layer 1 has only 1 layers before it",
    ),
    "itself": (
        NET + CONV + "[route]\nlayers=1\n",
        "a.cfg:10: [route] layers=1: layer 1 can only read layers before it, not layer 1",
    ),
    "cyclic": (
        NET + CONV + "[shortcut]\nfrom=2\n" + CONV,
        "a.cfg:10: [shortcut] from=2: layer 1 can only read layers before it, not layer 2",
    ),
    "the first layer has nothing before it": (
        NET + "[shortcut]\nfrom=-1\n",
        "a.cfg:6: [shortcut] from=-1: layer 0 has only 0 layers before it",
    ),
    "a list with a hole": (
        NET + CONV + "[route]\nlayers=-1,\n",
        "a.cfg:10: [route] layers must be a whole number, not ''",
    ),
    "a long list": (
        NET + CONV + "[route]\nlayers=" + "-1," * 1000 + "\n",
        "a.cfg:10: [route] layers lists more than 64 numbers",
    ),
    "sizes differ": (
        NET + CONV + "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=-1,0\n",
        "a.cfg:13: [route] layer 0 is 16x16 but layer 1 is 8x8",
    ),
    "route groups": (
        NET + CONV + "[route]\nlayers=-1\ngroups=3\n",
        "a.cfg:11: [route] groups=3 must divide the 4 channels of layer 0",
    ),
    "group_id": (
        NET + CONV + "[route]\nlayers=-1\ngroups=2\ngroup_id=2\n",
        "a.cfg:12: [route] group_id=2 must be between 0 and 1",
    ),
    "shortcut from a coarser map": (
        NET + "[maxpool]\nsize=2\nstride=2\n[upsample]\n[shortcut]\nfrom=0\n",
        "a.cfg:10: [shortcut] layer 0 is 8x8, which cannot be added to 16x16",
    ),
    "scale_channels": (
        NET + CONV + CONV + "[scale_channels]\nfrom=-2\n",
        "a.cfg:14: [scale_channels] needs 4 channels of 1x1 before it, not 4 of 16x16",
    ),
    "sam": (
        NET + CONV + "[avgpool]\n[sam]\nfrom=-2\n",
        "a.cfg:10: [sam] layer 0 is 4x16x16 but 4x1x1 is before it",
    ),
    "maxout": (
        NET + CONV + "[maxpool]\nmaxpool_depth=1\nout_channels=3\n",
        "a.cfg:11: [maxpool] out_channels=3 must divide the 4 input channels",
    ),
    "reorg": (
        NET + "[reorg3d]\nstride=3\n",
        "a.cfg:6: [reorg3d] stride=3 must divide the 16x16 map",
    ),
    "crop": (
        NET + "[crop]\ncrop_height=20\ncrop_width=10\n",
        "a.cfg:5: [crop] a 20x10 crop does not fit the 16x16 map",
    ),
    "class tree": (
        NET + "[softmax]\ntree=data/9k.tree\n",
        "a.cfg:6: [softmax] tree= (hierarchical classes) is not supported",
    ),
    "detection": (
        NET + "[convolutional]\nfilters=18\n[yolo]\nmask=0,1,2\nclasses=80\n",
        "a.cfg:7: [yolo] 3 anchors of 80 classes need 255 channels before it, not 18",
    ),
    "rotated kernels": (
        NET + "[convolutional]\nsize=3\nrotate=1\n",
        "a.cfg:7: [convolutional] rotate is not supported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_one_sentence(name):
    text, sentence = WRONG[name]
    assert problem(text) == sentence


def test_control_characters_do_not_reach_the_terminal():
    assert "\x1b" not in problem(NET + "[convolutional]\nactivation=\x1b[31mred\n")
    assert "\x1b" not in problem(NET + "[\x1b]\n")
    assert "\x1b" not in problem(NET + CONV + "\x1b\n")


def test_bounds_of_a_file(tmp_path):
    file = tmp_path / "large.cfg"
    file.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="is larger than 1 MiB"):
        read_network(file)
    sections = "[dropout]\n" * MAX_SECTIONS
    with pytest.raises(InputError, match=f"more than {MAX_SECTIONS} sections"):
        parse_network(NET + sections)


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_network(tmp_path / "missing.cfg")
    with pytest.raises(InputError, match="cannot be read"):
        read_network(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_network("a\0b.cfg")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="is not a regular file"):
        read_network(pipe)
    binary = tmp_path / "binary.cfg"
    binary.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError, match=r"binary.cfg:1: "):
        read_network(binary)


def test_reading_imports_nothing_heavy(tmp_path):
    file = tmp_path / "a.cfg"
    file.write_text(NET + CONV)
    code = (
        "import sys\n"
        "from cspbench.models.spec import SOURCES\n"
        f"spec = SOURCES.get('darknet').spec({str(file)!r})\n"
        "assert spec.size == (16, 16), spec\n"
        "heavy = {'torch', 'cv2', 'pandas', 'matplotlib', 'numpy', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
