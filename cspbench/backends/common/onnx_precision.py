"""ONNX files in half precision and in int8, for engines that compute what the file's types say.

Both are ONNX Runtime's own tools. Inputs and outputs stay float32. int8 is symmetric, weights by
channel, with a pair of QuantizeLinear and DequantizeLinear around each product, which is what
TensorRT reads (its documentation, "Explicit Quantization"); biases stay floats.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.kinds.onnx import inputs
from cspbench.artifacts.tensors import arrays_of, seeded_feeds
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed

#: Seeded inputs by which the ranges of activations are found.
CALIBRATION_SIZE = 8
PRODUCTS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def in_precision(source: Path, precision: str, target: Path) -> None:
    """Write an ONNX file with its products in ``fp16`` or ``int8``.

    Raises:
        Unavailable: ONNX Runtime, whose tools these are, is not installed.
        Unsupported: the tools cannot read the model.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise Unavailable(f"{precision} needs ONNX Runtime's tools (pip install onnxruntime)")
    write = {"fp16": _write_half, "int8": _write_int8}[precision]
    try:
        with _quietly():
            write(source, target)
    except Exception as error:  # the tools raise whatever their assumptions break
        raise Unsupported(f"the model has no {precision} form: {error}") from error


def _write_half(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(target))


def _write_int8(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        str(source),
        str(target),
        _Calibration(source),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=PRODUCTS,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )


class _Calibration:
    """Seeded inputs, one at a time, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, source: Path) -> None:
        stated = inputs(source)
        self._names = [one.name for one in stated]
        self._feeds: Iterator[Feed] = iter(seeded_feeds(stated, 0, CALIBRATION_SIZE))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input by its name; None at the end."""
        feed = next(self._feeds, None)
        return None if feed is None else dict(zip(self._names, arrays_of(feed), strict=True))

    def set_range(self, start_index: int, end_index: int) -> None:
        """Only part of the inputs: of the protocol, for tools that split the work."""
        self._feeds = iter(list(self._feeds)[start_index:end_index])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the tools' advice, which is for the author of a model."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
