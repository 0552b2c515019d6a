"""``--cluster FILE.yaml``: one of Dask's cluster classes starts the boards."""

import json
import os

import pytest

from cspbench.errors import InputError
from cspbench.fleet.cluster import cluster_class, read_cluster
from tests.fleet.machines import Machines

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
    words = ("run", str(suite), "--cluster", "local.yaml", "--set", "devices=x86")
    result = machine.cspbench(*words, "--rounds", "1", "--format", "json")
    assert result.returncode == 0, result.stderr
    result_json = json.loads(result.stdout.splitlines()[-1])
    assert [case["status"] for case in result_json["cases"]] == ["ok", "ok"]
    assert all(case["id"].endswith("/x86") for case in result_json["cases"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[", "cannot be read as YAML"),
        ("arguments: {}", "must be a mapping with class"),
        ("{class: a.B, scale: 3}", "unknown key 'scale'"),
        ("{class: a.B, arguments: [1]}", "arguments must be a mapping"),
        ("{class: a.B, workers: 0}", "workers must be a whole number from 1 on, not 0"),
        ("{class: a.B, wait_seconds: soon}", "wait_seconds must be a number of seconds"),
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
    ],
)
def test_only_cluster_classes_are_started(tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        cluster_class(name, tmp_path)
