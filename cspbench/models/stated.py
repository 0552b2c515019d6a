"""What a case's network is, defaults included: ids leave them out."""

from __future__ import annotations

from dataclasses import replace

from cspbench.core.case import Case, ModelId, Ref
from cspbench.core.options import Value
from cspbench.errors import CspbenchError
from cspbench.models.spec import MODELS


def axis_value(case_id: str, name: str) -> Value | None:
    """Value of a model option by its short name (``gamma`` is also ``csp.gamma``).

    Ids leave defaults out, so the model's axes are asked; None if it has no such option, or is not
    split at all.
    """
    model = Case.parse(case_id).model
    options = dict(model.options)
    try:
        axes = {axis.name: axis.default for axis in MODELS.get(model.name).all_axes}
    except CspbenchError:
        axes = {}
    if name in axes or name in options:
        return options.get(name, axes.get(name))
    if options.get("csp.fusion", "none") == "none":
        return None
    return options.get(f"csp.{name}", axes.get(f"csp.{name}"))


def model_stated(case_id: str) -> ModelId:
    """A case's model with its γ, which ids leave out where it is the default."""
    model = Case.parse(case_id).model_id
    options = model.model.options
    gamma = axis_value(case_id, "gamma")
    if gamma is not None and not {"gamma", "csp.gamma"} & dict(options).keys():
        axis = "csp.gamma" if "csp.fusion" in dict(options) else "gamma"
        options = tuple(sorted((*options, (axis, gamma))))
    return replace(model, model=Ref(model.model.name, options))
