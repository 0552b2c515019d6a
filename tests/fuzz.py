"""Coverage-guided fuzzing of every parser of untrusted input (``make fuzz``).

``python -m tests.fuzz TARGET [libFuzzer options]``, such as ``-runs=1000000``. A finding is a
Python error other than InputError, an input that takes over two seconds of processor time (time
by the clock would find the load of the machine; a hang is ended after two minutes), or a process
that grows beyond 256 MB (libFuzzer's ``-rss_limit_mb``). The parsers import no torch.

Corpus and counts lie in ``$CSPBENCH_FUZZ`` (default: a folder in the temporary directory), so that
a later call goes on where an earlier one stopped: ``TARGET.count`` holds the inputs so far.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cspbench"]):
    from cspbench.analysis.onnx_graph import analyze_onnx
    from cspbench.analysis.onnx_sizes import RESULT_SIZES
    from cspbench.core.case import Case, ModelId
    from cspbench.core.text import matches
    from cspbench.errors import InputError
    from cspbench.fleet.answers import BadAnswerError, read_answer
    from cspbench.fleet.board import Board, Settings
    from cspbench.fleet.protocol import encode
    from cspbench.fleet.workers import read_workers
    from cspbench.models.sources.darknet.network import parse_network
    from cspbench.runner.process import Outcome
    from cspbench.store.launch import Launch, read_launch, with_notes
    from cspbench.store.lines import decode_line, encode_line
    from cspbench.store.records import records
    from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE, check_analyses, read_run
    from cspbench.suite.load import load_suite

_HOME = Path(os.environ.get("CSPBENCH_FUZZ") or Path(tempfile.gettempdir()) / "cspbench-fuzz")
#: Where the input of the target lies while it is read; a disk would be waited for.
_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else _HOME
_FOLDER = _MEMORY / f"cspbench-fuzz-{sys.argv[1]}" if len(sys.argv) > 1 else _MEMORY
#: The count on disk is this far behind at most.
_COUNT_EVERY = 500
#: Processor time of one input.
MOST_SECONDS = 2.0


def suite(data: bytes) -> None:
    """A suite file."""
    path = _FOLDER / "suite.yaml"
    path.write_bytes(data)
    load_suite(path)


def cfg(data: bytes) -> None:
    """A Darknet network."""
    parse_network(data.decode("utf-8", "replace"), "fuzz.cfg")


def model_id(data: bytes) -> None:
    """Ids; what parses must print and parse again to the same."""
    text = data.decode("utf-8", "replace")
    parsed = ModelId.parse(text)
    assert ModelId.parse(str(parsed)) == parsed
    Case.parse(text)


def run(data: bytes) -> None:
    """A run directory: run.json up to the first zero byte, launches after it.

    Where those begin with ``+`` each line gets the checksum that it should have: a fuzzer finds
    none by itself, and all that lies behind would never be read.
    """
    meta, _, launches = data.partition(b"\0")
    if launches.startswith(b"+"):
        lines = launches[1:].split(b"\n")
        launches = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)
    (_FOLDER / RUN_FILE).write_bytes(meta)
    (_FOLDER / LAUNCHES_FILE).write_bytes(launches)
    stored = read_run(_FOLDER)
    check_analyses(stored)
    for record in records(stored):
        assert record.latency_ms is None or record.latency_ms.estimate > 0
        _ = record.memory, record.layers, record.energy, record.newest("compile")
        record.percentile_ms(0.9)


def board(data: bytes) -> None:
    """A worker's announcement up to the first zero byte, a board's answer to a block after it."""
    announced, _, answered = (data.decode("utf-8", "replace")).partition("\0")
    worker = {"cspbench": announced, "nthreads": 1, "resources": {"cspbench:cpu": 1.0}}
    boards, refused = read_workers({"tcp://127.0.0.1:1": worker})
    assert len(boards) + len(refused) == 1
    with contextlib.suppress(BadAnswerError):
        for reported in read_answer(answered, "a").outcomes:
            outcome = Outcome(reported.status, reported.reason, reported.answer)
            launch = Launch(_CASE, "time", 0, "s", reported.status, seconds=reported.seconds,
                            log=reported.log, result=outcome.checked("time"))  # fmt: skip
            notes = {**reported.notes, "board": "a", "launch": "l"}  # the controller's own
            launch = with_notes(replace(launch, status=outcome.status), notes)
            read_launch(decode_line(encode_line(launch.to_json()).rstrip(b"\n")))


def pattern(data: bytes) -> None:
    """A pattern of ids and, after the first zero byte, an id: compared with a slow matcher."""
    text, _, id_ = data.decode("utf-8", "replace").partition("\0")
    assert matches(text, id_) is _matches_slowly(text, id_)


def _matches_slowly(pattern: str, text: str) -> bool:
    """By dynamic programming: where in the text each beginning of the pattern may end."""
    ends = {0}
    for sign in pattern:
        if sign == "*":
            ends = set(range(min(ends), len(text) + 1)) if ends else ends
        else:
            ends = {end + 1 for end in ends if end < len(text) and sign in ("?", text[end])}
    return len(text) in ends


def onnx_file(data: bytes) -> None:
    """An ONNX file, or after ``+`` the shape arithmetic that the other bytes choose.

    A fuzzer rarely finds a whole graph by itself, so most of the folding would never be reached.
    """
    path = _FOLDER / "a.onnx"
    path.write_bytes(_graph(data[1:]) if data.startswith(b"+") else data)
    analyze_onnx(str(path), [(1, 3, 8, 8)])


#: What the nodes of a graph of the fuzzer are made of. Not RegexFullMatch: where the type of its
#: input is unknown, onnx's own inference ends the process, for which commands have a worker.
_OPERATORS = [
    *sorted(RESULT_SIZES), "Shape", "Relu", "Pad", "Resize", "OneHot", "TopK", "EyeLike", "Loop",
    "Einsum", "HammingWindow", "Trilu", "SequenceAt", "If",
]  # fmt: skip
_NUMBERS = [0, 1, 2, 3, 7, 8, 64, 1000, 1025, 10**6, 2**31, 2**40, 2**62, -1, -2, -(2**63)]


def _graph(data: bytes) -> bytes:
    import onnx
    from onnx import TensorProto, helper

    source = atheris.FuzzedDataProvider(data)
    names, nodes, weights = ["x"], [], []
    for number in range(source.ConsumeIntInRange(0, 6)):
        shape = [source.ConsumeIntInRange(0, 4) for _ in range(source.ConsumeIntInRange(0, 3))]
        values = [source.PickValueInList(_NUMBERS) for _ in range(math.prod(shape))]
        weights.append(helper.make_tensor(f"w{number}", TensorProto.INT64, shape, values))
        names.append(f"w{number}")
    for number in range(source.ConsumeIntInRange(1, 30)):
        inputs = [
            source.PickValueInList(names[-12:]) for _ in range(source.ConsumeIntInRange(0, 4))
        ]
        chosen = {
            name: source.PickValueInList(_NUMBERS)
            for name in ("axis", "keepdims", "start", "end", "to", "num_outputs", "value_int")
            if source.ConsumeIntInRange(0, 7) == 0
        }
        nodes.append(
            helper.make_node(source.PickValueInList(_OPERATORS), inputs, [f"n{number}"], **chosen)
        )
        names.append(f"n{number}")
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    model: onnx.ModelProto = helper.make_model(graph)
    return bytes(model.SerializeToString())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "suite": suite,
    "cfg": cfg,
    "id": model_id,
    "run": run,
    "board": board,
    "pattern": pattern,
    "onnx": onnx_file,
}


_CFG = b"""[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[route]
layers=-1,-2
groups=2
group_id=1
[shortcut]
from=-2
[upsample]
stride=2
[yolo]
mask=0,1
anchors=1,2, 3,4
classes=3
"""
_SUITE = b"""name: s
description: d
defaults: {threads: 1, batch: 1}
matrix:
  model: [csppeleenet, "csppeleenet[gamma=0.5]"]
  fusion: [last, first]
  input: [224, 64x96]
  backend: [torch-cpu, opencv-cpu]
  neck: [none, prn]
exclude:
  - {model: csp*, batch: 2}
measure: {rounds: 3, warmup: 1s, max_seconds: 500ms, target_ci: 2%, memory: false}
"""
_SUITE_INCLUDE = b"""name: s
include:
  - &a {model: peleenet, input: 64, backend: "opencv-cpu[engine=new]"}
  - *a
gate: {threshold: 5%}
"""
_CASE = "csppeleenet[fusion=last,gamma=0.25]+prn@320x416/opencv-cpu[engine=new]/b1/t1"


def _seeds(name: str) -> list[bytes]:  # noqa: PLR0911 - one return a target
    """Good inputs to start from: random bytes alone never get past the first line."""
    if name == "suite":  # every section, in few words: a long file is slow to read
        return [_SUITE, _SUITE_INCLUDE]
    if name == "cfg":
        return [_CFG]
    if name == "id":
        return [_CASE.encode(), b'"darknet:a/b.cfg"[weights="c.weights"]@96/torch-cpu/b1/t2']
    if name == "board":
        outcome = {"arm": 0, "status": "ok", "reason": "", "log": "", "seconds": 1.0, "flags": [],
                   "answer": {"latencies_ns": [1, 2], "load_ns": 1, "first_ns": 1,
                              "warmup": {"count": 1, "steady": True},
                              "agreement": {"max_relative_error": 0.0}},
                   "notes": {"memory_bound": "cgroup", "board_state": {"cooled_seconds": 0.0},
                             "sensors": {"x": {"window_s": 1.0}}}}  # fmt: skip
        done = {
            "status": "done",
            "launch": "l",
            "late": [],
            "outcomes": [outcome, {**outcome, "arm": -1}],
        }
        announced = Board(Settings("a", ("b",))).announce()
        return [f"{announced}\0{encode('answer', done)}".encode()]
    if name == "pattern":
        return [f"{part}\0{_CASE}".encode() for part in ("csp*/b?/*", "*a*a?*t1", _CASE)]
    if name == "onnx":
        return [b"+" + bytes(range(256)), b"+" + bytes(range(255, -1, -1)), _graph(bytes(64))]
    meta = {
        "format": 1,
        "run": "r",
        "suite": {"name": "s", "measure": {"rounds": 2}},
        "cases": [{"id": _CASE, "key": "k", "status": None, "reason": ""}],
        "environment": {},
        "analyses": {},
    }
    timing = {
        "case": _CASE, "job": "time", "number": 0, "session": "a", "status": "ok", "reason": "",
        "latencies_ns": [1, 2, 3], "load_ns": 1, "first_ns": 1, "flags": ["contended"],
        "warmup": {"count": 1, "steady": True}, "agreement": {"max_relative_error": 0.0},
        "energy": {"energy_per_inference_j": 1.0, "power_w": 1.0, "idle_power_w": None,
                   "energy_method": "m"},
    }  # fmt: skip
    memory = {"case": _CASE, "job": "memory", "number": 1, "session": "a", "status": "ok",
              "memory": {"peak_memory_bytes": 1, "method": "m"}}  # fmt: skip
    texts = [json.dumps(launch).encode() for launch in (timing, memory)]
    start = json.dumps(meta).encode() + b"\0"
    return [start + b"+" + b"\n".join(texts), start + encode_line(timing) * 2]


def main() -> None:
    """Fuzz one target until libFuzzer's options say to stop."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")

    corpus = _HOME / f"corpus-{name}"
    for folder in (_FOLDER, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    counter = _HOME / f"{name}.count"
    inputs = int(counter.read_text()) if counter.exists() else 0

    def once(data: bytes) -> None:
        nonlocal inputs
        inputs += 1
        if inputs % _COUNT_EVERY == 0:
            counter.write_text(str(inputs))
        begin = time.process_time()
        with contextlib.suppress(InputError):
            TARGETS[name](data)
        taken = time.process_time() - begin
        assert taken < MOST_SECONDS, f"{taken:.1f} s of processor time"

    limits = ["-timeout=120", "-rss_limit_mb=256", "-max_len=4096", f"-artifact_prefix={_HOME}/"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
