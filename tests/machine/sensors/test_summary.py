"""Means, energy and throttling of a window of readings, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.machine.devices.spec import DEVICES, Device, PowerSource
from cspbench.machine.sensors.monitor import TimedReading, Trace
from cspbench.machine.sensors.spec import Reading
from cspbench.machine.sensors.summary import Power, energy, integral, power, summarise, throttled


def trace(name, *readings, hz=10.0, problem=""):
    """A trace of (seconds, gauges, counters)."""
    made = [
        TimedReading(seconds, Reading(gauges, counters)) for seconds, gauges, counters in readings
    ]
    return Trace(name, 1 / hz, made, cost_s=0.03, problem=problem)


def gauges(name, values, gauge, hz=10.0):
    return trace(name, *((i / hz, {gauge: value}, {}) for i, value in enumerate(values)), hz=hz)


def test_the_summary_of_a_sensor_by_hand():
    found = summarise(
        [
            trace(
                "nvml",
                (10.0, {"gpu_power_w": 50.0}, {"gpu_energy_j": 1000.0}),
                (11.0, {"gpu_power_w": 70.0, "gpu_clock_mhz": 900.0}, {}),
                (13.0, {"gpu_power_w": 60.0}, {"gpu_energy_j": 1180.0}),
            ),
            Trace("jtop", 0.5, problem="no service"),
        ]
    )
    assert found["nvml"] == {
        "readings": 3,
        "window_s": 3.0,
        "cost_share": pytest.approx(0.01),  # 0.03 s of 3 s
        "gauges": {
            "gpu_power_w": {"mean": 60.0, "min": 50.0, "max": 70.0, "count": 3},
            "gpu_clock_mhz": {"mean": 900.0, "min": 900.0, "max": 900.0, "count": 1},
        },
        "counters": {"gpu_energy_j": 180.0},
    }
    assert found["jtop"] == {"readings": 0, "problem": "no service"}


def test_the_integral_by_trapezoids_by_hand():
    # 0 to 1 s at 10 W rising to 20 W: 15 J; then 2 s falling from 20 W to 0 W: 20 J.
    assert integral([(0.0, 10.0), (1.0, 20.0), (3.0, 0.0)]) == 35.0
    assert integral([(0.0, 10.0)]) == 0.0


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=30), st.floats(0, 100), st.floats(-3, 3))
def test_a_straight_line_is_integrated_exactly_wherever_it_is_read(steps, start, slope):
    times = [sum(steps[:i]) for i in range(len(steps))]
    end = times[-1]
    points = [(t, start + slope * t) for t in times]
    expected = start * end + slope * end * end / 2
    assert integral(points) == pytest.approx(expected, abs=1e-6, rel=1e-9)


def test_a_counter_gives_power_by_its_difference():
    # 180 J in 3 s.
    window = trace("rapl", (1.0, {}, {"cpu_energy_j": 20.0}), (4.0, {}, {"cpu_energy_j": 200.0}))
    assert power([window], "cpu") == Power(60.0, "difference of cpu_energy_j (rapl)", 0.001, 3.0)


def test_a_gauge_gives_power_by_its_integral():
    # 10, 20, 20 W at 0, 0.1, 0.2 s: 1.5 + 2 = 3.5 J in 0.2 s.
    found = power([gauges("tegra", [10, 20, 20], "board_power_w")], "cuda")
    assert found.watts == pytest.approx(17.5)
    assert found.method == "integral of board_power_w (tegra, 10 Hz)"
    assert (found.period_s, found.window_s) == (0.1, pytest.approx(0.2))


def test_the_counter_comes_before_the_gauge_of_the_same_sensor():
    window = trace(
        "nvml",
        (0.0, {"gpu_power_w": 999.0}, {"gpu_energy_j": 0.0}),
        (2.0, {"gpu_power_w": 999.0}, {"gpu_energy_j": 100.0}),
    )
    assert power([window], "cuda").watts == 50.0


def test_the_power_of_a_graphics_card_says_nothing_of_a_run_on_the_processor():
    card = trace(
        "nvml",
        (0.0, {"gpu_power_w": 9.0}, {"gpu_energy_j": 0.0}),
        (2.0, {"gpu_power_w": 9.0}, {"gpu_energy_j": 18.0}),
    )
    assert power([card], "cpu") is None
    assert power([card], "cuda").watts == 9.0
    # A board's total is both's.
    board = gauges("tegra", [7.0] * 5, "board_power_w")
    assert power([card, board], "cpu").watts == pytest.approx(7.0)


def test_the_sum_of_rails_stands_in_where_no_rail_has_the_whole_board():
    rails = gauges("tegra", [9.0] * 5, "rails_power_w")
    found = power([rails], "cuda")
    assert found.watts == pytest.approx(9.0)
    assert found.method == "integral of rails_power_w (tegra, 10 Hz)"
    board = gauges("jtop", [12.0] * 5, "board_power_w")
    assert power([rails, board], "cpu").watts == pytest.approx(12.0)


def test_a_window_shorter_than_the_period_of_its_source_gives_no_number():
    def counted(seconds):
        return trace("nvml", (0.0, {}, {"gpu_energy_j": 0.0}), (seconds, {}, {"gpu_energy_j": 1.0}))

    assert power([counted(0.05)], "cuda") is None  # NVML's counter moves every 0.1 s
    assert power([counted(0.2)], "cuda").watts == 5.0
    short = trace("jtop", (0.0, {"board_power_w": 5.0}, {}), (0.3, {"board_power_w": 5.0}, {}),
                  hz=2)  # fmt: skip
    assert power([short], "cpu") is None
    assert power([gauges("jtop", [5.0], "board_power_w")], "cpu") is None


def test_energy_of_an_inference_by_hand():
    # 20 W while 50 inferences took 2.5 s, inputs included: 20 * 2.5 / 50 = 1 J each.
    window = Power(20.0, "m", 0.1, 2.6)
    found = energy(window, Power(5.0, "m", 0.1, 2.0), seconds=2.5, inferences=50)
    assert found == {
        "energy_per_inference_j": 1.0, "power_w": 20.0, "idle_power_w": 5.0,
        "energy_method": "m", "period_s": 0.1, "window_s": 2.6,
    }  # fmt: skip


def test_idle_power_that_was_obtained_otherwise_is_not_put_beside():
    window = Power(20.0, "counter", 0.1, 2.6)
    assert energy(window, Power(5.0, "gauge", 0.1, 2.0), 2.5, 50)["idle_power_w"] is None
    assert energy(window, None, 2.5, 50)["idle_power_w"] is None
    assert energy(None, None, 2.5, 50) is None


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (gauges("nvml", [0, 1, 1, 0], "gpu_throttled"), True),
        # A device that changes its state may name a slowdown once.
        (gauges("nvml", [0, 0, 1, 0], "gpu_throttled"), False),
        # At the power limit at a constant clock: how large devices work.
        (gauges("nvml", [1, 1, 1, 1], "gpu_power_capped"), False),
        (gauges("nvml", [0, 0, 0, 0], "gpu_throttled"), False),
        # From 2000 to 1700 MHz is 15 % down, to 1850 is 7.5 %; medians of the outer thirds.
        (gauges("nvml", [2000, 2000, 1900, 1800, 1700, 1700], "gpu_clock_mhz"), True),
        (gauges("nvml", [2000, 2000, 1900, 1900, 1850, 1850], "gpu_clock_mhz"), False),
        (gauges("nvml", [1700, 1700, 1900, 1900, 2000, 2000], "gpu_clock_mhz"), False),
        # One odd reading in nine is not a fall.
        (gauges("cpufreq", [3000] * 7 + [800, 3000], "cpu_frequency_max_mhz"), False),
        (gauges("cpufreq", [3000, 800], "cpu_frequency_max_mhz"), False),
        # The mean over all processors falls when others go idle.
        (gauges("cpufreq", [3000] * 3 + [800] * 6, "cpu_frequency_mhz"), False),
        (trace("cpufreq", (0, {}, {"cpu_throttle_events": 4}), (1, {}, {"cpu_throttle_events": 5})),
         True),
        (trace("cpufreq", (0, {}, {"cpu_throttle_events": 4}), (1, {}, {"cpu_throttle_events": 4})),
         False),
        (Trace("jtop", 0.5, problem="gone"), False),
        # By the driver's own account of a window of 1 s, between two looks at the bits.
        (trace("nvml", (0, {}, {"gpu_thermal_s": 7.0}), (1, {}, {"gpu_thermal_s": 7.05})), True),
        (trace("nvml", (0, {}, {"gpu_thermal_s": 7.0}), (1, {}, {"gpu_thermal_s": 7.005})), False),
        (trace("nvml", (0, {}, {"gpu_sync_boost_s": 0}), (1, {}, {"gpu_sync_boost_s": 0.5})), True),
        (trace("nvml", (0, {}, {"gpu_power_cap_s": 0}), (1, {}, {"gpu_power_cap_s": 0.9})), False),
    ],
)  # fmt: skip
def test_what_counts_as_throttling(window, expected):
    assert throttled([window], "cuda") is expected


@pytest.mark.parametrize(
    "window",
    [
        gauges("nvml", [2000, 2000, 1900, 1800, 210, 210], "gpu_clock_mhz"),
        gauges("nvml", [0, 1, 1, 0], "gpu_throttled"),
    ],
)
def test_a_gpu_that_idles_or_is_hot_beside_a_launch_on_the_cpu_is_none(window):
    assert throttled([window], "cuda")
    assert not throttled([window], "cpu")


def test_another_device_says_what_tells_of_it(monkeypatch):
    npu = Device(
        "npu",
        "by hand",
        power=(PowerSource("npu_energy_j", 0.5), PowerSource("npu_power_w")),
        clocks=("npu_clock_mhz",),
        throttle_gauges=("npu_hot",),
    )
    monkeypatch.setitem(DEVICES._entries, "npu", npu)
    counted = trace("npu", (0, {}, {"npu_energy_j": 1.0}), (2, {}, {"npu_energy_j": 9.0}))
    # 8 J in 2 s; a GPU's power says nothing of it.
    gpu = gauges("nvml", [100, 100], "gpu_power_w")
    assert power([gpu, counted], "npu") == Power(4.0, "difference of npu_energy_j (npu)", 0.5, 2.0)
    assert power([gpu], "npu") is None
    assert throttled([gauges("npu", [0, 1, 1, 0], "npu_hot")], "npu")
    assert throttled([gauges("npu", [900, 900, 900, 500, 500, 500], "npu_clock_mhz")], "npu")
    assert not throttled([gauges("nvml", [0, 1, 1, 0], "gpu_throttled")], "npu")
