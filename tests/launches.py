"""Launches for tests: what must be there and does not matter is filled in."""

from cspbench.store.launch import read_launch

MS = 1_000_000
#: What a good timing launch has besides its latencies.
TIMED = {
    "load_ns": 5 * MS, "first_ns": 20 * MS, "stop": "target_ci", "relative_half_width": 0.0,
    "warmup": {"count": 9, "window_medians_ns": [10 * MS], "steady": True},
    "agreement": {"max_relative_error": 1e-6, "tolerance": 1e-4}, "backend": {"version": "1"},
}  # fmt: skip


def stored_launch(case, *, ms=(10.0,), **changes):
    """A launch as it is read from a run; a good one of job ``time`` unless told otherwise."""
    found = {"case": case, "job": "time", "number": 0, "session": "s1", "status": "ok", **changes}
    if (found["job"], found["status"]) == ("time", "ok"):
        found = {**TIMED, "latencies_ns": [round(value * MS) for value in ms], **found}
    return read_launch(found)
