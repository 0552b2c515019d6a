"""``--cluster FILE.yaml``: one of Dask's cluster classes starts the boards."""

import json
import os
import re
from types import SimpleNamespace

import pytest

from cspbench.errors import BusyError, InputError
from cspbench.fleet.cluster import _wait, cluster_class, read_cluster
from tests.fleet.machines import ROOT, Machines

LOCAL = """
class: distributed.LocalCluster
arguments:
  n_workers: 1
  threads_per_worker: 1
  host: 127.0.0.1
  dashboard_address: null
  memory_limit: 0
workers: 1
"""


@pytest.mark.slow
def test_a_local_cluster_becomes_a_fleet(exported, suite, tmp_path):
    (tmp_path / "local.yaml").write_text(LOCAL)
    machine = Machines(tmp_path, {"CSPBENCH_BOARD": "node", "CSPBENCH_LABELS": "x86"})
    words = ("run", str(suite), "--no-report", "--cluster", "local.yaml", "--set", "devices=x86")
    result = machine.cspbench(*words, "--rounds", "1", "--format", "json")
    assert result.returncode == 0, result.stderr
    result_json = json.loads(result.stdout.splitlines()[-1])
    assert [case["status"] for case in result_json["cases"]] == ["ok", "ok"]
    assert all(case["id"].endswith("/x86") for case in result_json["cases"])
    for word in ("Traceback", "CRITICAL", "Closed comm", "distributed."):
        assert word not in result.stderr, result.stderr


def test_boards_that_do_not_come_are_waited_for_aloud_and_not_for_ever(tmp_path):
    cluster = SimpleNamespace(scheduler_info={"workers": {"tcp://1": {}}})
    said = []
    with pytest.raises(BusyError, match=r"1 of 2 boards have come, and none more within 1\.2 s"):
        _wait(cluster, tmp_path / "lab.yaml", 2, 1.2, said.append)
    [sentence] = said
    assert sentence.endswith(
        "lab.yaml: 1 of 2 boards have come; waiting for the others, at most 1.2 s in all"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "cannot be read as YAML"),
        ("arguments: {}", "must be a mapping with class"),
        ("{class: a.B, scale: 3}", "unknown key 'scale'"),
        ("{class: a.B, arguments: [1]}", "arguments must be a mapping"),
        ("{class: a.B, workers: 0}", "workers must be a whole number from 1 on, not 0"),
        ("{class: a.B, wait_seconds: soon}", "wait_seconds must be a number of seconds"),
        ("{class: a.B, return_seconds: 0}", "return_seconds must be a number of seconds"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, sentence):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_cluster(path)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cluster.yaml")
    with pytest.raises(InputError, match="it is not a regular file"):
        read_cluster(tmp_path / "cluster.yaml")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_module.Cluster", "cannot be imported"),
        ("distributed.NoCluster", "cannot be imported"),
        ("pathlib.Path", "is not one of Dask's cluster classes"),
        ("os.system", "is not one of Dask's cluster classes"),
    ],
)
def test_only_cluster_classes_are_started(tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        cluster_class(name, tmp_path)


def test_the_documented_files_keep_web_servers_on_loopback(tmp_path):
    """Dask's classes start scheduler and workers with web servers on all interfaces otherwise."""
    files = re.findall(
        r"```yaml\n(# .*?\nclass: .*?)```", (ROOT / "docs/fleet.md").read_text(), re.S
    )
    assert len(files) == 3
    for text in (
        text for text in files if "KubeCluster" not in text
    ):  # tests/fleet/test_kubernetes.py
        (tmp_path / "cluster.yaml").write_text(text)
        arguments = read_cluster(tmp_path / "cluster.yaml")["arguments"]
        worker = [*arguments.get("worker_extra_args", ()),
                  *arguments.get("worker_options", {}).values()]  # fmt: skip
        assert "127.0.0.1:0" in worker
        assert "60" in worker or "SLURMCluster" in text  # which gives up after 60 s by itself
        scheduler = arguments.get("scheduler_options", {})
        assert scheduler.get("dashboard_address") == "127.0.0.1:0"


@pytest.mark.slow
def test_a_dashboard_on_all_interfaces_is_refused(suite, tmp_path):
    """Dask's classes open one by default; it answers without a certificate."""
    (tmp_path / "open.yaml").write_text(LOCAL.replace("  dashboard_address: null\n", ""))
    result = Machines(tmp_path).cspbench("run", str(suite), "--cluster", "open.yaml")
    assert result.returncode == 2, result.stdout
    assert "the scheduler's dashboard listens on " in result.stderr
    assert "answers without a certificate: give the class dashboard_address" in result.stderr
    assert "Traceback" not in result.stderr
