"""The session of a program on a CUDA device, against a stand-in for torch.cuda."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cspbench.backends import _torch_cuda
from cspbench.backends.spec import DeviceMemory, DeviceTimes, Extends
from cspbench.errors import Unsupported
from tests.backends.card import Card


@pytest.fixture
def cuda():
    """An invented device."""
    return Card()


def cuda_session(cuda, dtype=torch.float32, **more):
    def call(tensor):
        cuda.log.append("call")
        return tensor * 2

    return _torch_cuda.TorchCudaSession(
        call, {"mode": "eager"}, dtype, torch.contiguous_format, runtime=cuda, **more
    )


def image(value=1.0):
    return np.full((1, 3, 4, 4), value, np.float32)


def test_a_cuda_run_is_the_call_and_a_synchronisation(cuda):
    session = cuda_session(cuda)
    assert isinstance(session, DeviceTimes)
    session.set_input(image())
    cuda.log.clear()
    session.run()
    assert cuda.log == ["call", "synchronise"]  # between the clock's two readings
    assert isinstance(session, DeviceMemory)
    assert (session.device_used_bytes(), session.device_peak_bytes()) == (1234, 12345)
    session.reset_device_peak()
    assert cuda.log[-1] == "new peak"
    assert np.array_equal(session.outputs()[0], image(2.0))
    assert session.describe()["device_uuid"] == "1-2-3"


def test_the_devices_times_are_taken_apart_from_the_timed_runs(cuda):
    session = cuda_session(cuda)
    session.stage([image(1.0), image(5.0)])
    session.choose(0)
    cuda.log.clear()
    times = session.device_times(3)
    assert times["device_ns"] == times["span_ns"] == 3_000_000
    assert set(times) == {"device_ns", "span_ns", "enqueue_ns", "transfer_ns"}
    # As submitted, then held back until the last event is recorded.
    once = [entry for entry in cuda.log if entry != "synchronise"]
    assert once[:7] == ["event", "call", "event", "stall", "event", "call", "event"]


def test_staged_inputs_are_read_in_turn_without_a_copy(cuda):
    session = cuda_session(cuda)
    session.stage([image(1.0), image(5.0)])
    answers = []
    for number in (0, 1, 0):
        session.choose(number)
        cuda.log.clear()
        session.run()
        assert cuda.log == ["call", "synchronise"]
        answers.append(session.outputs()[0].max())
    assert answers == [2.0, 10.0, 2.0]
    assert session._inputs[0] is session._staged[0][0]


def test_a_captured_graph_is_captured_in_the_first_run_and_reads_what_is_chosen(cuda):
    """So the time of the first inference holds the capture, as an eager one holds its start."""
    session = cuda_session(cuda, captured=True)
    session.stage([image(1.0), image(5.0)])
    session.choose(1)
    assert "capture" not in cuda.log
    session.run()
    assert cuda.log.count("capture") == 1
    assert session.outputs()[0].max() == 10.0
    session.choose(0)
    session.run()
    assert cuda.log.count("capture") == 1
    assert session.outputs()[0].max() == 2.0
    session.choose(1)  # the staged ones are what they were
    session.run()
    assert session.outputs()[0].max() == 10.0


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_end_to_end_lands_in_page_locked_memory_and_is_converted_on_the_device(
    cuda, monkeypatch, captured, dtype
):
    session = cuda_session(cuda, dtype, captured=captured)
    session.set_input(image())
    session.run()
    copies = []
    copy = torch.Tensor.copy_

    def seen(place, source, *arguments, **more):
        copies.append((source.dtype, place.dtype))
        return copy(place, source, *arguments, **more)

    monkeypatch.setattr(torch.Tensor, "copy_", seen)
    answer = session.infer(image(7.0))
    assert answer[0].dtype == np.float32
    assert np.array_equal(answer[0], image(14.0))
    # array -> page-locked -> device in the array's own type, then converted there.
    assert copies[:3] == [
        (torch.float32, torch.float32), (torch.float32, torch.float32), (torch.float32, dtype),
    ]  # fmt: skip
    cuda.log.clear()
    assert np.array_equal(session.infer(image(8.0))[0], image(16.0))
    assert "pinned" not in cuda.log  # memory is locked once
    parts = session.parts([image(1.0), image(2.0)])
    assert set(parts) == {"input_ns", "span_ns", "output_ns", "enqueue_ns"}
    assert parts["input_ns"] == 3_000_000


def test_what_the_allocator_holds_beyond_tensors(cuda):
    reserved = cuda_session(cuda).device_reserved()
    assert reserved == {
        "device_reserved_bytes": 8 * 2**20,
        "device_pool_bytes": 5 * 2**20,  # of the graph's private pool alone; its output lives
        "device_workspace_bytes": 500,
    }


def test_the_l2_cache_is_flushed_outside_of_the_run(cuda):
    session = cuda_session(cuda, flush_l2=True)
    session.set_input(np.ones((1, 3, 4, 4), np.float32))
    assert session._flush.numel() == 2048  # twice the cache
    assert cuda.log[-1] == "synchronise"
    session._flush.fill_(1)
    session.set_input(np.ones((1, 3, 4, 4), np.float32))
    assert not session._flush.any()
    assert cuda_session(cuda)._flush.numel() == 0


def test_a_cache_of_unknown_size_is_not_flushed_in_silence(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "properties", lambda: SimpleNamespace(name="a card"))
    with pytest.raises(Unsupported, match="how large the L2 cache is"):
        cuda_session(cuda, flush_l2=True)


class ClockedCard(Card):
    """A device whose kernels take the time that they are told to.

    A cycle takes half a nanosecond, and starting the kernel that spins 3 us on top.
    """

    def __init__(self):
        super().__init__()
        self.ns = 0

    def event(self):
        card = self

        class Event:
            def record(self):
                self.at = card.ns

            def query(self):
                return False

            def elapsed_time(self, end):
                return (end.at - self.at) / 1e6

        return Event()

    def stall(self, cycles):
        self.ns += cycles // 2 + 3000


@pytest.mark.parametrize("share", [0.03, 0.10])
@pytest.mark.parametrize("work_us", [200, 20_000])
def test_extra_work_of_the_device_is_as_long_as_it_was_asked_for(share, work_us):
    card = ClockedCard()

    def call(tensor):
        card.ns += 1000 * work_us
        return tensor

    session = _torch_cuda.TorchCudaSession(
        call, {}, torch.float32, torch.contiguous_format, runtime=card
    )
    assert isinstance(session, Extends)
    session.set_input(image())
    session.extend(share)
    begun = card.ns
    session.run()
    # 3 % of 200 us are 6 us, of which starting the kernel takes 3.
    assert (card.ns - begun) / (1000 * work_us) == pytest.approx(1 + share, abs=0.001)
    for on, factor in ((False, 1), (True, 1 + share)):
        session.switch_extension(on)
        begun = card.ns
        session.run()
        assert (card.ns - begun) / (1000 * work_us) == pytest.approx(factor, abs=0.001)
