"""What the two levels of the tracer would not see is brought before them, for one thread.

Scripted functions run outside of Python: their operators go to the second level. What a thread pool
is given runs at once. Distributions do not check the values of their arguments. Transformer modules
take their native kernels, which they would not do in sight of a mode or on the meta device, and
their other path is followed operator by operator.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.nn.functional
from torch.distributions import Distribution
from torch.utils import backend_registration

from cspbench.analysis.dispatch import fallback
from cspbench.analysis.rules.simple import is_activation
from cspbench.analysis.tracer import Tracer

#: Held while functions of torch are replaced.
PATCH = threading.RLock()
#: Modules that ask whether a mode is active before they take a native kernel.
_NATIVE = ("torch.nn.modules.activation", "torch.nn.modules.transformer")
functional: Any = torch.nn.functional
#: Asked at each call, so kept at hand.
_gradients, _autocast = torch.is_grad_enabled, torch._C._is_any_autocast_enabled
_transform = torch._C._functorch.maybe_current_level
_depth, _enabled = torch._C._len_torch_function_stack, torch._C._is_torch_function_mode_enabled
_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, type(None)})
#: ``answer(function, args, kwargs)``
Answer: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]


def is_special() -> bool:
    """True where torch does more than the call says, which the rules do not know.

    Gradients that the forward pass asks for, ``torch.func`` transforms (their tensors are wrapped)
    and autocast.
    """
    return _gradients() or _transform() is not None or _autocast()


def is_alone(operands: Collection[object]) -> bool:
    """True where the pass's mode alone is asked: no other mode, no tensor of a subclass."""
    if _depth() != 1 or not _enabled():
        return False
    return not operands or all(type(operand) in _PLAIN for operand in operands)


@contextmanager
def in_sight(tracer: Tracer, answer: Answer) -> Iterator[None]:
    """Replace what would stay out of sight, for this thread only.

    Args:
        tracer: the pass.
        answer: what the pass's mode says to a call of a function.
    """
    owner = threading.get_ident()
    scripted, submit = torch.jit.ScriptFunction.__call__, ThreadPoolExecutor.submit
    checked = Distribution._validate_args
    overridden, within = torch.overrides.has_torch_function, functional.has_torch_function
    handle = functional.handle_torch_function
    device = backend_registration._privateuse1_backend_name

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner:
            return scripted(self, *args, **kwargs)
        with torch._C.DisableTorchFunction():
            return fallback(tracer, lambda *a, **k: scripted(self, *a, **k), args, kwargs)

    def run(self: Any, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if threading.get_ident() != owner:
            return submit(self, function, *args, **kwargs)
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def has_torch_function(args: Any) -> Any:
        asks = sys._getframe(1).f_globals.get("__name__") in _NATIVE
        if asks and threading.get_ident() == owner and _is_native(tracer, args):
            return False
        return overridden(args)

    def handed_over(function: Any, relevant: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner or not is_alone(relevant):
            return handle(function, relevant, *args, **kwargs)
        return answer(function, args, kwargs)

    def has_torch_function_within(args: Any) -> Any:
        if threading.get_ident() == owner and not is_special():
            return False
        return within(args)

    with PATCH:
        torch.jit.ScriptFunction.__call__ = call  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = run  # type: ignore[method-assign]
        Distribution._validate_args = False
        torch.overrides.has_torch_function = has_torch_function
        # Only multi_head_attention_forward asks this one, to be handed over as a whole.
        functional.has_torch_function = has_torch_function_within
        functional.handle_torch_function = handed_over
        # The one place where the modules read which devices have native kernels.
        backend_registration._privateuse1_backend_name = "meta"
        try:
            yield
        finally:
            torch.jit.ScriptFunction.__call__ = scripted  # type: ignore[method-assign]
            ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
            Distribution._validate_args = checked
            torch.overrides.has_torch_function = overridden
            functional.has_torch_function = within
            functional.handle_torch_function = handle
            backend_registration._privateuse1_backend_name = device


def _is_native(tracer: Tracer, args: Any) -> bool:
    """True if the arguments are an activation and weights, which the rules of the kernels know.

    An attention gives query, keys, values and four weights, a layer its input and twelve.
    """
    if is_special():
        return False
    activations = [x for x in args if isinstance(x, torch.Tensor) and is_activation(tracer, x)]
    weights = [x for x in args if isinstance(x, torch.Tensor) and tracer.weight(x) is not None]
    return len(activations) in (1, 3) and len(activations) + len(weights) == len(args)
