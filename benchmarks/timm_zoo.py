"""Counts of timm's architectures, held against a real count of each.

Run: ``python benchmarks/timm_zoo.py RESULTS.csv [FAMILY...]`` with timm importable (docs/metrics.md
says how on a CPU-only torch). One row is written as soon as it is known, and rows that are there
are not computed again, so the run can be stopped and goes on where it was. The last lines say how
many are equal, and what is not.

``data/timm.csv`` holds parameters and multiply-accumulates of 1,144 pairs of architecture and input
side: those for which timm publishes results, counted by FlopCounterMode on the meta device, halved.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

from resumable import answers

EXPECTED = Path(__file__).parent / "data" / "timm.csv"
FIELDS = ("model", "size", "params", "macs", "coverage", "seconds", "answer")


def rows() -> list[dict[str, str]]:
    """Pairs of architecture and side with the counts that they must have."""
    with EXPECTED.open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def family(name: str) -> str:
    """First part of an architecture's name without its numbers: ``resnet50_gn`` -> ``resnet``."""
    return name.partition("_")[0].rstrip("0123456789")


def built(name: str, size: int) -> Any:
    """The architecture without weights, for inputs of that side."""
    import torch
    from torchvision_alone import import_torchvision

    import_torchvision()
    import timm

    with torch.device("meta"):
        try:
            return timm.create_model(name, img_size=size)
        except TypeError:  # most convolutional ones take every side
            return timm.create_model(name)


def counted(row: dict[str, str]) -> dict[str, Any]:
    """What an analysis says of one pair, and whether that is right."""
    from cspbench import analyze
    from cspbench.errors import InputError

    size = int(row["size"])
    result: dict[str, Any] = {"model": row["model"], "size": size}
    try:
        model = built(row["model"], size)
        start = time.perf_counter()
        analysis = analyze(model, (1, 3, size, size), cache=False)
        result["seconds"] = f"{time.perf_counter() - start:.3f}"
    except (InputError, RuntimeError) as error:
        return result | {"answer": f"refused: {error}"}
    result |= {name: analysis.totals[name] for name in ("params", "macs")}
    result["coverage"] = analysis.coverage
    same = all(int(row[name]) == result[name] for name in ("params", "macs"))
    return result | {"answer": "equal" if same and analysis.coverage == 100 else "differs"}


def main() -> None:
    """Count what is not in the results yet, and say how many are equal."""
    results, *families = sys.argv[1:] or ["timm_zoo.csv"]
    asked = [row for row in rows() if not families or family(row["model"]) in families]
    counts = answers(Path(results), FIELDS, asked, ("model", "size"), counted)
    wrong = [row for row in counts if row["answer"] != "equal"]
    print(f"{len(counts) - len(wrong)} of {len(counts)} pairs are equal")
    for row in wrong:
        print(f"  {row['model']} at {row['size']}: {row['answer']}")


if __name__ == "__main__":
    main()
