"""The instrument: processes that live together and take bursts of inferences in turn.

A *block* is a fresh process for each arm. The arms load side by side, since nothing is timed then.
Once all are warm, they take *bursts* of about 5 ms; a *round* is one burst of each, in orders that
are balanced for what ran just before (``cspbench.measure.orders``). Bursts of one round are close
to each other in time, so that disturbances of the machine affect all arms alike, and ratios within
a round are free of them. Then all processes are ended: the block is the unit of replication.

One arm at a time is a block too; its ratios to others are those of separate blocks, and it may end
once its times are precise enough. The gate's two sides are a block of two. This module only
measures: who lives together is decided by ``runner/blocks.py``, what a ratio means by
``measure/ratios.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

from cspbench.core.signals import stops_put_off
from cspbench.core.statuses import Status
from cspbench.jobs.load import Conditions
from cspbench.machine.facts import usable_cores
from cspbench.runner.arms import BURST_NS, Arm, ArmLostError, Burst, Loaded
from cspbench.runner.process import Outcome


@dataclass
class Turns:
    """What the arms of a block did: their loads, their bursts round by round, and lost arms.

    Item i of every list in ``bursts`` belongs to round i; the list of a lost arm ends early. With
    ``all_or_none`` the first arm that is lost ends the block: ArmLostError is raised.
    """

    all_or_none: bool = False
    #: Ctrl-C ended the turns; the rounds that were complete are there.
    interrupted: bool = False
    #: Ctrl-C came when the turns were over: all rounds are there.
    stopped: bool = False
    #: Arms for which there was no room.
    left_out: set[str] = field(default_factory=set)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    bursts: dict[str, list[Burst]] = field(default_factory=dict)
    lost: dict[str, ArmLostError] = field(default_factory=dict)


#: Told when the turns of a block begin and end: sensors are read in between.
PhaseReport = Callable[[str], None]
#: Asked after each round, with all bursts so far by arm, whether they are enough.
Enough = Callable[[Mapping[str, Sequence[Burst]]], bool]


def run_block(
    arms: Mapping[str, Arm],
    orders: Iterator[list[int]],
    rounds: Callable[[Mapping[str, Loaded]], int],
    *,
    same_counts: bool = False,
    all_or_none: bool = False,
    warm_rounds: int = 0,
    processor: int | None = None,
    room: Callable[[str], bool] = lambda _: True,
    phase: PhaseReport = lambda _: None,
    enough: Enough = lambda _: False,
    afterwards: Callable[[str, Arm, float], None] = lambda _name, _arm, _ns: None,
) -> Turns:
    """Start all arms, let them take bursts in turn, and end them.

    Args:
        arms: by name, in the order in which they are started.
        orders: the order of each round, as numbers of ``arms``.
        rounds: how many rounds there are at most, by the arms that loaded and what an inference
            of theirs takes (once the warm rounds are over).
        same_counts: all arms run as many inferences in a burst as the slowest of them in BURST_NS;
            otherwise each as many as it needs for that.
        all_or_none: the first arm that is lost ends the block.
        warm_rounds: rounds before the first that counts.
        processor: the arms keep to it while they take turns if each has one thread and an engine
            that lets it. What slows a processor down (its sibling at work, a guest of the host)
            then meets neighbouring bursts alike.
        room: asked before an arm is started beside others whether there is memory for it.
        phase: told "sample" when the turns begin and "close" when they end.
        enough: ends the turns early.
        afterwards: called with each arm and the time of its inference while all still live.

    Returns:
        Loads and bursts. An arm that fails leaves the block, and the others go on.

    Raises:
        ArmLostError: an arm was lost, and ``all_or_none`` is set.
    """
    turns = Turns(all_or_none)
    stack = contextlib.ExitStack()
    try:
        load_arms(arms, turns, stack, room)
        take_turns(
            arms, turns, orders, rounds, same_counts=same_counts, warm_rounds=warm_rounds,
            processor=processor, phase=phase, enough=enough, afterwards=afterwards,
        )  # fmt: skip
    finally:
        _ending(turns, stack.close)
    return turns


def take_turns(
    arms: Mapping[str, Arm],
    turns: Turns,
    orders: Iterator[list[int]],
    rounds: Callable[[Mapping[str, Loaded]], int],
    *,
    same_counts: bool = False,
    warm_rounds: int = 0,
    processor: int | None = None,
    phase: PhaseReport = lambda _: None,
    enough: Enough = lambda _: False,
    afterwards: Callable[[str, Arm, float], None] = lambda _name, _arm, _ns: None,
) -> None:
    """Let arms that have loaded (``turns.loaded``) take their turns; `run_block` says how."""
    _leave_unlike(turns)
    live = [name for name in turns.loaded if name not in turns.lost]
    if not live:
        return
    if processor is not None:
        _keep_to(processor, arms, live, turns)
        live = [name for name in live if name not in turns.lost]
    names = list(arms)
    turns.bursts = {name: [] for name in live}
    loaded = {name: turns.loaded[name] for name in live}
    counts = _burst_counts(loaded, same=same_counts)
    for order in islice(orders, warm_rounds):
        _round(arms, [names[number] for number in order], counts, turns)
    loaded = _after_warming(loaded, turns)
    if not loaded:
        return
    counts = _burst_counts(loaded, same=same_counts)
    total = rounds(loaded)
    phase("sample")
    try:
        for order in islice(orders, total):
            _round(arms, [names[number] for number in order], counts, turns)
            if turns.lost.keys() >= turns.bursts.keys() or enough(turns.bursts):
                break
    except KeyboardInterrupt:
        if turns.all_or_none:
            raise
        turns.interrupted = True
        _keep_whole_rounds(turns)
        return
    finally:
        _ending(turns, partial(phase, "close"))
    if turns.stopped:
        return
    try:
        _look_afterwards(arms, live, turns, afterwards)
    except KeyboardInterrupt:
        if turns.all_or_none:
            raise
        turns.interrupted = True  # all rounds are there


def _ending(turns: Turns, end: Callable[[], None]) -> None:
    """What ends the turns; a Ctrl-C meanwhile costs nothing that was measured."""
    try:
        with stops_put_off():
            end()
    except KeyboardInterrupt:
        if turns.all_or_none:
            raise
        turns.stopped = True


def _after_warming(loaded: Mapping[str, Loaded], turns: Turns) -> dict[str, Loaded]:
    """The arms that are left, with the time of an inference now that none loads beside it."""
    now = {name: loaded[name] for name in turns.bursts if name not in turns.lost}
    for name, bursts in turns.bursts.items():
        if name in now and bursts:
            quickest = min(burst.inference_ns for burst in bursts)
            now[name] = replace(now[name], inference_ns=quickest)
        bursts.clear()
    return now


def _look_afterwards(
    arms: Mapping[str, Arm],
    live: Sequence[str],
    turns: Turns,
    afterwards: Callable[[str, Arm, float], None],
) -> None:
    for name in live:
        if name not in turns.lost:
            with _leaving(turns, name):
                _check_unchanged(name, arms[name], turns.loaded[name])
                afterwards(name, arms[name], turns.bursts[name][-1].inference_ns)


@contextlib.contextmanager
def _leaving(turns: Turns, name: str) -> Iterator[None]:
    """An arm that fails inside leaves the block."""
    try:
        yield
    except ArmLostError as lost:
        if turns.all_or_none:
            raise
        turns.lost[name] = lost


def load_arms(
    arms: Mapping[str, Arm],
    turns: Turns,
    stack: contextlib.ExitStack,
    room: Callable[[str], bool] = lambda _: True,
) -> None:
    """Start and load the arms, as many at once as there are processors; ``stack`` ends them."""
    loading: dict[Future[Loaded], str] = {}

    def collect(when: str) -> None:
        done, _ = wait(loading, return_when=when)
        for future in done:
            name = loading.pop(future)
            with _leaving(turns, name):
                turns.loaded[name] = future.result()

    at_once = usable_cores()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for number, (name, arm) in enumerate(arms.items()):
                if len(loading) == at_once:
                    collect(FIRST_COMPLETED)
                if number and not room(name):
                    turns.left_out.add(name)
                    continue
                with _leaving(turns, name):
                    # In this thread: Linux ends a worker with the thread that started it.
                    stack.callback(arm.close)
                    arm.start()
                    loading[pool.submit(arm.load)] = name
            collect(ALL_COMPLETED)
        except KeyboardInterrupt:
            stack.close()  # the pool would wait for loads that take long, or hang
            raise
    turns.loaded = {name: turns.loaded[name] for name in arms if name in turns.loaded}


def _keep_to(processor: int, arms: Mapping[str, Arm], names: Sequence[str], turns: Turns) -> None:
    """Let the arms keep to a processor: all of them, or none, since they are to run alike."""
    now: dict[str, Conditions] = {}
    for name in names:
        with _leaving(turns, name):
            kept = arms[name].keep_to([processor])
            if kept is not None:
                now[name] = kept
    if any(now[name].affinity != [processor] if name in now else name not in turns.lost
           for name in names):  # fmt: skip
        for name in now:
            with _leaving(turns, name):
                arms[name].keep_to(turns.loaded[name].conditions.affinity or [processor])
        return
    for name, conditions in now.items():
        turns.loaded[name] = replace(turns.loaded[name], conditions=conditions)


def _round(
    arms: Mapping[str, Arm], order: Sequence[str], counts: Mapping[str, int], turns: Turns
) -> None:
    for name in order:
        if name in turns.bursts and name not in turns.lost:
            with _leaving(turns, name):
                turns.bursts[name].append(arms[name].burst(counts[name]))


def _keep_whole_rounds(turns: Turns) -> None:
    live = [bursts for name, bursts in turns.bursts.items() if name not in turns.lost]
    whole = min(map(len, live), default=0)
    for bursts in live:
        del bursts[whole:]


def burst_count(inference_ns: float) -> int:
    """Inferences in a burst of about BURST_NS, at least one."""
    return max(1, round(BURST_NS / inference_ns))


def _burst_counts(loaded: Mapping[str, Loaded], *, same: bool) -> dict[str, int]:
    """Inferences in a burst of each arm."""
    times = {name: item.inference_ns for name, item in loaded.items()}
    slowest = max(times.values())
    return {name: burst_count(slowest if same else ns) for name, ns in times.items()}


def _leave_unlike(turns: Turns) -> None:
    """Arms that run under other conditions than the first one leave."""
    for name, error in unlike(turns.loaded).items():
        with _leaving(turns, name):
            raise error


def unlike(loaded: Mapping[str, Loaded]) -> dict[str, ArmLostError]:
    """Arms that run under other conditions than the first one."""
    found = {}
    for name, item in loaded.items():
        first = next(iter(loaded))
        own, others = item.conditions, loaded[first].conditions
        if own != others:
            text = f"runs under {_text(own)}, the {first}'s under {_text(others)}"
            found[name] = _unlike(name, text)
    return found


def _text(conditions: Conditions) -> str:
    return f"affinity {conditions.affinity} and nice {conditions.nice}"


def _check_unchanged(name: str, arm: Arm, loaded: Loaded) -> None:
    now = arm.conditions()
    if now != loaded.conditions:
        raise _unlike(name, f"began under {_text(loaded.conditions)} and ended under {_text(now)}")


def _unlike(name: str, text: str) -> ArmLostError:
    return ArmLostError(name, "unlike_arms", Outcome(Status.FAILED, text))
