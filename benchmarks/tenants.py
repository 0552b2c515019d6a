"""Co-tenants: bounded load beside a measurement that ends with it."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import random
import time
from collections.abc import Iterator


def tenant(seed: int) -> None:
    """Busy and idle for random times of 0.05 to 2 seconds, until it is ended.

    It also ends with its parent, so that a killed campaign leaves no load behind.
    """
    rng, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        end = time.monotonic() + rng.uniform(0.05, 2.0)
        while time.monotonic() < end:
            math.sqrt(rng.random())
        time.sleep(rng.uniform(0.05, 2.0))


@contextlib.contextmanager
def company(tenants: int, seed: int) -> Iterator[None]:
    """Run so many co-tenants beside the ``with`` block."""
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=tenant, args=(1000 * number + seed,), daemon=True)
        for number in range(tenants)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()
