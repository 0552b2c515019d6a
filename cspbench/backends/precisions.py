"""The arithmetic in which backends compute, and how far its results may lie from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cspbench.core.registry import Registry

if TYPE_CHECKING:
    from cspbench.backends.spec import Backend
    from cspbench.core.options import Options


def precision_of(backend: Backend, options: Options) -> str:
    """The precision in which a backend computes with these options; fp32 without a choice."""
    defaults = {axis.name: axis.default for axis in backend.axes}
    return str(options.get("precision", defaults.get("precision", "fp32")))


@dataclass(frozen=True)
class Precision:
    """Arithmetic that backends offer under a name of their axis ``precision``.

    ``tolerance`` is the largest allowed max abs(error) / max abs(output) against the reference, and
    ``reason`` explains it. ``element_bytes`` is the size of a weight or activation in memory.
    """

    name: str
    tolerance: float
    element_bytes: float
    reason: str


#: A backend's file, here or in another package, registers a precision that is missing here.
PRECISIONS: Registry[Precision] = Registry(
    "precision", ("cspbench.backends",), "cspbench.precisions", "cspbench.backends"
)
for _precision in (
    Precision("fp32", 1e-4, 4, "24 bits of mantissa; engines sum in another order"),
    Precision("tf32", 1e-2, 4, "11 bits of mantissa"),
    Precision("fp16", 1e-2, 2, "11 bits of mantissa"),
    Precision("bf16", 5e-2, 2, "8 bits of mantissa"),
):
    PRECISIONS.add(_precision)


def unknown_precision(backend: Backend, options: Options) -> str | None:
    """Why agreement cannot be judged with these options; None if it can."""
    precision = precision_of(backend, options)
    if precision in PRECISIONS:
        return None
    return (
        f"{backend.name} computes in {precision}, which has no tolerance against the reference: "
        f"its file must register the precision (known: {', '.join(PRECISIONS.names())})"
    )
