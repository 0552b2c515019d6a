"""Parts that the torch backends share: modes of exported programs, layers, the CPU session.

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from cspbench.artifacts.program import CPU, load_program
from cspbench.artifacts.tensors import arrays_of, as_list
from cspbench.backends._compiling import MODES, Mode
from cspbench.backends._torch_fold import fold_batch_norms
from cspbench.backends.common.profiling import Profiled, RecordingSession
from cspbench.backends.spec import HostSession, LayerTime

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.core.options import Options, Value

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Program(NamedTuple):
    """A graph on its device, and the type and layout of its inputs and weights."""

    graph: torch.fx.GraphModule
    dtype: torch.dtype
    layout: torch.memory_format
    device: torch.device = CPU

    def examples(self) -> list[torch.Tensor]:
        """Inputs of the shapes that it reads, on its device."""
        examples = []
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                stated = node.meta["val"]
                real = stated.dtype.is_floating_point
                make = torch.rand if real else torch.zeros  # 0 is an index into anything
                example = make(*stated.shape, dtype=stated.dtype)
                examples.append(in_form(example.to(self.device), self.dtype, self.layout))
        return examples


def read_program(
    artifact: Path, options: Options, threads: int, device: torch.device = CPU
) -> Program:
    """Read a program as the axes ``mode``, ``precision`` and ``layout`` say.

    Batch norms are folded into the convolutions before them, unless the mode says otherwise.
    """
    torch.set_num_threads(threads)
    dtype = DTYPES.get(str(options["precision"]), torch.float32)
    last = options["layout"] == "channels_last"
    layout = torch.channels_last if last else torch.contiguous_format
    graph = load_program(artifact, device)
    if MODES[str(options["mode"])].folded:
        fold_batch_norms(graph)
    graph.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    return Program(graph, dtype, layout, device)


def callable_of(program: Program, artifact: Path, options: Options) -> Callable[..., Any]:
    """What runs a program as the axis ``mode`` says, but for the capture in a CUDA graph.

    Inductor's cache stays in the user's cache folder (`worker_environment`).
    """
    mode = MODES[str(options["mode"])]
    if mode.ahead:
        from cspbench.backends._torch_aot import packaged

        settings = [str(options[name]) for name in ("layout", "precision")]
        return packaged(program.graph, program.examples(), artifact, settings)
    return _compiled(program.graph, mode)


def _compiled(graph: torch.fx.GraphModule, mode: Mode) -> Callable[..., Any]:
    if not mode.inductor:
        return graph
    call: Callable[..., Any] = torch.compile(
        graph, fullgraph=True, dynamic=False, mode=mode.inductor
    )
    return call


def warm(mode: Mode, device: str = "cpu") -> None:
    """Import and start everything that any program needs, which is not the model's memory.

    A graph of one convolution runs like a network: it imports sympy, in modes of ``torch.compile``
    it starts Dynamo, Inductor and the compiler, on a CUDA device the context and cuDNN. Compiling
    the network itself still counts as the network's own memory.
    """
    example = torch.zeros(1, 1, 4, 4)
    program = torch.export.export(torch.nn.Conv2d(1, 1, 1).eval(), (example,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    graph = torch.export.load(buffer).module()
    assert isinstance(graph, torch.fx.GraphModule)
    if mode.ahead:
        importlib.import_module("torch._inductor.package")  # it loads packages
    if mode.folded:
        fold_batch_norms(graph)
    call = _compiled(graph.to(device), mode)
    with torch.inference_mode():
        call(example.to(device))


class OperatorClock(torch.fx.Interpreter):
    """Runs a graph operator by operator and keeps what each took."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.entries: list[LayerTime] = []

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run one node; calls of operators are timed."""
        if n.op != "call_function":
            return super().run_node(n)
        arguments, keywords = self.fetch_args_kwargs_from_env(n)
        target: Any = n.target
        start = time.perf_counter_ns()
        result = target(*arguments, **keywords)
        took = time.perf_counter_ns() - start
        self.entries.append(LayerTime(n.name, str(n.target), took, (n.name,)))
        return result


class ProfiledProgram(RecordingSession):
    """A graph whose operators are timed one after the other, each to its end.

    The Python between them is this clock's, not the network's: an inference is their sum.
    """

    method = "torch, operator by operator"

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        to_input: Callable[[np.ndarray], torch.Tensor],
    ) -> None:
        super().__init__()
        self._graph = graph
        self._to_input = to_input

    def once(self, feed: Feed) -> Profiled:
        """One inference."""
        clock = OperatorClock(self._graph)
        with torch.inference_mode():
            clock.run(*(self._to_input(array) for array in arrays_of(feed)))
        return sum(entry.ns for entry in clock.entries), clock.entries


class TorchCpuSession(HostSession):
    """A program on the CPU; ``run`` is one call under inference mode."""

    def __init__(
        self,
        call: Callable[..., Any],
        facts: Mapping[str, Value],
        dtype: torch.dtype,
        layout: torch.memory_format,
    ) -> None:
        self._call = call
        self._facts = facts
        self._dtype = dtype
        self._layout = layout
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._result: Any = None

    def set_input(self, feed: Feed) -> None:
        self._inputs = tuple(to_input(one, self._dtype, self._layout) for one in arrays_of(feed))

    def run(self) -> None:
        with torch.inference_mode():
            self._result = self._call(*self._inputs)

    def views(self) -> Sequence[np.ndarray]:
        return [tensor.float().numpy() for tensor in as_list(self._result)]

    def infer(self, feed: Feed) -> Sequence[np.ndarray]:
        """As a program would be called: the array is shared, unless its type or layout differ."""
        self._inputs = tuple(
            in_form(torch.from_numpy(array), self._dtype, self._layout) for array in arrays_of(feed)
        )
        self.run()
        return self.views()

    def describe(self) -> Mapping[str, Value]:
        threads = torch.get_num_threads()
        return {"version": torch.__version__, "threads": threads, **self._facts}

    def close(self) -> None:
        self._result = None


def in_form(tensor: torch.Tensor, dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    """The tensor itself if it has the program's type and layout, else a copy that has.

    Whole numbers keep their type, and only images have a layout.
    """
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    order = layout if tensor.dim() == 4 else torch.contiguous_format
    return tensor.to(kind).contiguous(memory_format=order)


def to_input(array: np.ndarray, dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    """A copy of the array in the program's type and layout."""
    return in_form(torch.from_numpy(array), dtype, layout).clone()
