"""Darknet weights files: round trips in every header version, and damaged files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from cspbench.errors import InputError
from cspbench.models.build import build
from cspbench.models.sources.darknet.module import DarknetModule
from cspbench.models.sources.darknet.network import parse_network
from cspbench.models.sources.darknet.weights import Header, read_weights, write_weights
from cspbench.models.weights import materialize

#: Every kind of layer that has values.
CFG = """
[net]
width=8
height=8
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
groups=1
activation=leaky
[convolutional]
filters=4
size=1
activation=linear
[shortcut]
from=-2
weights_type=per_channel
[batchnorm]
[local]
filters=2
size=3
pad=1
activation=leaky
[connected]
output=5
batch_normalize=1
activation=relu
[connected]
output=6
activation=linear
"""

#: Floats of CFG in a file: convolution 4 * 4 + 3*3*3*4, convolution 4 + 4*4, shortcut 2 * 4,
#: batchnorm 4 * 4, local 2*8*8 + 2*8*8 * 4*9, connected 4 * 5 + 2*8*8 * 5, connected 6 + 5 * 6.
FLOATS = (16 + 108) + (4 + 16) + 8 + 16 + (128 + 4608) + (20 + 640) + (6 + 30)

HEADERS = {
    "0.1, 32 bits": Header(0, 1, 0, 32_013_312),
    "0.2, 64 bits": Header(0, 2, 0, 2**40 + 5),
    "0.2.5, today's": Header(0, 2, 5, 0),
    "1.0, 64 bits": Header(1, 0, 0, 7),
    "transposed": Header(1001, 0, 0, 9),
    "transposed by minor": Header(0, 1001, 0, 9),
}


def network(seed: int | None = None) -> DarknetModule:
    """The network of CFG, seeded or with its parameters on the meta device."""
    with torch.device("meta"):
        module = DarknetModule(parse_network(CFG, "a.cfg"))
    return (module if seed is None else materialize(module, seed)).eval()


@pytest.mark.parametrize("name", HEADERS)
def test_round_trip(name, tmp_path):
    header, file = HEADERS[name], tmp_path / "a.weights"
    written, read = network(seed=3), network()
    write_weights(written, file, header)
    assert file.stat().st_size == 12 + (8 if header.wide else 4) + 4 * FLOATS
    assert read_weights(read, file) == header
    expected = written.state_dict()
    for key, value in read.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, expected[key]), key


def test_floats_of_the_file_are_foreseen():
    assert parse_network(CFG).params_file == FLOATS


def test_order_of_values(tmp_path):
    # A file whose values count up: biases, scales, means, variances, then weights.
    module, file = network(), tmp_path / "a.weights"
    values = np.arange(FLOATS, dtype="<f4")
    file.write_bytes(struct.pack("<iiiQ", 0, 2, 5, 0) + values.tobytes())
    read_weights(module, file)
    first = module.layers[0]
    for at, tensor in enumerate(
        (first.bn.bias, first.bn.weight, first.bn.running_mean, first.bn.running_var)
    ):
        assert tensor.tolist() == values[4 * at : 4 * at + 4].tolist()
    assert first.conv.weight.flatten().tolist() == values[16:124].tolist()
    # A connected layer has its weights before the normalisation: biases 5, weights 5 * 128.
    start = 124 + 20 + 8 + 16 + 4736
    connected = module.layers[5]
    assert connected.bn.bias.tolist() == values[start : start + 5].tolist()
    weights = values[start + 5 : start + 645]
    assert torch.equal(connected.linear.weight, torch.from_numpy(weights.reshape(5, 128)))
    assert connected.bn.weight.tolist() == values[start + 645 : start + 650].tolist()


def test_transposed_connected_layers(tmp_path):
    module, file = network(), tmp_path / "a.weights"
    values = np.arange(FLOATS, dtype="<f4")
    file.write_bytes(struct.pack("<iiiI", 1001, 0, 0, 0) + values.tobytes())
    read_weights(module, file)
    last = values[FLOATS - 30 :].reshape(5, 6)  # (inputs, outputs)
    assert torch.equal(module.layers[6].linear.weight, torch.from_numpy(last.T.copy()))


def test_transposed_files_of_forks_with_a_wide_counter(tmp_path):
    written, read, file = network(seed=1), network(), tmp_path / "a.weights"
    write_weights(written, file, Header(1001, 0, 0, 5))
    data = file.read_bytes()
    file.write_bytes(data[:12] + struct.pack("<Q", 5) + data[16:])
    assert read_weights(read, file).seen == 5
    assert torch.equal(read.layers[6].linear.weight, written.layers[6].linear.weight)


def test_values_are_used(tmp_path):
    written, read, file = network(seed=5), network(), tmp_path / "a.weights"
    write_weights(written, file)
    read_weights(read, file)
    materialize(read)  # what no file holds: the count of batches
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(read(x), written(x))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (5, "is too short for the header of a weights file"),
        (15, "is too short for the header of a weights file"),
        (20 + 4 * 2, r"ends inside layer 0 \(\[convolutional\] in line 6"),
        (20 + 4 * 130, "2 of its 16 values of weight are missing|layer 1"),
        (20 + 4 * FLOATS - 4, "1 of its 30 values of weight are missing"),
        (20 + 4 * FLOATS - 1, "1 of its 30 values of weight are missing"),
    ],
)
def test_truncated(cut, message, tmp_path):
    file = tmp_path / "a.weights"
    write_weights(network(seed=1), file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=message):
        read_weights(network(), file)


def test_too_long(tmp_path):
    file = tmp_path / "a.weights"
    write_weights(network(seed=1), file)
    file.write_bytes(file.read_bytes() + b"1234")
    with pytest.raises(InputError, match="has 4 bytes more than the 5600 values"):
        read_weights(network(), file)


def test_no_file(tmp_path):
    for nothing in (tmp_path / "missing.weights", tmp_path, "a\0b.weights"):
        with pytest.raises(InputError, match="there is no such file"):
            read_weights(network(), nothing)
    with pytest.raises(InputError, match="cannot be written"):
        write_weights(network(seed=1), tmp_path / "missing" / "a.weights")


def test_option_weights_of_the_source(tmp_path):
    (tmp_path / "a.cfg").write_text(CFG)
    written = network(seed=8)
    write_weights(written, tmp_path / "a.weights")
    torch.save({"state_dict": written.state_dict()}, tmp_path / "a.pt")
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = written(x)
        for name in ("a.weights", "a.pt"):  # found beside the configuration
            module = build(f'"darknet:{tmp_path / "a.cfg"}"[weights={name}]')
            assert torch.equal(module(x), expected)
        absolute = f'"darknet:{tmp_path / "a.cfg"}"[weights="{tmp_path / "a.weights"}"]'
        assert torch.equal(build(absolute)(x), expected)
    with pytest.raises(InputError, match="there is no such file"):
        build(f'"darknet:{tmp_path / "a.cfg"}"[weights=b.weights]')
