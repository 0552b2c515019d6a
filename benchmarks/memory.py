"""Peak memory: torch's activations against torch.profiler, other engines against themselves.

    python benchmarks/memory.py [--launches 10] [--out memory.jsonl]

For torch, ``transient_bytes`` of a memory launch stands beside the peak of the allocator's own
account (the running sum of torch.profiler's memory events) and ``peak_live_bytes`` of the analysis,
on six models at batch 1 and 8: held to 2 %. OpenCV's, ONNX Runtime's and OpenVINO's peaks are
measured in ten launches each: held to 3 % between the least and the most. Other load does not
change any of these numbers. Each result is a line of ``--out``; a result in it is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.jobs.memory import MemoryRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.process import worker_environment

#: Inputs so large that the kernel's count of pages (kept in batches of 32, 128 KiB, on each
#: processor) is good enough for 2 %.
TORCH = tuple(
    f"{model}@{size}/torch-cpu/b{batch}/t1"
    for model, large, usual in (
        ("peleenet", 608, 304), ("csppeleenet", 608, 304), ("resnext50", 448, 256),
        ("cspresnext50", 448, 256), ("yolov3-tiny", 608, 416), ("yolov3-tiny-prn", 608, 416),
    )
    for batch, size in ((1, large), (8, usual))
)  # fmt: skip
REPEATED = ("peleenet@304/{}/b8/t1", "yolov3-tiny-prn@416/{}/b1/t1")
ENGINES = ("opencv-cpu", "opencv-cpu[engine=classic]", "onnxruntime", "openvino")
LIMIT_TORCH, LIMIT_REPEAT = 0.02, 0.03
MIB = 2**20


def artifact(case: Case) -> ArtifactSpec:
    """The model in the form that the case's backend loads; it is made if missing."""
    spec = ArtifactSpec(case.model_id, case.batch, BACKENDS.get(case.backend.name).artifact, 0)
    prepare(spec)
    return spec


def launch(executor: LocalExecutor, case: Case) -> dict[str, Any]:
    """The memory that one launch measured."""
    outcome = executor.launch(MemoryRequest(case, artifact(case).path), case.threads, 600)
    if outcome.status is not Status.OK:
        raise SystemExit(f"{case}: {outcome.reason}")
    return dict(outcome.answer["memory"])


def allocator(case_id: str) -> None:
    """Print torch's own account and the analysis's, in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch

    from cspbench.analysis.api import analyze
    from tests.measure.allocator import allocator_peak_bytes

    torch.set_num_threads(1)
    case = Case.parse(case_id)
    shape = case.input_shape
    array = torch.from_numpy(input_pool(shape, 0, 1)[0])
    path = artifact(case).path
    live = analyze(torch.export.load(path), torch.zeros(shape)).totals["peak_live_bytes"]
    peak = allocator_peak_bytes(path, array)
    print(json.dumps({"profiler_bytes": peak, "live_bytes": live, "input_bytes": array.nbytes}))


def against_profiler(executor: LocalExecutor, case: Case) -> dict[str, Any]:
    """One torch case beside the allocator's own account."""
    measured = launch(executor, case)
    environment = worker_environment(1)
    del environment["PYTHONSAFEPATH"]
    done = subprocess.run([sys.executable, __file__, "--allocator", str(case)], check=True,
                          stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    return {**measured, **json.loads(done.stdout.splitlines()[-1])}


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Two Markdown tables."""
    against = ["| torch-cpu | measured, MiB | profiler, MiB | apart | live less input, MiB | |",
            "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    repeats = ["| engine | launches | least, MiB | most, MiB | apart | |",
               "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for row in rows:
        if "peaks" in row:
            least, most = min(row["peaks"]), max(row["peaks"])
            apart = most / least - 1
            repeats.append(f"| `{row['case']}` | {len(row['peaks'])} | {least / MIB:.2f} |"
                           f" {most / MIB:.2f} | {apart:.2%} |"
                           f" {'ok' if apart <= LIMIT_REPEAT else 'OVER'} |")  # fmt: skip
        else:
            apart = row["transient_bytes"] / row["profiler_bytes"] - 1
            against.append(f"| `{row['case']}` | {row['transient_bytes'] / MIB:.2f} |"
                        f" {row['profiler_bytes'] / MIB:.2f} | {apart:+.2%} |"
                        f" {(row['live_bytes'] - row['input_bytes']) / MIB:.2f} |"
                        f" {'ok' if abs(apart) <= LIMIT_TORCH else 'OVER'} |")  # fmt: skip
    return [*against, "", *repeats]


def main() -> int:
    """Measure what is missing, print all; 1 if something is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--launches", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("memory.jsonl"))
    parser.add_argument("--part", choices=("torch", "engines", "all"), default="all")
    parser.add_argument("--allocator", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.allocator:
        allocator(arguments.allocator)
        return 0
    text = arguments.out.read_text() if arguments.out.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    executor = LocalExecutor()
    engines = [case.format(engine) for case in REPEATED for engine in ENGINES]
    cases = {"torch": TORCH, "engines": engines, "all": [*TORCH, *engines]}[arguments.part]
    for case_id in cases:
        case = Case.parse(case_id)
        reason = BACKENDS.get(case.backend.name).available()
        if reason or any(row["case"] == case_id for row in rows):
            continue
        if case.backend.name == "torch-cpu":
            result = against_profiler(executor, case)
        else:
            peaks = [launch(executor, case)["peak_memory_bytes"]
                     for _ in range(arguments.launches)]  # fmt: skip
            result = {"peaks": peaks}
        rows.append({"case": case_id, **result})
        with arguments.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(lines(rows[-1:])[-1 if "peaks" in result else 2], file=sys.stderr)
    print("\n".join(lines(rows)))
    return int(any(line.endswith("OVER |") for line in lines(rows)))


if __name__ == "__main__":
    sys.exit(main())
