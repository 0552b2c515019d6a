"""Seconds to build every system and every neck on the meta device, on one core.

Run: ``python benchmarks/zoo.py``. The bound is 20 s.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    """Print the total and the five slowest."""
    import torch

    from cspbench.models.build import build
    from cspbench.models.spec import MODELS, NECKS

    torch.set_num_threads(1)
    names = [*MODELS.names(), *(f"csppeleenet+{neck}" for neck in NECKS.names())]
    seconds = {}
    for name in names:
        # Processor time of this one thread, so that other load does not count.
        start = time.process_time()
        build(name, weights=False)
        seconds[name] = time.process_time() - start
    print(f"{len(names)} networks on the meta device: {sum(seconds.values()):.2f} s")
    for name in sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]:
        print(f"  {name}: {seconds[name]:.2f} s")


if __name__ == "__main__":
    main()
