"""Single operators of a program, each with inputs of its own, as a replay runs them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from cspbench.backends.common.profiling import Profiled, RecordingSession
from cspbench.backends.spec import LayerTime, SingleLayer

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed


class OneOperator(RecordingSession):
    """One call of an operator, again and again with the same tensors."""

    method = "torch, operator by operator"

    def __init__(self, name: str, target: Any, call: Callable[[], Any]) -> None:
        super().__init__()
        self._name, self._target, self._call = name, str(target), call

    def once(self, feed: Feed) -> Profiled:  # noqa: ARG002 - its inputs are its own
        """One call."""
        with torch.inference_mode():
            start = time.perf_counter_ns()
            self._call()
            took = time.perf_counter_ns() - start
        return took, [LayerTime(self._name, self._target, took, (self._name,))]


class _Call(NamedTuple):
    """A node with what it was called with, and whether its weights are small beside the rest."""

    node: torch.fx.Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    small_weights: bool


class _Calls(torch.fx.Interpreter):
    """Runs a graph once, and keeps what each operator was called with."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.calls: list[_Call] = []

    def run_node(self, n: torch.fx.Node) -> Any:
        if n.op != "call_function" or not _computes(n.target):
            return super().run_node(n)
        inputs = [(item.op == "get_attr", self.env[item]) for item in n.all_input_nodes]
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        result = super().run_node(n)
        moved = sum(_elements(value) for is_weight, value in inputs if not is_weight)
        weights = sum(_elements(value) for is_weight, value in inputs if is_weight)
        self.calls.append(_Call(n, args, kwargs, weights < moved + _elements(result)))
        return result


def _computes(target: Any) -> bool:
    """Whether an operator makes a tensor of its own, and no view of another one."""
    schema = getattr(target, "_schema", None)
    if schema is None or len(schema.returns) != 1:
        return False
    return schema.returns[0].alias_info is None and str(schema.returns[0].type) == "Tensor"


def operators_of(
    graph: torch.fx.GraphModule, examples: Sequence[torch.Tensor]
) -> Iterator[SingleLayer]:
    """Each operator of a graph that computes, with inputs as they come in one inference."""
    run = _Calls(graph)
    with torch.inference_mode():
        run.run(*examples)
    for node, arguments, keywords, small_weights in run.calls:
        text = repr((str(node.target), _told(arguments), _told(keywords)))
        target: Any = node.target
        call = partial(target, *arguments, **keywords)
        yield SingleLayer(
            hashlib.sha256(text.encode()).hexdigest()[:32],
            (node.name,),
            (1,),
            partial(OneOperator, node.name, node.target, call),
            small_weights,
        )


def _elements(value: Any) -> int:
    return value.numel() if isinstance(value, torch.Tensor) else 0


def _told(value: Any) -> Any:
    """Arguments without the values of tensors."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.stride()
    if isinstance(value, dict):
        return [(name, _told(item)) for name, item in sorted(value.items())]
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return value
