"""Indices of a known shape need no values; what depends on data is refused, with its line."""

import pytest
import torch
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.errors import InputError
from tests.analysis.counted import Call, assert_counted, param


def position_bias(m, x):
    q = m.q(x)
    return (q @ q.transpose(-1, -2) + m.table[m.places.view(-1)].view(16, 16)).softmax(-1) @ x


def cached_bias(m, x):
    if "bias" not in m.kept:
        m.kept["bias"] = m.table[:, m.places]
    return (x @ x.transpose(-1, -2) + m.kept["bias"]).softmax(-1) @ x


def table_of_a_network(m, x):
    bias = 16 * torch.sigmoid(m.mlp(m.coordinates)[m.places].view(16, 16))
    return m.q(x) @ x.transpose(-1, -2) + bias


def best_of_each(m, x):
    scores = m.c(x).flatten(1)
    _, top = scores.topk(5, dim=1)
    return scores[torch.arange(x.shape[0])[:, None], top]


PLACES = torch.zeros(16, 16, dtype=torch.long)
CASES = {
    "a parameter by a buffer": (
        Call(position_bias, {"places": PLACES}, q=nn.Linear(8, 8), table=param(9)),
        (2, 16, 8),
    ),
    "a parameter by two buffers": (
        Call(
            lambda m, x: m.q(x) @ m.p[m.r[0], m.r[1]].sum(0).transpose(-1, -2),
            {"r": torch.zeros(2, 9, 9, dtype=torch.long)},
            q=nn.Linear(4, 4),
            p=param(7, 7, 4),
        ),
        (3, 4),
    ),
    "kept from call to call": (
        Call(cached_bias, {"places": PLACES}, table=param(3, 49), kept={}),
        (1, 3, 16, 8),
    ),
    "a table that a network makes": (
        Call(
            table_of_a_network,
            {"coordinates": torch.rand(49, 2), "places": PLACES.view(-1)},
            mlp=nn.Linear(2, 1, bias=False),
            q=nn.Linear(8, 8),
        ),
        (1, 16, 8),
    ),
    "channels by a buffer": (
        Call(lambda m, x: m.c(x[:, m.p]), {"p": torch.randperm(8)}, c=nn.Conv2d(8, 8, 3, groups=4)),
        (1, 8, 8, 8),
    ),
    "channels backwards": (
        Call(lambda m, x: m.c(x[:, torch.arange(3, -1, -1)]), c=nn.Conv2d(4, 6, 1)),
        (1, 4, 8, 8),
    ),
    "a list": (Call(lambda m, x: m.c(x[:, [0, 2]]), c=nn.Conv2d(2, 6, 1)), (1, 4, 8, 8)),
    "with slices and new axes": (
        Call(
            lambda m, x: m.f(x[:, torch.tensor([0, 2]), 1:3, None].squeeze(-1)), f=nn.Linear(2, 5)
        ),
        (2, 3, 4),
    ),
    "two constants": (
        Call(lambda m, x: m.f(x[torch.arange(2), torch.tensor([1, 2])]), f=nn.Linear(4, 5)),
        (2, 3, 4),
    ),
    "the best places": (Call(best_of_each, c=nn.Conv2d(4, 1, 1)), (2, 4, 8, 8)),
    "one place that data says": (
        Call(lambda m, x: m.f(x[:, x.sum((0, 2)).argmax()]), f=nn.Linear(4, 5)),
        (2, 3, 4),
    ),
    "a constant mask": (
        Call(lambda m, x: m.f(x[:, torch.arange(3) != 1]), f=nn.Linear(4, 5)),
        (2, 3, 4),
    ),
    "a mask in a buffer": (
        Call(
            lambda m, x: m.f(x[:, m.mask]),
            {"mask": torch.tensor([True, False, True])},
            f=nn.Linear(4, 5),
        ),
        (2, 3, 4),
    ),
    "a mask as a list": (
        Call(lambda m, x: m.f(x[:, [True, False, True]]), f=nn.Linear(4, 5)),
        (2, 3, 4),
    ),
    "repeats that are known": (
        Call(
            lambda m, x: m.f(torch.repeat_interleave(x, torch.tensor([1, 3]), 0)), f=nn.Linear(4, 5)
        ),
        (2, 3, 4),
    ),
    "written by an index": (
        Call(
            lambda m, x: m.f(x.clone().index_put_((torch.tensor([1]),), x[:1])), f=nn.Linear(4, 5)
        ),
        (2, 3, 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_index_needs_no_values(name):
    module, shape = CASES[name]
    assert_counted(module, torch.rand(shape))


def test_an_analysis_after_another_takes_what_the_module_kept():
    module = Call(cached_bias, {"places": PLACES}, table=param(3, 49), kept={})
    first = analyze(module, (1, 3, 16, 8), cache=False)
    again = analyze(module, (1, 3, 16, 8), cache=False)
    assert again.coverage == first.coverage == 100.0
    assert again.macs == first.macs == 2 * 3 * 16 * 16 * 8


def test_the_last_token_that_the_tokens_say():
    module = Call(lambda m, x, t: m.f(x[torch.arange(2), t.argmax(-1)]), f=nn.Linear(4, 5))
    assert_counted(module, torch.rand(2, 3, 4), torch.randint(0, 9, (2, 3)))


def test_a_look_up_reads_the_rows_that_it_returns():
    module = Call(
        lambda m, x: x + m.table[m.i], {"i": torch.zeros(2, dtype=torch.long)}, table=param(1000, 4)
    )
    look_up = analyze(module, (2, 4), cache=False).layers[0]
    assert look_up.kind == "index"
    assert look_up.weight_elements == 8


def test_numbers_of_two_types_become_one_that_holds_both():
    """Whole numbers times 1.5 are floats: 3 of 8 bytes are read, 3 of 4 bytes written."""
    made = Call(lambda m, x: x + torch.arange(3, device=x.device) * 1.5)
    product = analyze(made, (2, 3), cache=False).layers[1]
    assert (product.op, product.weight_bytes, product.output_bytes) == ("mul", 3 * 8, 3 * 4)


DEPENDS_ON_DATA = {
    "a mask of the data": lambda m, x: x[x > 0],
    "a mask among slices": lambda m, x: x[:, x.sum((0, 2)) > 0],
    "nonzero": lambda m, x: x[x.nonzero()[:, 0]],
    "masked_select": lambda m, x: torch.masked_select(x, x > 0),
    "a slice as long as data says": lambda m, x: x[: x.argmax()],
    "unique": lambda m, x: x.unique(),
    "repeats of the data": lambda m, x: torch.repeat_interleave(x, x[0, 0].long(), 2),
}


@pytest.mark.parametrize("name", DEPENDS_ON_DATA)
def test_what_depends_on_data_is_refused_with_its_line(name):
    with pytest.raises(InputError, match=r"test_analysis_indices\.py:\d+ .*needs the values"):
        analyze(Call(DEPENDS_ON_DATA[name]), (2, 3, 4), cache=False)


def test_a_mask_of_other_sides_is_refused():
    module = Call(lambda m, x: x[:, torch.tensor([True, False])])
    with pytest.raises(InputError, match="mask"):
        analyze(module, (2, 3, 4), cache=False)
