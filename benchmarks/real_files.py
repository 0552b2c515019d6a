"""Are ONNX files of real packages analysed and run by every backend of the processor?

Run: ``python benchmarks/real_files.py FOLDER [--results FILE] [--page]``.

FOLDER holds ONNX files, in folders that are named after the packages that they came in. Each is
analysed at its own size, or at the first of some usual sizes where its axes are open, and run for
a moment by every backend that reads it, with its layer profile. A row is a JSON line in the results
file. A file of the same bytes is not run again with the same sources, so that a campaign goes on
where it stopped. What ends with a traceback, or with an exit code that no answer has, is
``broken``.
``--page`` writes the table of docs/own-model.md from the results.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cspbench
from cspbench.core.files import file_digest, sources_digest
from cspbench.errors import InputError

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "own-model.md"
RESULTS = ROOT / "results" / "real-files.jsonl"
_BLOCK = re.compile(r"(<!-- table: real files -->\n).*?(<!-- end -->)", re.DOTALL)
#: Sizes for open axes: none, pictures, lines of text, spectrograms.
SIZES = ("", "224", "48x320", "64x128", "320", "640", "64", "1x128", "76x32", "80x100", "1x512")
#: So short that a file takes seconds.
QUICK = {
    "threads": 1, "measure.rounds": 1, "measure.max_seconds": 0.2, "measure.warmup": 0.1,
    "measure.target_ratio": 0.9, "measure.memory": False, "measure.layers": True,
    "measure.budget_seconds": 300,
}  # fmt: skip
TIMEOUT_SECONDS = 600
#: A message that names a size for open axes.
_OPEN = re.compile(r"behind the model, @([0-9x]+)")
#: Exit codes of an answer: done, or a sentence about the file or its size.
ANSWERS = (0, 2, 3)

Row = dict[str, Any]


def called(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of the command line."""
    command = [sys.executable, "-m", "cspbench", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    return done.returncode, done.stdout, done.stderr


def broken(code: int, text: str) -> bool:
    """Whether an answer is none that a user should get."""
    return code not in ANSWERS or "Traceback" in text


def sentence(text: str) -> str:
    """The last line of an error, short."""
    lines = [line for line in text.strip().splitlines() if line]
    return (lines[-1].removeprefix("error: ") if lines else "")[:300]


def analysed(file: Path) -> Row:
    """What the analysis says, and at which size."""
    said = ""
    sizes = list(SIZES)
    for size in sizes:
        text = f"{file}@{size}" if size else str(file)
        code, out, error = called("analyze", text, "--format", "json", "--no-cache")
        if broken(code, error):
            return {"analysis": "broken", "reason": sentence(error), "size": size}
        if code == 0:
            [found] = json.loads(out)
            numbers = {name: found[name] for name in ("params", "macs", "coverage", "unsupported")}
            return {"analysis": "ok", "size": size, "id": found["id"], **numbers}
        said = said or sentence(error)
        if size == "" and not _OPEN.search(error):
            break
        if size == "" and (told := _OPEN.search(error)):
            sizes.insert(1, told[1])
        elif "cannot run on" not in error:  # not because of the size
            return {"analysis": "refused", "reason": sentence(error), "size": size}
    return {"analysis": "refused", "reason": said, "size": ""}


def ran(file: Path, size: str, results: Path) -> Row:
    """Status, reason and latency of each backend, and the share of time of joined layers."""
    try:
        run = cspbench.run(f"{file}@{size}" if size else str(file), results, settings=QUICK)
    except InputError as error:
        return {"run": "refused", "reason": str(error)[:300], "backends": {}}
    except Exception as error:  # what a user must not get
        return {"run": "broken", "reason": repr(error)[:300], "backends": {}}
    times = run.layer_times
    backends = {}
    for case in run.cases.to_dict("records"):
        own = times[times["case"] == case["id"]]
        joined = own["time_ms"][own["index"].map(bool)].sum()
        backends[case["backend"]] = {
            "status": case["status"], "reason": case["reason"],
            "latency_ms": case["latency_ms"] if case["status"] == "ok" else None,
            "error": case["max_relative_error"] if case["status"] == "ok" else None,
            "allowed": case["allowed_error"] if case["status"] == "ok" else None,
            "entries": len(own), "joined": joined / own["time_ms"].sum() if len(own) else None,
        }  # fmt: skip
    return {"run": "ok", "backends": backends}


def rows(folder: Path, known: dict[str, Row]) -> Iterator[Row]:
    """One row a file that is not known."""
    version = sources_digest(ROOT / "cspbench")[:16]
    with tempfile.TemporaryDirectory() as results:
        for file in sorted(folder.rglob("*.onnx"), key=lambda file: file.stat().st_size):
            key = f"{file_digest(file)[:16]} {version}"
            if key in known:
                continue
            row: Row = {"key": key, "package": file.relative_to(folder).parts[0],
                        "file": file.name, "bytes": file.stat().st_size}  # fmt: skip
            row |= analysed(file)
            yield row | ran(file, row["size"], Path(results))


def page(found: list[Row]) -> str:
    """The table of the documentation."""
    names = sorted({name for row in found for name in row["backends"]})
    lines = [f"| package | file | size | params (M) | GMACs | {' | '.join(names)} |",
             f"| --- | --- | --- | --- | --- |{' --- |' * len(names)}"]  # fmt: skip
    reasons: dict[str, int] = {}
    for row in sorted(found, key=lambda row: (row["package"], row["file"])):
        size = row.get("id", "").rpartition("@")[2] if row["analysis"] == "ok" else "-"
        if row["analysis"] == "ok":
            counts = [f"{row['params'] / 1e6:.3f}", f"{row['macs'] / 1e9:.3f}"]
        else:
            note = reasons.setdefault(_anonymous(row["reason"]), len(reasons) + 1)
            counts = [f"{row['analysis']} ({note})", "-"]
        cells = [_cell(row["backends"].get(name), reasons) for name in names]
        shown = [row["package"], f"`{row['file']}`", size, *counts, *cells]
        lines.append(f"| {' | '.join(shown)} |")
    notes = [f"{number}. {reason.replace('|', '/')}" for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes, ""])


def _cell(case: Row | None, reasons: dict[str, int]) -> str:
    if case is None:
        return "-"
    if case["status"] == "ok":
        return "ok"
    reason = _anonymous(case["reason"])
    return f"{case['status']} ({reasons.setdefault(reason, len(reasons) + 1)})"


def _anonymous(reason: str) -> str:
    """A reason without the model's own path, which leads it, and others of this machine."""
    text = re.sub(r"^\S+\.onnx: ", "", " ".join(reason.split()))
    return re.sub(r"(?<![\w'])/[\w./-]+", "FILE", text)[:200]


def main() -> None:
    """Run files, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write docs/own-model.md")
    arguments = parser.parse_args()
    lines = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    known = {row["key"]: row for row in map(json.loads, lines)}
    if arguments.folder is not None:
        with arguments.results.open("a") as file:
            for row in rows(arguments.folder, known):
                known[row["key"]] = row
                file.write(json.dumps(row) + "\n")
                file.flush()
                states = {name: case["status"] for name, case in row["backends"].items()}
                print(row["file"], row["analysis"], row.get("reason", ""), states, flush=True)
    if arguments.page:
        latest = {row["key"].split()[0]: row for row in known.values()}
        table = page(list(latest.values()))
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(_BLOCK.sub(lambda m: m[1] + table + m[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
