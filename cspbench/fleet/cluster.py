"""Starts a cluster by one of Dask's cluster classes: Slurm, Kubernetes, SSH, or this machine.

A YAML file names the class and its arguments. The workers become boards because the arguments make
them load ``cspbench.fleet.agent`` (docs/fleet.md has a file for each class).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cspbench.core.files import open_input
from cspbench.errors import InputError
from cspbench.fleet.security import check_address, is_loopback

KEYS = ("class", "arguments", "workers", "wait_seconds")
PRELOAD = "cspbench.fleet.agent"
WAIT_SECONDS = 300.0
#: A cluster file is far smaller.
MAX_BYTES = 1 << 20


def read_cluster(path: Path) -> dict[str, Any]:
    """Read a cluster file.

    Raises:
        InputError: the file cannot be read, or a key or value is wrong.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with open_input(path) as file:
            content = YAML(typ="safe", pure=True).load(file.read(MAX_BYTES).decode())
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("class"), str):
        raise InputError(
            f"{path}: must be a mapping with class (such as dask_jobqueue.SLURMCluster) and "
            "arguments"
        )
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise InputError(f"{path}: unknown key {unknown[0]!r}; valid: {', '.join(KEYS)}")
    if not isinstance(content.get("arguments") or {}, dict):
        raise InputError(f"{path}: arguments must be a mapping, the class's keyword arguments")
    workers = content.get("workers")
    if workers is not None and not (type(workers) is int and workers > 0):
        raise InputError(f"{path}: workers must be a whole number from 1 on, not {workers!r}")
    wait = content.get("wait_seconds", WAIT_SECONDS)
    if type(wait) not in (int, float) or not 0 < wait <= 86400:
        raise InputError(f"{path}: wait_seconds must be a number of seconds, not {wait!r}")
    return {**content, "arguments": content.get("arguments") or {}, "wait_seconds": float(wait)}


def cluster_class(name: str, path: Path) -> type[Any]:
    """Import the class that a cluster file names.

    Raises:
        InputError: the class does not exist, or is none of Dask's cluster classes.
    """
    from distributed.deploy import Cluster

    module, _, attribute = name.rpartition(".")
    try:
        imported = getattr(importlib.import_module(module or "distributed"), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: the class {name!r} cannot be imported: {error}") from None
    if not (isinstance(imported, type) and issubclass(imported, Cluster)):
        raise InputError(f"{path}: {name} is not one of Dask's cluster classes")
    return imported


@contextlib.contextmanager
def started(path: Path, *, insecure: bool) -> Iterator[Any]:
    """Start the cluster of a file, wait for its boards, and stop it at the end of the context.

    Raises:
        InputError: the file is wrong, the cluster does not start, or it is open to the network.
    """
    settings = read_cluster(path)
    kind = cluster_class(settings["class"], path)
    # Worker processes on this machine read the preload from the environment; workers elsewhere
    # get it in the arguments of the file.
    with _environment("DASK_DISTRIBUTED__WORKER__PRELOAD", PRELOAD):
        import dask

        try:
            with dask.config.set({"distributed.worker.preload": [PRELOAD]}):
                cluster = kind(**settings["arguments"])
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise InputError(f"{path}: {settings['class']} does not start: {error}") from None
        with cluster:
            check_address(cluster.scheduler_address, insecure=insecure)
            if not insecure:
                _check_dashboard(cluster, path)
            if settings.get("workers"):
                cluster.scale(settings["workers"])
                cluster.wait_for_workers(settings["workers"], timeout=settings["wait_seconds"])
            yield cluster


def _check_dashboard(cluster: Any, path: Path) -> None:
    """Refuse a web server of a scheduler in this process that other machines reach.

    Raises:
        InputError: it answers them, and it asks for no certificate.
    """
    from distributed.comm import get_tcp_server_addresses

    server = getattr(getattr(cluster, "scheduler", None), "http_server", None)
    hosts = [host for host, *_ in get_tcp_server_addresses(server)] if server else []
    open_to = [host for host in hosts if not is_loopback(host)]
    if open_to:
        raise InputError(
            f"{path}: the scheduler's dashboard listens on {open_to[0]} and answers without a "
            'certificate: give the class dashboard_address: "127.0.0.1:0" (docs/fleet.md), or '
            "accept the risk with --insecure"
        )


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
