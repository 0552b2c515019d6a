"""Boards from a real Slurm on this machine: one controller, one node, jobs of the test.

It needs root, ``slurm-wlm`` and ``munge``, which it starts and stops itself, and ``dask-jobqueue``.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SYSTEM_PATH
from tests.fleet.conftest import SUITE
from tests.fleet.machines import ROOT, Machines, eventually, free_port

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=5
InactiveLimit=0
MessageTimeout=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
#: The file of docs/fleet.md, for one machine: plain TCP on loopback, and two boards on one node.
CLUSTER = """
class: dask_jobqueue.SLURMCluster
arguments:
  cores: 1
  processes: 1
  memory: 400MB
  job_cpu: 1
  walltime: "{limit}"
  job_directives_skip: [--mem]
  worker_extra_args: [--preload, cspbench.fleet.agent, --no-nanny, --no-dashboard,
                      --dashboard-address, "127.0.0.1:0"]
  scheduler_options: {{dashboard_address: "127.0.0.1:0", host: 127.0.0.1}}
  job_script_prologue: {prologue}
  python: {python}
  log_directory: {folder}/jobs
workers: {workers}
wait_seconds: {wait}
return_seconds: {returns}
"""


class Slurm:
    """A controller and a node of Slurm, with a munge of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        munge = self.folder / "munge"
        for name in ("state", "spool", "jobs", "munge"):
            (self.folder / name).mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._run("munged", "--foreground", "--force", "--key-file", str(key), "--socket",
                  str(munge / "socket"), "--pid-file", str(munge / "pid"), "--log-file",
                  str(munge / "log"), "--seed-file", str(munge / "seed"))  # fmt: skip
        eventually((munge / "socket").exists, 20)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=self.host, folder=self.folder, cpus=os.cpu_count(),
                controller=free_port(), node=free_port(),
            )
        )  # fmt: skip
        self._run("slurmctld", "-D", "-i")
        self._run("slurmd", "-D", "-N", self.host)
        eventually(lambda: "idle" in self("sinfo", "--noheader", "--format=%t"), 60)

    def _run(self, name: str, *words: str) -> None:
        path = shutil.which(name, path=SYSTEM_PATH)
        assert path is not None
        log = (self.folder / f"{name}.out").open("ab")
        with log:
            self._processes.append(
                subprocess.Popen([path, *words], stdout=log, stderr=log, start_new_session=True,
                                 env={**os.environ, **self.environment})
            )  # fmt: skip

    def __call__(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        environment = {**os.environ, **self.environment}
        result = subprocess.run(command, env=environment, capture_output=True, text=True,
                                timeout=60, check=False)  # fmt: skip
        return result.stdout + result.stderr

    def jobs(self, state: str = "RUNNING,COMPLETING") -> list[str]:
        return self("squeue", "--noheader", f"--states={state}", "--format=%A").split()

    def restarts(self, job: str) -> int:
        """How often Slurm has started a job again."""
        found = re.search(r"Restarts=(\d+)", self("scontrol", "show", "job", job))
        return int(found[1]) if found else 0

    def close(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self("scancel", "--signal=KILL", f"--user={getpass.getuser()}")
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.close()


@pytest.fixture
def lab(slurm, exported, tmp_path):
    """A machine whose runs take boards from Slurm; ``lab.start_run`` begins one."""
    (tmp_path / "tiny.yaml").write_text(SUITE.replace("rounds: 3", "rounds: 2"))
    (tmp_path / "long.yaml").write_text(
        SUITE.replace("[1, 2]", "[20, 30]").replace("max_seconds: 0.05", "max_seconds: 3")
    )
    machine = Machines(tmp_path, slurm.environment)
    machine.slurm = slurm
    try:
        yield machine
    finally:
        machine.close()
        slurm("scancel", f"--user={getpass.getuser()}")
        eventually(lambda: not slurm("squeue", "--noheader").strip(), 60)


def cluster(machine, *, workers=1, wait=120, returns=120, limit="00:10:00"):
    """Write the file of a cluster; each of its jobs has a board and a timing lock of its own."""
    folder = machine.folder
    environment = {"CSPBENCH_CACHE": str(folder / "boards"), "PYTHONPATH": python_path()}
    prologue = [f"export {key}={value}" for key, value in environment.items()]
    prologue += ["export CSPBENCH_LABELS=node CSPBENCH_BOARD=job-$SLURM_JOB_ID",
                 "export CSPBENCH_LOCK_DIR=$(mktemp -d)"]  # fmt: skip
    text = CLUSTER.format(
        folder=folder, python=sys.executable, workers=workers, wait=wait, returns=returns,
        limit=limit, prologue=json.dumps(prologue),
    )  # fmt: skip
    (folder / "slurm.yaml").write_text(text)


def python_path():
    return os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])


def start_run(machine, suite="tiny.yaml", name="run", file="slurm.yaml", **environment):
    return machine.start(
        name, sys.executable, "-m", "cspbench", "run", str(machine.folder / suite), "--cluster",
        str(machine.folder / file), "--set", "devices=node", "--results",
        str(machine.folder / name), "--no-report", "--log-json",
        str(machine.folder / f"{name}.json"), PYTHONPATH=python_path(), **environment,
    )  # fmt: skip


def launches(machine, name="run"):
    from cspbench.store.rundir import list_runs, read_run

    return [one for run in list_runs(machine.folder / name) for one in read_run(run).launches]


@contextlib.contextmanager
def drained(slurm):
    """In this block the node takes no new job."""
    node = f"NodeName={slurm.host}"
    slurm("scontrol", "update", node, "State=DRAIN", "Reason=test")
    try:
        yield
    finally:
        slurm("scontrol", "update", node, "State=RESUME")


def quiet(log):
    return not re.search("Traceback|CRITICAL|Closed comm", log)


def test_a_suite_is_measured_by_a_job_and_the_end_is_quiet(lab):
    cluster(lab)
    run = start_run(lab)
    assert run.wait(240) == 0, lab.log("run")
    assert {one.status.value for one in launches(lab)} == {"ok"}
    assert {one.board[:4] for one in launches(lab)} == {"job-"}
    assert quiet(lab.log("run")), lab.log("run")
    eventually(lambda: not lab.slurm("squeue", "--noheader").strip(), 30)  # no job stays


def test_a_job_that_is_cancelled_costs_its_launches_and_no_process_stays(lab):
    """Of two jobs one is ended in the middle of a block; the other takes its cases."""
    cluster(lab, workers=2, returns=10)
    run = start_run(lab, "long.yaml")
    eventually(lambda: launches(lab), 180)
    victim = launches(lab)[0].board.removeprefix("job-")
    lab.slurm("scancel", victim)
    eventually(lambda: victim not in lab.slurm.jobs(), 15)  # KillWait would be 5 s more
    assert run.wait(400) == 0, lab.log("run")
    assert quiet(lab.log("run")), lab.log("run")


def test_a_job_that_reaches_its_time_limit_is_said_and_resumed(lab):
    """The run is resumed on a new job, which is another board of the same label and kind."""
    cluster(lab, limit="00:01:00", returns=10)
    (lab.folder / "long.yaml").write_text(
        SUITE.replace("[1, 2]", "[20, 30]")
        .replace("max_seconds: 0.05", "max_seconds: 60")
        .replace("timeout_seconds: 60", "timeout_seconds: 120")
    )
    run = start_run(lab, "long.yaml")
    assert run.wait(500) in (0, 3), lab.log("run")
    assert "lost" in {one.status.value for one in launches(lab)}
    assert quiet(lab.log("run")), lab.log("run")


def test_a_job_that_is_requeued_comes_back_as_its_board_and_goes_on(lab):
    """Slurm ends the job and starts it again under its number: the launch under way is lost, the
    board is awaited, and the rest is measured there."""
    cluster(lab, returns=300)
    run = start_run(lab, "long.yaml")
    eventually(lambda: launches(lab), 180)
    (job,) = lab.slurm.jobs("RUNNING")
    assert lab.slurm("scontrol", "requeue", job) == ""
    eventually(lambda: job in lab.slurm.jobs("PENDING"), 60)

    # Slurm holds a requeued job back for two minutes, because a node refuses a job that it ended in
    # the same second ("Job credential revoked"). Two seconds are enough.
    time.sleep(2)

    def started_again() -> bool:
        # Again where Slurm was not yet done with the end.
        lab.slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
        return job in lab.slurm.jobs("RUNNING")

    eventually(started_again, 180)
    assert run.wait(400) == 0, lab.log("run")
    assert {one.board for one in launches(lab)} == {f"job-{job}"}
    assert lab.slurm.restarts(job) == 1
    assert quiet(lab.log("run")), lab.log("run")


def test_a_node_that_drains_finishes_what_runs_there(lab):
    """Draining lets the job that runs go on, so the run ends well."""
    cluster(lab)
    run = start_run(lab, "long.yaml")
    eventually(lambda: launches(lab), 180)
    with drained(lab.slurm):
        assert run.wait(300) == 0, lab.log("run")
        assert {one.status.value for one in launches(lab)} == {"ok"}
        assert "drain" in lab.slurm("sinfo", "--noheader", "--format=%T")


def test_a_queue_that_gives_no_node_says_why(lab):
    """The reason is Slurm's own."""
    with drained(lab.slurm):
        cluster(lab, wait=12)
        run = start_run(lab)
        assert run.wait(120) == 3, lab.log("run")
    log = lab.log("run")
    assert "0 of 1 boards have come, and Slurm has of its jobs 1 PENDING (" in log
    assert "waiting for the others, at most 12 s in all" in log
    assert "none more within 12 s: look at the queue" in log
    assert quiet(log), log


def test_two_runs_in_one_queue(lab):
    cluster(lab)
    first, second = start_run(lab, name="first"), start_run(lab, name="second")
    for name, run in (("first", first), ("second", second)):
        assert run.wait(300) == 0, lab.log(name)
        assert {one.reason for one in launches(lab, name)} == {""}
        assert {one.status.value for one in launches(lab, name)} == {"ok"}
