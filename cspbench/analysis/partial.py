"""Detectors whose last part depends on data: counted up to there, the rest named.

A two-stage detector runs its second stage on as many boxes as the first one finds, and every
detector sorts out boxes at its end. Their analyses hold what ran before that, one call of unknown
cost where data decides, and one for each module with parameters that was not reached.
"""

from __future__ import annotations

from torch import nn

from cspbench.analysis.inventory import Inventory
from cspbench.analysis.ops import UNSUPPORTED
from cspbench.analysis.recorder import Recorder

#: Packages whose models are detectors of this kind.
_PACKAGES = ("torchvision.models.detection.", "detectron2.modeling.")
DATA_DEPENDENT = "data_dependent"
NOT_REACHED = "not_reached"


def is_detector(module: nn.Module) -> bool:
    """True if the module is a detector of one of the packages, or derived from one."""
    return any(f"{kind.__module__}.".startswith(_PACKAGES) for kind in type(module).__mro__)


def record_rest(inventory: Inventory, recorder: Recorder) -> None:
    """Record that data decides from here on, and which modules with parameters did not run."""
    recorder.path = recorder.layers[-1].name if recorder.layers else ""
    recorder.stage = inventory.stages[recorder.path]
    recorder.record(DATA_DEPENDENT, (), (), kind=UNSUPPORTED)
    reached = {layer.name for layer in recorder.layers}
    for module in inventory.root.modules():
        path = inventory.paths[id(module)]
        if path not in reached and any(p is not None for p in module._parameters.values()):
            recorder.path, recorder.stage = path, inventory.stages[path]
            recorder.record(NOT_REACHED, (), (), kind=UNSUPPORTED)
