import pytest
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.gating.static import aligned, changed_layers, compare_static, unlike_layers

INPUT = (1, 3, 8, 8)
SHARE = "max_layer_macs_share"


def macs(layer):
    return layer["macs"]


def unlike(base, head):
    sides = analyze(base, INPUT), analyze(head, INPUT)
    return unlike_layers(*sides, aligned(*sides))


def net(*extra, width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.ReLU(), *extra)


def changes(base, head, **rules):
    changed = compare_static("net@8", analyze(base, INPUT), analyze(head, INPUT), rules)
    return {change.metric: change for change in changed}


def test_every_total_may_have_a_rule_and_names_the_layers_of_its_own_kind():
    pool = nn.MaxPool2d(2)
    by_metric = changes(
        net(pool), net(nn.Conv2d(4, 4, 1, bias=False), pool), cio_conv=0.0, **{SHARE: 0.0}
    )
    assert by_metric["cio_conv"].blocked
    assert by_metric["cio_conv"].layers[0].startswith("added 2 (conv2d 1x1")
    assert not by_metric[SHARE].blocked  # the largest layer has less of all than before
    assert by_metric[SHARE].change < 0
    assert (by_metric["layers"].base, by_metric["layers"].head) == (3, 4)


def test_equal_models_have_no_change():
    assert changes(net(), net(), macs=0.0) == {}


def test_an_added_convolution_is_counted_and_named():
    extra = nn.Conv2d(4, 4, 1, bias=False)
    by_metric = changes(net(), net(extra), macs=0.0)
    # 3x3 convolution: 3*4*9 weights at 64 places = 6912 MACs; the 1x1 one adds 4*4*64 = 1024.
    macs = by_metric["macs"]
    assert (macs.base, macs.head) == (6912, 7936)
    assert macs.change == pytest.approx(1024 / 6912)
    assert macs.blocked
    assert macs.layers == ("added 2 (conv2d 1x1, 4x8x8 -> 4x8x8, 1,024 MACs)",)
    assert macs.sentence.startswith("macs 6,912 -> 7,936 (+14.81 %), the suite allows +0 %: added")
    assert not by_metric["params"].blocked  # 16 more, but there is no rule


@pytest.mark.parametrize(("rule", "blocked"), [(0.14, True), (0.15, False)])
def test_a_rule_allows_growth_up_to_its_share(rule, blocked):
    extra = nn.Conv2d(4, 4, 1, bias=False)
    assert changes(net(), net(extra), macs=rule)["macs"].blocked is blocked


def test_less_is_reported_and_allowed():
    extra = nn.Conv2d(4, 4, 1, bias=False)
    macs = changes(net(extra), net(), macs=0.0)["macs"]
    assert not macs.blocked
    assert macs.layers == ("removed 2 (conv2d 1x1, 4x8x8 -> 4x8x8, 1,024 MACs)",)


def test_growth_from_nothing_is_beyond_any_rule():
    pool = nn.MaxPool2d(2)
    by_metric = changes(nn.Sequential(pool), nn.Sequential(nn.Conv2d(3, 3, 1), pool), macs=1.0)
    assert by_metric["macs"].change is None
    assert by_metric["macs"].blocked


def test_changed_layers_are_paired_and_the_costliest_come_first():
    base = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1))
    head = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1))
    phrases = changed_layers(unlike(base, head), macs)
    # 3x3: 6912 -> 13824, 1x1: 1024 -> 2048 MACs.
    assert phrases[0].startswith("changed 0 (conv2d 3x3, 3x8x8 -> 4x8x8, 6,912 MACs) to 0 ")
    assert phrases[1].startswith("changed 1 (conv2d 1x1, 4x8x8 -> 4x8x8, 1,024 MACs) to 1 ")


def test_many_changes_are_cut_and_counted():
    extra = [nn.Conv2d(4, 4, 1) for _ in range(8)]
    phrases = changed_layers(unlike(net(), net(*extra)), macs)
    assert len(phrases) == 6
    assert phrases[-1] == "and 3 more"


def test_layers_and_peak_live_bytes_are_compared():
    by_metric = changes(net(), net(nn.ReLU()), layers=0.0, peak_live_bytes=0.02)
    assert (by_metric["layers"].base, by_metric["layers"].head, by_metric["layers"].blocked) == (
        2,
        3,
        True,
    )
    assert "peak_live_bytes" not in by_metric or not by_metric["peak_live_bytes"].blocked


def test_an_activation_that_became_another_is_named_although_it_costs_nothing():
    """No total differs: both have the same shapes, and neither multiplies and accumulates."""
    base, head = net(nn.LeakyReLU(), nn.LeakyReLU()), net(nn.Mish(), nn.Mish())
    by_metric = changes(base, head, macs=0.0)
    change = by_metric.pop("changed_layers")
    assert by_metric == {}
    assert (change.head, change.blocked) == (2, False)
    assert change.layers == ("leaky_relu became mish: 2, 3",)


def test_another_mode_of_interpolation_is_named():
    """Each element is the mean of 2x2, or 4x4, neighbours, or a copy of one."""
    base, *heads = (
        net(nn.Upsample(scale_factor=20, mode=mode)) for mode in ("nearest", "bilinear", "bicubic")
    )
    for head in heads:
        change = changes(base, head)["changed_layers"]
        assert change.layers == ("interpolate with other kernel: 2",)


def test_differences_are_told_by_kind_the_most_frequent_first():
    base = net(nn.Tanh(), nn.Conv2d(4, 4, 1), nn.LeakyReLU())
    head = net(nn.Conv2d(4, 4, 3, padding=1), *[nn.Mish() for _ in range(5)])
    change = changes(base, head)["changed_layers"]
    # The four layers behind the first two are aligned in order; two more were added.
    assert change.head == 6
    assert change.layers == (
        "mish added: 5, 6, 7",
        "tanh became conv2d: 2",
        "conv2d became mish: 3",
        "leaky_relu became mish: 4",
    )


def test_all_layers_that_differ_are_kept_and_the_first_are_named():
    base, head = ([kind() for _ in range(5)] for kind in (nn.Tanh, nn.Mish))
    change = changes(net(*base), net(*head))["changed_layers"]
    assert change.kinds == {"tanh became mish": ["2", "3", "4", "5", "6"]}
    assert change.layers == ("tanh became mish: 2, 3, 4 and 2 more",)


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b


class Skip(nn.Module):
    """Three equal convolutions; the first's output or the second's is added to the third's."""

    def __init__(self, *terms):
        super().__init__()
        self.terms = terms
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
        self.sum = Sum()

    def forward(self, x):
        made = [x]
        for conv in self.convs:
            made.append(conv(made[-1]))
        return self.sum(*(made[term] for term in self.terms))


def test_equal_layers_that_read_from_others_are_named():
    change = changes(Skip(1, 3), Skip(2, 3))["changed_layers"]
    assert (change.head, change.layers) == (1, ("add of other layers: sum",))
    assert "changed_layers" in changes(Skip(0, 3), Skip(1, 3))  # the input itself is added


def test_the_terms_of_a_sum_may_change_places():
    assert "changed_layers" not in changes(Skip(1, 3), Skip(3, 1))


def test_what_reads_from_an_added_layer_is_not_named_beside_it():
    change = changes(net(nn.Conv2d(4, 4, 1)), net(nn.Mish(), nn.Conv2d(4, 4, 1)))["changed_layers"]
    assert change.layers == ("mish added: 2",)


def test_less_coverage_is_blocked_where_there_are_rules():
    base, head = analyze(net(), INPUT), analyze(net(), INPUT)
    head.coverage, head.unsupported = 90.0, {"mystery": 1}
    (change,) = compare_static("net", base, head, {"macs": 0.0})
    assert (change.metric, change.blocked) == ("coverage", True)
    assert "mystery is not counted" in change.sentence
    (change,) = compare_static("net", base, head, {})
    assert not change.blocked


def test_measured_metrics_are_no_business_of_analyses():
    assert changes(net(), net(), peak_memory_bytes=0.1) == {}
