"""Arms for tests: an invented one, and what a real one needs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass, field

from cspbench.core.statuses import Status
from cspbench.jobs.burst import BurstResult, ProfileResult
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.load import Conditions
from cspbench.runner.arms import ArmLostError, Burst, Loaded, WorkerArm
from cspbench.runner.process import Outcome


@dataclass
class Machine:
    """Invented hardware that logs what happens: ``ns`` is the time of an inference of each side."""

    ns: dict[str, float]
    log: list[tuple] = field(default_factory=list)
    lost_share: dict[str, float] = field(default_factory=dict)
    #: The same without extra work, of a side whose bursts have one without it beside them.
    plain_ns: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, Conditions] = field(default_factory=dict)
    #: Names, and shares of an inference, of each side's layers.
    layers: dict[str, dict[str, float]] = field(default_factory=dict)
    #: (side, what) -> error to raise, once.
    fail: dict[tuple[str, str], ArmLostError] = field(default_factory=dict)
    alive: int = 0
    most_alive: int = 0

    def make(self, side):
        return FakeArm(self, side)


@dataclass
class FakeArm:
    machine: Machine
    side: str

    def _step(self, what, *facts):
        self.machine.log.append((what, self.side, *facts))
        if (self.side, what) in self.machine.fail:
            raise self.machine.fail.pop((self.side, what))

    def start(self):
        self.machine.alive += 1
        self.machine.most_alive = max(self.machine.most_alive, self.machine.alive)
        self._step("start")

    def load(self):
        self._step("load")
        return Loaded(self.machine.ns[self.side], self.conditions())

    def burst(self, count):
        self._step("burst", count)
        ns = count * self.machine.ns[self.side]
        return Burst(
            ns, count, ns * self.machine.lost_share.get(self.side, 0.0), self._result(ns, count)
        )

    def _result(self, ns, count):
        plain = self.machine.plain_ns.get(self.side)
        if plain is None:
            return None
        beside = BurstResult(round(count * plain), count, wall_ns=round(count * plain))
        return BurstResult(round(ns), count, latencies_ns=[round(ns)], without_extra=beside)

    def conditions(self):
        return self.machine.conditions.get(self.side, Conditions([0, 1], 0))

    def keep_to(self, processors):
        return None

    def profile(self):
        shares = self.machine.layers.get(self.side, {"only": 1.0})
        entries = [(name, "Conv", round(share * 1e6), [name]) for name, share in shares.items()]
        return ProfileResult(LayerTimes(entries, [], 1_000_000))

    def close(self):
        self.machine.alive -= 1
        self.machine.log.append(("close", self.side))


def lost(side, reason="arm_ended", status=Status.CRASHED, text="ended by SIGKILL"):
    return ArmLostError(side, reason, Outcome(status, text))


@contextlib.contextmanager
def starving_head(monkeypatch):
    """What cpulimit does: once bursts begin the head's worker is stopped most of the time."""
    done, bursting, heads = threading.Event(), threading.Event(), []
    load, burst = WorkerArm.load, WorkerArm.burst

    def remembering(arm):
        bursting.clear()
        if arm._spec.name == "head":
            heads[:] = [arm]
        return load(arm)

    monkeypatch.setattr(WorkerArm, "load", remembering)
    monkeypatch.setattr(WorkerArm, "burst", lambda arm, n: bursting.set() or burst(arm, n))

    def limit():
        while not done.wait(0.004):
            pid = heads[0].pid if bursting.is_set() else None
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(0.03)
                    os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=limit)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
