"""One walk over a module: paths, stages, weights and their counts.

``nn.Module.named_modules`` and ``parameters`` are generators of generators; on a network of 500
modules they take longer than the whole analysis should.
"""

from __future__ import annotations

import torch
from torch import nn

from cspbench.analysis.recorder import Weight
from cspbench.analysis.stages import HOLDERS
from cspbench.errors import InputError

_PLAIN = (nn.ModuleList, nn.ModuleDict)
_SCRIPTED = torch.jit.ScriptModule


class Inventory:
    """What a module is made of; objects that occur twice are taken once, as PyTorch does.

    Attributes:
        paths: path of each submodule by its ``id``.
        stages: stage of each path (``cspbench.analysis.stages``).
        weights: parameters and buffers by ``id``.
        modules: submodules, itself among them.
        training: submodules in training mode.
        root: the module.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.paths: dict[int, str] = {}
        self.stages: dict[str, str] = {}
        self.weights: dict[int, Weight] = {}
        self.modules: list[nn.Module] = []
        self.training: list[nn.Module] = []
        self.params = 0
        self.running_statistics = 0
        self.weight_bytes = 0
        # Depth first, children in order, as named_modules does: the first path names a module.
        pending: list[tuple[nn.Module, str, str, bool]] = [(root, "", "", True)]
        while pending:
            module, path, stage, open_ = pending.pop()
            if id(module) in self.paths:
                continue
            self._visit(module, path, stage)
            if module._modules:
                pending.extend(reversed(_children(module, path, stage, open_)))

    def _visit(self, module: nn.Module, path: str, stage: str) -> None:
        if isinstance(module, _SCRIPTED):
            raise InputError(
                f"module {path or 'itself'!r} is TorchScript, which hides its operators; analyse "
                "the module that it was made from, its torch.export program or its ONNX file"
            )
        self.paths[id(module)] = path
        self.modules.append(module)
        self.stages[path] = stage
        if module.training:
            self.training.append(module)
        for name, param in module._parameters.items():
            if param is not None:
                self.add(param, "param", name)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                self.add(buffer, "buffer", name)

    def add(self, tensor: torch.Tensor, role: str, name: str) -> None:
        """Count a parameter or buffer, once."""
        key = id(tensor)
        if key in self.weights:
            return
        weight = self.weights[key] = Weight(tuple(tensor.shape), tensor.element_size(), role)
        self.weight_bytes += weight.elements * weight.itemsize
        if role == "param":
            self.params += weight.elements
        elif name in ("running_mean", "running_var"):
            self.running_statistics += weight.elements


def _children(
    module: nn.Module, path: str, stage: str, open_: bool
) -> list[tuple[nn.Module, str, str, bool]]:
    """Submodules with path, stage, and whether theirs have stages of their own."""
    children = []
    for name, child in module._modules.items():
        if child is None:
            continue
        child_path = f"{path}.{name}" if path else name
        plain = type(child) in _PLAIN
        holder = not path and (type(child) is nn.Sequential or name in HOLDERS)
        stages = open_ and (plain or holder)
        children.append((child, child_path, child_path if open_ else stage, stages))
    return children
