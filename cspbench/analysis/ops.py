"""The operators that an analysis knows: their family and what training keeps of them.

One table serves eager PyTorch, exported programs (ATen names) and ONNX files (through the names in
``cspbench.analysis.onnx_ops``). An operator that is not here is `unsupported`: it is recorded,
reported and lowers the coverage, and is never counted as free in silence.

Families, and what they cost: ``conv``, ``linear``, ``matmul`` and ``attention`` multiply and
accumulate; ``norm``, ``activation``, ``elementwise``, ``max_pool``, ``avg_pool``, ``softmax``,
``reduce``, ``resize`` and ``index`` read and write without multiply-accumulates that any convention
counts (pools have a convention of their own); ``copy`` only moves data; ``view`` and ``create``
touch none that matters.
"""

from __future__ import annotations

from typing import NamedTuple


class OpInfo(NamedTuple):
    """Family of an operator and which tensors its backward needs.

    ``saved``: ``in`` (first input), ``ins`` (all inputs), ``out`` (result), or nothing.
    ``saved_in_place``: the same for the in-place form; ``clone`` (the default where inputs are
    kept) means a copy of the overwritten input.
    """

    kind: str
    saved: str = ""
    saved_in_place: str = ""


#: Family, operators, what their backward needs, the same in place (left out: as `OpInfo` says).
_ROWS: tuple[tuple[str, ...], ...] = (
    ("conv", "conv1d conv2d conv3d convolution _convolution", "in"),
    ("conv", "conv_transpose1d conv_transpose2d conv_transpose3d", "in"),
    ("conv", "conv_tbc deform_conv2d", "in"),
    ("linear", "linear", "in"),
    ("linear", "bilinear _trilinear sparse_mm", "ins"),
    ("matmul", "matmul mm bmm addmm baddbmm mv dot vdot einsum addmv addbmm", "ins"),
    ("matmul", "_int_mm _euclidean_dist", "ins"),
    ("attention", "scaled_dot_product_attention", "ins"),
    ("norm", "batch_norm native_batch_norm _native_batch_norm_legit_no_training", "in"),
    ("norm", "_native_batch_norm_legit _batch_norm_impl_index cudnn_batch_norm", "in"),
    ("norm", "layer_norm native_layer_norm group_norm native_group_norm rms_norm", "in"),
    ("norm", "instance_norm local_response_norm _fused_rms_norm", "in"),
    ("norm", "_weight_norm_interface", "ins"),
    ("norm", "native_layer_norm_backward native_batch_norm_backward native_group_norm_backward"),
    ("activation", "relu sigmoid tanh exp rsqrt sqrt", "out"),
    ("activation", "leaky_relu hardtanh relu6 elu celu selu", "in", "out"),
    ("activation", "silu mish gelu hardswish hardsigmoid softplus softsign", "in"),
    ("activation", "log_sigmoid_forward logsigmoid prelu _prelu_kernel clamp clip threshold", "in"),
    ("activation", "clamp_min clamp_max glu rrelu", "in"),
    ("softmax", "softmax log_softmax _softmax _log_softmax _safe_softmax _masked_softmax", "out"),
    ("elementwise", "add sub rsub neg addcmul addcdiv lerp"),
    ("elementwise", "mul div maximum minimum where true_divide divide multiply", "ins"),
    ("elementwise", "pow square abs log log2 log10 log1p expm1 sin cos erf atan2 sinh", "in"),
    ("elementwise", "reciprocal floor ceil round trunc sign fmod remainder floor_divide"),
    ("elementwise", "eq ne lt le gt ge logical_not logical_and logical_or bitwise_not isnan"),
    ("elementwise", "logical_xor"),
    ("elementwise", "bitwise_and bitwise_or masked_fill dropout feature_dropout nan_to_num"),
    ("elementwise", "isinf fill zero atan asin acos tan cosh addr native_dropout"),
    ("elementwise", "_transform_bias_rescale_qkv"),
    ("elementwise", "_fused_moving_avg_obs_fq_helper fake_quantize_per_tensor_affine_cachemask"),
    ("elementwise", "fake_quantize_per_channel_affine_cachemask"),
    ("elementwise", "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams"),
    ("elementwise", "_fake_quantize_learnable_per_tensor_affine"),
    ("elementwise", "_fake_quantize_learnable_per_channel_affine"),
    ("elementwise", "_softmax_backward_data _log_softmax_backward_data"),
    ("max_pool", "fractional_max_pool2d fractional_max_pool3d", "in"),
    ("max_pool", "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices", "in"),
    ("max_pool", "max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d", "in"),
    ("max_pool", "adaptive_max_pool3d channel_max_pool", "in"),
    ("avg_pool", "avg_pool1d avg_pool2d avg_pool3d", "in"),
    ("avg_pool", "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", "in"),
    ("avg_pool", "_adaptive_avg_pool2d _adaptive_avg_pool3d", "in"),
    ("avg_pool", "global_avg_pool"),
    ("reduce", "sum mean cumsum all any argmax argmin"),
    ("reduce", "amax amin max min norm linalg_vector_norm var std var_mean logsumexp prod", "in"),
    ("reduce", "topk sort argsort aminmax cummax cummin cumprod logcumsumexp median nanmedian"),
    ("reduce", "kthvalue mode nansum count_nonzero searchsorted bucketize histc multinomial"),
    ("reduce", "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy nll_loss_forward"),
    ("reduce", "nll_loss2d_forward kl_div multi_margin_loss soft_margin_loss _ctc_loss"),
    # Distances without a product, and decompositions: no convention counts their arithmetic.
    ("reduce", "_cdist_forward _pdist_forward linalg_matrix_exp linalg_householder_product", "in"),
    ("reduce", "linalg_qr linalg_inv_ex _linalg_solve_ex linalg_cholesky_ex _linalg_svd", "in"),
    ("reduce", "linalg_lu_factor_ex linalg_lu linalg_solve_triangular triangular_solve", "in"),
    ("reduce", "_linalg_det _linalg_slogdet _linalg_eigh linalg_eig geqrf orgqr trace", "in"),
    ("resize", "interpolate grid_sample grid_sampler_2d grid_sampler_3d affine_grid_generator"),
    ("resize", "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d"),
    ("resize", "upsample_bicubic2d upsample_linear1d upsample_trilinear3d _upsample_nearest"),
    ("resize", "_upsample_nearest_exact1d _upsample_nearest_exact3d"),
    ("resize", "_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_nearest_exact2d"),
    ("index", "index index_select gather embedding take_along_dim index_put scatter one_hot"),
    ("index", "_index_put_impl _unsafe_index scatter_add index_add tril triu index_copy"),
    ("index", "index_fill masked_scatter scatter_reduce index_reduce take _embedding_bag"),
    ("index", "_embedding_bag_forward_only embedding_renorm max_unpool2d max_unpool3d"),
    ("index", "embedding_dense_backward masked_select"),
    ("copy", "cat concat concatenate stack hstack vstack contiguous clone copy repeat roll flip"),
    ("copy", "pad constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d"),
    ("copy", "replication_pad2d pixel_shuffle pixel_unshuffle channel_shuffle _to_copy to"),
    ("copy", "native_channel_shuffle repeat_interleave reshape_copy unfold im2col"),
    ("copy", "slice_scatter select_scatter col2im diag_embed _pad_circular reflection_pad3d"),
    ("copy", "replication_pad3d rot90 tile slice_backward select_backward conj_physical complex"),
    ("copy", "quantize_per_tensor dequantize_per_tensor quantize_per_channel"),
    ("copy", "dequantize_per_channel"),
    ("copy", "_pack_padded_sequence _pad_packed_sequence"),
    ("copy", "slice_copy split_copy transpose_copy expand_copy cast quantize dequantize"),
    ("view", "view reshape flatten permute transpose t unsqueeze squeeze slice select chunk"),
    ("view", "split split_with_sizes tensor_split unbind narrow expand expand_as view_as alias"),
    ("view", "detach lift_fresh unflatten movedim swapaxes as_strided _unsafe_view diagonal"),
    ("view", "unsafe_chunk unsafe_split reshape_as broadcast_to _reshape_alias view_as_real"),
    ("view", "view_as_complex moveaxis swapdims adjoint"),
    ("create", "zeros ones empty full rand randn arange linspace tensor zeros_like ones_like"),
    ("create", "empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full"),
    ("create", "scalar_tensor eye empty_strided randint meshgrid new_empty_strided"),
    ("create", "empty_permuted normal bernoulli uniform exponential log_normal random randperm"),
)


def _table() -> dict[str, OpInfo]:
    table: dict[str, OpInfo] = {}
    for kind, names, *rest in _ROWS:
        saved = rest[0] if rest else ""
        in_place = rest[1] if len(rest) > 1 else "clone" if saved in ("in", "ins") else saved
        for name in names.split():
            table[name] = OpInfo(kind, saved, in_place)
    return table


OPS: dict[str, OpInfo] = _table()

#: Families that multiply and accumulate.
MAC_KINDS = frozenset({"conv", "linear", "matmul", "attention"})
#: Families that the design counts as convolutions: a linear layer is a 1x1 convolution.
CONV_KINDS = frozenset({"conv", "linear"})
#: Families that an engine may compute along with the layer before them.
FOLDABLE_KINDS = frozenset({"norm", "activation"})
#: Families that move no data between memory and arithmetic units.
FREE_KINDS = frozenset({"view", "create"})
UNSUPPORTED = "unsupported"


def kind_of(op: str) -> str:
    """Family of an operator, or ``unsupported``."""
    info = OPS.get(op)
    return info.kind if info else UNSUPPORTED


def register(op: str, kind: str, saved: str = "") -> None:
    """Teach the analysis an operator of another package, by its name without overload.

    Args:
        op: ``namespace::name`` without its namespace, e.g. ``roi_align``.
        kind: one of the families above; ``conv`` and ``linear`` take the weight from the second
            operand.
        saved: what its backward needs (`OpInfo`).

    Raises:
        ValueError: no such family.
    """
    kinds = sorted({info.kind for info in OPS.values()})
    if kind not in kinds:
        raise ValueError(f"{kind!r} is not a family of operators; families: {', '.join(kinds)}")
    OPS[op] = OpInfo(kind, saved, "clone" if saved in ("in", "ins") else saved)
