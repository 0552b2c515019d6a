"""The Kubernetes file of docs/fleet.md: the operator's own schema, and its processes without it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from cspbench.fleet.cluster import read_cluster
from tests.fleet.conftest import SUITE
from tests.fleet.machines import ROOT, eventually, machines

#: Where the operator's Helm chart, which comes inside of its package, has the custom resource.
CRD = "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"


@pytest.fixture(scope="module")
def resource(tmp_path_factory):
    """The resource that the documented file gives the operator."""
    text = (ROOT / "docs/fleet.md").read_text()
    [file] = re.findall(r"```yaml\n(# kubernetes\.yaml.*?)```", text, re.DOTALL)
    path = tmp_path_factory.mktemp("kubernetes") / "kubernetes.yaml"
    path.write_text(file)
    settings = read_cluster(path)
    assert settings["class"] == "dask_kubernetes.operator.KubeCluster"
    return settings["arguments"]["custom_cluster_spec"]


@pytest.fixture(scope="module")
def schema():
    """The schema of version v1 of the resource."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        pytest.skip("dask-kubernetes is not installed (pip install dask-kubernetes)")
    definition = YAML(typ="safe", pure=True).load((Path(found.origin).parent / CRD).read_text())
    assert definition["spec"]["names"]["kind"] == "DaskCluster"
    [version] = [one for one in definition["spec"]["versions"] if one["name"] == "v1"]
    return strict(version["schema"]["openAPIV3Schema"])


def strict(schema):
    """The same schema, which refuses unknown fields as ``kubectl apply`` does with a warning."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        schema.setdefault("additionalProperties", False)
    if schema.pop("x-kubernetes-int-or-string", False):
        schema = {"type": ["integer", "string"]}
    return schema


def container(resource, role):
    [found] = resource["spec"][role]["spec"]["containers"]
    return found


def test_the_documented_resource_is_one_of_the_operator(resource, schema):
    assert resource["apiVersion"] == "kubernetes.dask.org/v1"
    body = {key: value for key, value in resource.items() if key != "metadata"}
    properties = {**schema["properties"], "apiVersion": {}, "kind": {"const": "DaskCluster"}}
    jsonschema.validate(body, {**schema, "properties": properties})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("worker", "replicas"), "four"),
        (("worker", "spec", "containers", 0, "arg"), ["dask"]),
        (("scheduler", "service", "ports", 0, "port"), "8786"),
    ],
)
def test_the_schema_would_find_a_mistake(resource, schema, path, value):
    wrong = json.loads(json.dumps(resource))
    place = wrong["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong["spec"], schema["properties"]["spec"])


def test_the_service_leads_to_the_schedulers_ports(resource):
    ports = {
        port["name"]: port["containerPort"] for port in container(resource, "scheduler")["ports"]
    }
    service = resource["spec"]["scheduler"]["service"]
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    name = resource["metadata"]["name"]
    assert service["selector"]["dask.org/cluster-name"] == name


def test_the_image_is_that_of_the_containerfile(resource):
    images = {
        container(resource, role)["image"].partition(":")[0] for role in ("worker", "scheduler")
    }
    [image] = images
    text = (ROOT / "Containerfile").read_text()
    assert f"-t {image} ." in text
    assert "ENTRYPOINT" not in text  # what a pod names under args runs as it stands


@pytest.mark.slow
def test_the_documented_processes_measure(resource, exported, tmp_path):
    """Scheduler and worker as the pods start them, on loopback and in one machine."""
    with machines(tmp_path) as fleet:
        words = container(resource, "scheduler")["args"]
        assert words[:2] == ["dask", "scheduler"]
        own = {"0.0.0.0": "127.0.0.1", "8786": str(fleet.port)}
        words = [own.get(word, word) for word in words[2:]]
        fleet.start("scheduler", sys.executable, "-m", "distributed.cli.dask_scheduler", *words,
                    "--dashboard-address", "127.0.0.1:0")  # fmt: skip
        worker = container(resource, "worker")
        words = [word.replace("$(DASK_WORKER_NAME)", "pod-1") for word in worker["args"]]
        assert words[:2] == ["dask", "worker"]
        variables = {one["name"]: one["value"] for one in worker["env"]}
        fleet.start(
            "worker", sys.executable, "-m", "distributed.cli.dask_worker", *words[2:],
            DASK_SCHEDULER_ADDRESS=fleet.address, CSPBENCH_BOARD="pod-1",
            CSPBENCH_CACHE=str(tmp_path / "cache"), CSPBENCH_LOCK_DIR=str(tmp_path), **variables,
        )  # fmt: skip
        eventually(lambda: "idle" in fleet.cspbench("fleet", fleet.address).stdout)
        (tmp_path / "tiny.yaml").write_text(SUITE.replace("rounds: 3", "rounds: 1"))
        run = ("run", "tiny.yaml", "--scheduler", fleet.address, "--set", "devices=node")
        result = fleet.cspbench(*run, "--no-report", "--format", "json")
        assert result.returncode == 0, result.stderr + fleet.log("worker")
        cases = json.loads(result.stdout.splitlines()[-1])["cases"]
        assert [case["status"] for case in cases] == ["ok", "ok"]
        assert all(case["id"].endswith("/node") for case in cases)
