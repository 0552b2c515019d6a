"""A metric of another package: one file, and it is wherever totals are shown."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METRIC = """\
from cspbench.analysis.metric import LAYER_METRICS, TOTAL_METRICS, LayerMetric, TotalMetric

LAYER_METRICS.add(
    LayerMetric("sides", "1", "input + output", "test", lambda la: la.input_elements + 1)
)
TOTAL_METRICS.add(
    TotalMetric("calls", "calls", "operator calls", "test", lambda layers, facts: {value})
)
"""


@pytest.fixture
def package(tmp_path):
    """Writes the package ``mine`` with a metric ``calls``, and runs commands that have it."""
    info = tmp_path / "mine-1.0.dist-info"

    def install(value):
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[cspbench.metrics]\nmine = mine\n")
        (tmp_path / "mine.py").write_text(METRIC.format(value=value))

    def python(code, check=True):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CSPBENCH_CACHE": str(tmp_path / "cache"),
        }
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert not check or result.returncode == 0, result.stderr
        return result.stdout if check else result

    def uninstall():
        for path in info.iterdir():
            path.unlink()
        info.rmdir()

    return install, python, uninstall


CALLS = "from cspbench.analysis.api import analyze_id; print(analyze_id('resnet10@64').{})"


def test_a_cached_analysis_has_the_metrics_that_are_registered_now(package):
    install, python, uninstall = package
    plain = int(python(CALLS.format("macs")))  # cached without the metric
    install("len(layers)")
    assert int(python(CALLS.format("calls"))) == int(python(CALLS.format("layers.__len__()")))
    install("2 * len(layers)")  # its code changed: no stale value
    assert int(python(CALLS.format("calls"))) == 2 * int(python(CALLS.format("layers.__len__()")))
    assert int(python(CALLS.format("macs"))) == plain
    uninstall()
    assert "calls" not in python(CALLS.format("as_dict()"))


def test_a_cached_analysis_needs_no_torch_for_a_metric_of_a_plug_in(package):
    install, python, _ = package
    install("len(layers)")
    python(CALLS.format("calls"))
    assert python(f"import sys\n{CALLS.format('calls')}\nprint('torch' in sys.modules)").endswith(
        "False\n"
    )


ANALYZE = "from cspbench.cli.main import main; import sys; sys.exit(main(['analyze', {}]))"


def test_the_tables_show_it_after_ours(package):
    install, python, _ = package
    install("len(layers)")
    ids = "'resnet10@64', 'peleenet@64'"
    header = python(ANALYZE.format(ids)).splitlines()[0]
    assert header.index("peak live (MB)") < header.index("calls") < header.index("coverage")
    (first, second) = json.loads(python(ANALYZE.format(f"{ids}, '--format', 'json'")))
    assert 0 < first["calls"] < second["calls"]
    rows = json.loads(python(ANALYZE.format(f"{ids}, '--compare', '--format', 'json'")))
    assert (rows[-1]["metric"], rows[-1]["first"]) == ("calls", first["calls"])
    rows = json.loads(python(ANALYZE.format(f"{ids}, '--conventions', '--format', 'json'")))
    (mine,) = [row for row in rows if row["convention"] == "calls" and row["id"] == first["id"]]
    assert (mine["value"], mine["unit"], mine["group"]) == (first["calls"], "calls", "other")
    layers = python(ANALYZE.format("'resnet10@64', '--layers', '--format', 'csv'")).splitlines()
    assert layers[0].endswith(",saved_for_backward_bytes,sides")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("1 / 0", "the metric calls of a plug-in fails: ZeroDivisionError"),
        ("float('nan')", "the metric calls of a plug-in must be a finite number, not nan"),
        ("'many'", "the metric calls of a plug-in must be a finite number, not 'many'"),
    ],
)
def test_a_metric_that_fails_is_named(package, value, sentence):
    install, python, _ = package
    install(value)
    result = python(ANALYZE.format("'resnet10@64'"), check=False)
    assert result.returncode == 2
    assert sentence in result.stderr
