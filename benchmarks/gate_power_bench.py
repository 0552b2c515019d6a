"""One inference of an arm, as pyperf and pytest-benchmark run it in processes of their own.

``gate_power_rivals.py`` starts this file, as a script for pyperf and as a test for
pytest-benchmark, and names the arm in the environment.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cspbench.jobs.load import kept, load

#: Names the file of the arm's pickled `LoadRequest`.
ARM = "GATE_POWER_ARM"


@functools.cache
def loaded() -> Callable[[], None]:
    """One inference with its input; the model is loaded as a worker of the gate loads it."""
    load(pickle.loads(Path(os.environ[ARM]).read_bytes()), lambda _phase: None)
    arm = kept()

    def infer() -> None:
        arm.feed(0)
        arm.infer()

    return infer


def test_inference(benchmark: Any) -> None:
    """For pytest-benchmark."""
    benchmark(loaded())


def main() -> None:
    """For pyperf. Only its workers load the model, at the first call."""
    import pyperf

    def infer() -> None:
        loaded()()

    pyperf.Runner().bench_func("inference", infer)


if __name__ == "__main__":
    main()
