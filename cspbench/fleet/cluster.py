"""Starts a cluster by one of Dask's cluster classes: Slurm, Kubernetes, SSH, or this machine.

A YAML file names the class and its arguments. The workers become boards because the arguments make
them load ``cspbench.fleet.agent`` (docs/fleet.md has a file for each class).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cspbench.core.files import open_input
from cspbench.core.programs import find_program
from cspbench.core.text import printable
from cspbench.errors import BusyError, InputError
from cspbench.fleet.client import RETURN_SECONDS
from cspbench.fleet.security import check_address, is_loopback

KEYS = ("class", "arguments", "workers", "wait_seconds", "return_seconds")
PRELOAD = "cspbench.fleet.agent"
WAIT_SECONDS = 300.0
#: A cluster file is far smaller.
MAX_BYTES = 1 << 20
#: How often the boards that have come are counted, and how often their queue is asked.
_POLL_SECONDS, _ASK_SECONDS = 0.5, 5.0


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
    seconds = {}
    for key, usual in (("wait_seconds", WAIT_SECONDS), ("return_seconds", RETURN_SECONDS)):
        value = content.get(key, usual)
        if type(value) not in (int, float) or not 0 < value <= 86400:
            raise InputError(f"{path}: {key} must be a number of seconds, not {value!r}")
        seconds[key] = float(value)
    return {**content, "arguments": content.get("arguments") or {}, **seconds}


def cluster_class(name: str, path: Path) -> Callable[..., Any]:
    """Import the class that a cluster file names; ``SSHCluster`` is a function of Dask's own.

    Raises:
        InputError: the class does not exist, or is none of Dask's cluster classes.
    """
    from distributed.deploy import Cluster

    module, _, attribute = name.rpartition(".")
    try:
        imported = getattr(importlib.import_module(module or "distributed"), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: the class {name!r} cannot be imported: {error}") from None
    if isinstance(imported, type):
        known = issubclass(imported, Cluster)
    else:
        module = getattr(imported, "__module__", "")
        known = module.startswith("distributed.deploy.") and attribute.endswith("Cluster")
    if not known or not callable(imported):
        raise InputError(f"{path}: {name} is not one of Dask's cluster classes")
    made: Callable[..., Any] = imported
    return made


@contextlib.contextmanager
def started(
    path: Path, settings: Mapping[str, Any], waiting: Callable[[str], None], *, insecure: bool
) -> Iterator[Any]:
    """Start the cluster of a file, wait for its boards, and stop it at the end of the context.

    Args:
        path: the file, for messages.
        settings: what it holds (`read_cluster`).
        waiting: called with a sentence that says how many boards are missing, and why.
        insecure: accept plain TCP between machines.

    Raises:
        InputError: the class is unknown, the cluster does not start, or it is open to the network.
        BusyError: the boards did not come in time.
    """
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
        with _closing(cluster):
            check_address(cluster.scheduler_address, insecure=insecure)
            if not insecure:
                _check_dashboard(cluster, path)
            if settings.get("workers"):
                cluster.scale(settings["workers"])
                _wait(cluster, path, settings["workers"], settings["wait_seconds"], waiting)
            yield cluster


@contextlib.contextmanager
def _closing(cluster: Any) -> Iterator[None]:
    """Stop the cluster at the end, in silence.

    Scheduler and workers leave in any order then, and Dask reports each message that arrives
    nowhere with a traceback. What a board has to say has been said by its answers.
    """
    try:
        yield
    finally:
        logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("distributed."):
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        cluster.close()


def _wait(
    cluster: Any, path: Path, workers: int, seconds: float, waiting: Callable[[str], None]
) -> None:
    """Wait until so many boards have come.

    Raises:
        BusyError: they did not come in time.
    """
    deadline = time.monotonic() + seconds
    said, asked, reason = "", 0.0, ""
    while (here := len(cluster.scheduler_info["workers"])) < workers:
        now = time.monotonic()
        if now - asked >= _ASK_SECONDS:
            asked, reason = now, queue_reason(cluster)
        missing = f"{path}: {here} of {workers} boards have come{reason}"
        if now >= deadline:
            raise BusyError(
                f"{missing}, and none more within {seconds:g} s: look at the queue, or wait longer "
                "with wait_seconds"
            )
        if missing != said and now + seconds - deadline >= _POLL_SECONDS:
            waiting(f"{missing}; waiting for the others, at most {seconds:g} s in all")
            said = missing
        time.sleep(_POLL_SECONDS)


def queue_reason(cluster: Any) -> str:
    """Where Slurm has the jobs of a cluster and why, as the end of a sentence; empty elsewhere."""
    tool = find_program("squeue")
    jobs = [
        str(getattr(job, "job_id", "") or "") for job in getattr(cluster, "workers", {}).values()
    ]
    jobs = [job for job in jobs if job.isdigit()]
    if tool is None or not jobs:
        return ""
    command = [tool, "--noheader", "--states=all", "--format=%T (%r)", "--jobs", ",".join(jobs)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    states = Counter(line.strip()[:100] for line in answer.stdout.splitlines() if line.strip())
    if not states:
        return ""
    jobs_text = ", ".join(f"{number} {state}" for state, number in states.items())
    return printable(f", and Slurm has of its jobs {jobs_text}")


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
