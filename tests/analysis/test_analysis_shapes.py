"""Shape arithmetic agrees with the real operators, whatever the sizes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import assume, given
from hypothesis import strategies as st

from cspbench.analysis import shapes

small = st.integers(1, 4)


@given(st.integers(1, 20), small, small, st.integers(0, 3), small)
def test_convolution(size, kernel, stride, padding, dilation):
    out = shapes.conv_size(size, kernel, stride, padding, dilation)
    assume(out > 0)
    x, w = torch.empty(1, 1, size, device="meta"), torch.empty(1, 1, kernel, device="meta")
    assert F.conv1d(x, w, None, stride, padding, dilation).shape[2] == out


@given(st.integers(1, 12), small, small, st.integers(0, 2), small, st.integers(0, 3))
def test_transposed_convolution(size, kernel, stride, padding, dilation, more):
    assume(more < max(stride, dilation))
    out = shapes.conv_transpose_size(size, kernel, stride, padding, dilation, more)
    assume(out > 0)
    x, w = torch.empty(1, 1, size, device="meta"), torch.empty(1, 1, kernel, device="meta")
    found = F.conv_transpose1d(x, w, None, stride, padding, more, 1, dilation)
    assert found.shape[2] == out


@given(st.integers(1, 24), small, small, st.integers(0, 2), small, st.booleans())
def test_pool(size, kernel, stride, padding, dilation, ceil_mode):
    assume(padding <= kernel // 2)
    out = shapes.pool_size(size, kernel, stride, padding, dilation, ceil_mode)
    assume(out > 0 and size + 2 * padding >= dilation * (kernel - 1) + 1)
    x = torch.zeros(1, 1, size)
    found = F.max_pool1d(x, kernel, stride, padding, dilation, ceil_mode)
    assert found.shape[2] == out


@given(st.lists(st.lists(st.sampled_from([1, 3]), max_size=4).map(tuple), min_size=1, max_size=3))
def test_broadcast(given_shapes):
    tensors = [torch.empty(shape, device="meta") for shape in given_shapes]
    expected = torch.broadcast_shapes(*(t.shape for t in tensors))
    assert shapes.broadcast(given_shapes) == tuple(expected)


@st.composite
def laid_out(draw):
    """A tensor whose sides lie in any order in memory, some of them repeated or cut."""
    sides = draw(st.lists(st.sampled_from([1, 2, 3, 4]), max_size=4))
    x = torch.zeros(sides).permute(draw(st.permutations(range(len(sides)))))
    if sides and draw(st.booleans()):
        x = x[: draw(st.integers(1, x.shape[0]))]
    if draw(st.booleans()):
        x = x.expand(draw(st.sampled_from([1, 2])), *x.shape)
    return x


@given(laid_out(), st.data())
def test_a_view_in_another_shape(x, data):
    sides, rest = [], x.numel()
    for _ in range(data.draw(st.integers(0, 3))):
        sides.append(data.draw(st.sampled_from([n for n in range(1, rest + 1) if not rest % n])))
        rest //= sides[-1]
    sides.append(rest)
    try:
        x.view(sides)
        possible = True
    except RuntimeError:
        possible = False
    assert shapes.is_view(tuple(x.shape), x.stride(), tuple(sides)) is possible


@given(laid_out())
def test_a_tensor_is_dense_if_its_elements_take_each_place_once(x):
    places = [0]
    for side, stride in zip(x.shape, x.stride(), strict=True):
        places = [place + step * stride for place in places for step in range(side)]
    assert shapes.is_dense(tuple(x.shape), x.stride()) is (sorted(places) == [*range(x.numel())])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not broadcast"):
        shapes.broadcast([(2, 3), (2, 4)])
    with pytest.raises(ValueError, match="cannot be concatenated"):
        shapes.concatenate([(1, 2, 4), (1, 3, 5)], 1)
    with pytest.raises(ValueError, match="cannot be multiplied"):
        shapes.matmul((2, 3), (4, 5))


def test_a_number_stands_for_every_dimension():
    assert shapes.tuple_of(3, 2) == (3, 3)
    assert shapes.tuple_of([3], 2) == (3, 3)
    assert shapes.tuple_of((3, 5), 2) == (3, 5)
