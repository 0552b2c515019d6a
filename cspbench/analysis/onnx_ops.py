"""ONNX operators by the names that ``cspbench.analysis.ops`` knows.

In a stored graph a Slice, Split or Transpose makes a new tensor, so it is a copy here, where eager
PyTorch only makes a view. Operators that are not listed are unsupported, never free.
"""

from __future__ import annotations

import re

from cspbench.analysis.ops import OPS, UNSUPPORTED, kind_of

_SAME = {
    # ONNX name, name in our table
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Elu": "elu",
    "Selu": "selu",
    "Celu": "celu",
    "Mish": "mish",
    "Gelu": "gelu",
    "Swish": "silu",
    "HardSwish": "hardswish",
    "HardSigmoid": "hardsigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "PRelu": "prelu",
    "Clip": "clamp",
    "ThresholdedRelu": "threshold",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Hardmax": "softmax",
    "BatchNormalization": "batch_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
    "InstanceNormalization": "instance_norm",
    "RMSNormalization": "rms_norm",
    "SimplifiedLayerNormalization": "rms_norm",
    "LRN": "local_response_norm",
    "MaxPool": "max_pool2d",
    "GlobalMaxPool": "adaptive_max_pool2d",
    "AveragePool": "avg_pool2d",
    "GlobalAveragePool": "global_avg_pool",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Max": "maximum",
    "Min": "minimum",
    "Sum": "add",
    "Pow": "pow",
    "Neg": "neg",
    "Abs": "abs",
    "Log": "log",
    "Erf": "erf",
    "Sin": "sin",
    "Cos": "cos",
    "Reciprocal": "reciprocal",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Mod": "remainder",
    "Where": "where",
    "Not": "logical_not",
    "And": "logical_and",
    "Or": "logical_or",
    "Equal": "eq",
    "Less": "lt",
    "LessOrEqual": "le",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "amax",
    "ReduceMin": "amin",
    "ReduceProd": "prod",
    "ReduceL1": "norm",
    "ReduceL2": "norm",
    "ReduceLogSumExp": "logsumexp",
    "ArgMax": "argmax",
    "ArgMin": "argmin",
    "TopK": "topk",
    "CumSum": "cumsum",
    "Resize": "interpolate",
    "Upsample": "interpolate",
    "GridSample": "grid_sample",
    "Gather": "index_select",
    "GatherElements": "gather",
    "GatherND": "index",
    "ScatterElements": "scatter",
    "ScatterND": "index_put",
    "OneHot": "one_hot",
    "Trilu": "tril",
    "Concat": "cat",
    "Slice": "slice_copy",
    "Split": "split_copy",
    "Transpose": "transpose_copy",
    "Expand": "expand_copy",
    "Tile": "repeat",
    "Pad": "pad",
    "DepthToSpace": "pixel_shuffle",
    "SpaceToDepth": "pixel_unshuffle",
    "Cast": "cast",
    "CastLike": "cast",
    "QuantizeLinear": "quantize",
    "DynamicQuantizeLinear": "quantize",
    "DequantizeLinear": "dequantize",
    "Reshape": "reshape",
    "Flatten": "flatten",
    "Squeeze": "squeeze",
    "Unsqueeze": "unsqueeze",
    "Identity": "alias",
    "Dropout": "alias",
    "Constant": "tensor",
    "ConstantOfShape": "full",
    "Range": "arange",
    "Shape": "tensor",
    "Size": "tensor",
    "EyeLike": "eye",
    "Conv": "conv",
    "ConvInteger": "conv",
    "QLinearConv": "conv",
    "ConvTranspose": "conv_transpose",
    "DeformConv": "deform_conv",
    "Gemm": "linear",
    "MatMul": "matmul",
    "MatMulInteger": "matmul",
    "Einsum": "einsum",
    "QLinearMatMul": "matmul",
    "Attention": "scaled_dot_product_attention",
    "LSTM": "lstm",
    "GRU": "gru",
    "RNN": "rnn",
    "Mean": "add",
    "Xor": "logical_xor",
    "IsNaN": "isnan",
    "IsInf": "isinf",
    "ReduceSumSquare": "norm",
    "ReduceLogSum": "logsumexp",
    "LpNormalization": "norm",
    "MeanVarianceNormalization": "instance_norm",
    "GlobalLpPool": "global_avg_pool",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Shrink": "threshold",
    "ReverseSequence": "flip",
    "Scatter": "scatter",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseNot": "bitwise_not",
    "RandomNormalLike": "normal",
    "RandomUniformLike": "uniform",
    "RandomNormal": "normal",
    "RandomUniform": "uniform",
}
#: Layers that run the same operators at each step, by the names of this table.
RECURRENT = frozenset({"lstm", "gru", "rnn"})
#: What to do about unknown operators of a domain, as the rest of a sentence.
NOTES = {
    "com.microsoft.nchwc": ": ONNX Runtime wrote this file for the layout of one processor; take "
    "the file before, or one optimised at most with ORT_ENABLE_EXTENDED",
}
_PRODUCTS = re.compile("Conv|MatMul|Gemm|Attention|Einsum|LSTM|GRU|RNN")


def multiplies(op_type: str) -> bool:
    """Whether an operator that is not known multiplies and accumulates, by its name."""
    return _PRODUCTS.search(op_type) is not None


def name_of(op_type: str, domain: str) -> str:
    """Our name of an ONNX operator; another domain's stays as ``domain.Name`` and is unknown."""
    if domain not in ("", "ai.onnx"):
        return f"{domain}.{op_type}"
    return _SAME.get(op_type, op_type)


def family_of(name: str) -> str:
    """Family of an operator by the name that `name_of` gives it."""
    if name in ("conv", "conv_transpose", "deform_conv"):
        return "conv"
    if name in RECURRENT:
        return "linear"
    return kind_of(name) if name in OPS else UNSUPPORTED
