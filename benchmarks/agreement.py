"""Does every backend, in every mode, agree with torch on every network of the zoo?

Run: ``python benchmarks/agreement.py [PATTERN ...] [--compile] [--results FILE] [--page]``.

Each network is exported at its smallest input and run by every backend setting that this machine
has, in workers as a launch uses them: a crash costs one row. A row is a JSON line in the results
file. A row of the same definitions is not measured again, so a campaign goes on where it stopped.
``--compile`` runs torch's compiled modes, a minute or more a network. ``--page`` only writes the
tables of docs/backends.md from the results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.backends._compiling import InductorSpec
from cspbench.backends.onnxruntime import PROVIDERS
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId, Ref
from cspbench.core.statuses import Status
from cspbench.core.text import matches
from cspbench.errors import Unsupported
from cspbench.models.identity import models_digest
from cspbench.models.spec import MODELS, NECKS
from cspbench.runner.process import Outcome, WorkerProcess

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "backends.md"
RESULTS = ROOT / "results" / "agreement.jsonl"
SEED = 0
#: Of every phase of a job; torch.compile of the largest network takes minutes.
TIMEOUT_SECONDS = 1800.0
#: The backbone that carries every neck.
CARRIER = "csppeleenet"
_BLOCK = re.compile(r"(<!-- table: agreement -->\n).*?(<!-- end -->)", re.DOTALL)
_ERROR = re.compile(r"differ from those of .* by ([\d.e+-]+)")
#: Axes that change what is computed; the others only change what is timed.
_AXES = ("engine", "provider", "mode", "layout", "precision")

Row = dict[str, Any]


def networks() -> list[ModelId]:
    """Every model of the zoo, and one backbone with every neck, at the smallest legal input."""
    names = [*MODELS.names(), *(f"{CARRIER}+{neck}" for neck in NECKS.names())]
    return [ModelId.parse(f"{name}@{_smallest(name.partition('+')[0])}") for name in names]


def _smallest(model: str) -> int:
    spec = MODELS.get(model)
    return -(-spec.min_input // spec.stride) * spec.stride


def settings() -> list[Ref]:
    """Every backend with every combination of the options that change what is computed."""
    every = []
    for backend in BACKENDS:
        axes = [axis for axis in backend.axes if axis.name in _AXES]
        for values in itertools.product(*(axis.choices for axis in axes)):
            chosen = {axis.name: value for axis, value in zip(axes, values, strict=True)}
            every.append(Ref.of(backend.name, chosen))
    return every


def here(setting: Ref) -> bool:
    """Whether this machine has the setting."""
    if BACKENDS.get(setting.name).available() is not None:
        return False
    if setting.name != "onnxruntime":
        return True
    import onnxruntime

    provider = PROVIDERS[str(dict(setting.options)["provider"])]
    return provider in onnxruntime.get_available_providers()


def compiles(setting: Ref) -> bool:
    """Whether one of torch's compilers is meant."""
    backend = BACKENDS.get(setting.name)
    return isinstance(backend, InductorSpec) and backend.compiles(dict(setting.options))


def checked(model: ModelId, setting: Ref, worker: WorkerProcess) -> Outcome:
    """Load one case as a launch does, which checks its outputs."""
    spec = ArtifactSpec(model, 1, BACKENDS.get(setting.name).artifact, SEED)
    job = {
        "job": "load", "case": f"{model}/{setting}/b1/t1", "seed": SEED,
        "artifact": str(spec.path), "reference": str(spec.reference),
        "warmup_seconds": 0.0,
    }  # fmt: skip
    return worker.ask(job, TIMEOUT_SECONDS)


def export(model: ModelId) -> dict[str, str]:
    """Write the artifacts of a model; return why a kind cannot be had."""
    from cspbench.artifacts.export import build_model, prepare

    module = build_model(model, SEED)
    reasons = {}
    for kind in ("onnx", "pt2"):
        try:
            prepare(ArtifactSpec(model, 1, kind, SEED), module)
        except Unsupported as reason:
            reasons[kind] = str(reason)
    return reasons


def campaign(
    models: Iterable[ModelId], settings: list[Ref], known: set[tuple[str, str]]
) -> Iterator[Row]:
    """Yield a row for every model and setting that is not known yet."""
    for model in models:
        left = [setting for setting in settings if (str(model), str(setting)) not in known]
        if not left:
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CSPBENCH_CACHE"] = folder
            reasons = export(model)
            for name, group in itertools.groupby(left, key=lambda setting: setting.name):
                reason = reasons.get(BACKENDS.get(name).artifact)
                worker = WorkerProcess()
                for setting in group:
                    if reason:
                        outcome = Outcome(Status.UNSUPPORTED, reason)
                    else:
                        if not worker.alive:
                            worker.close()
                            worker = WorkerProcess()
                        outcome = checked(model, setting, worker)
                    yield _row(model, setting, outcome)
                worker.close()


def _row(model: ModelId, setting: Ref, outcome: Outcome) -> Row:
    stated = _ERROR.search(outcome.reason)
    agreement = outcome.answer.get("agreement", {})
    version = outcome.answer.get("backend", {}).get("version")
    return {
        "model": str(model), "setting": str(setting), "status": outcome.status.value,
        "reason": outcome.reason, "version": version, "definitions": models_digest(),
        "error": agreement.get("max_relative_error", float(stated[1]) if stated else None),
    }  # fmt: skip


def read(path: Path) -> list[Row]:
    """Rows of the results file; the last of a model and setting counts."""
    rows: dict[tuple[str, str], Row] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["model"], row["setting"]] = row
    return list(rows.values())


def table(rows: list[Row]) -> str:
    """One line a setting: networks that agree, the largest error and whose it is; then the rest."""
    run = len({row["model"] for row in rows})
    lines = [
        f"So far {run} of {len(networks())} networks were run, in the settings of the table.",
        "",
        "| backend | agree | largest error | of | do not |",
        "| --- | --- | --- | --- | --- |",
    ]
    notes = []
    for setting in settings():
        own = [row for row in rows if row["setting"] == str(setting)]
        if not own:
            continue
        good = [row for row in own if row["status"] == "ok"]
        worst = max(good, key=lambda row: row["error"], default=None)
        bad = Counter(row["status"] for row in own if row["status"] != "ok")
        lines.append(
            f"| `{setting}` | {len(good)} of {len(own)} | "
            + (f"{worst['error']:.1e} | {worst['model']} | " if worst else "| | ")
            + ", ".join(f"{count} {status}" for status, count in bad.items())
            + " |"
        )
        notes += [
            f"- `{row['model']}` on `{setting}`: {row['status']}, {_short(row['reason'])}"
            for row in own
            if row["status"] != "ok"
        ]
    notes = notes or ["Of these networks every one agrees in every setting of the table."]
    return "\n".join([*lines, "", *notes, ""])


def _short(reason: str) -> str:
    return " ".join(reason.split())[:160].replace("|", "/")


def main() -> None:
    """Go on with the campaign, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", help="of model ids; all without")
    parser.add_argument(
        "--compile", action="store_true", help="torch's compiled modes, and nothing else"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="write the tables of the page")
    arguments = parser.parse_args()
    if arguments.page:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            _BLOCK.sub(lambda m: m[1] + table(read(arguments.results)) + m[2], text),
            encoding="utf-8",
        )
        return
    models = [
        model
        for model in networks()
        if not arguments.patterns or any(matches(p, str(model)) for p in arguments.patterns)
    ]
    chosen = [s for s in settings() if compiles(s) == arguments.compile and here(s)]
    known = {
        (row["model"], row["setting"])
        for row in read(arguments.results)
        if row["definitions"] == models_digest()
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as file:
        for row in campaign(models, chosen, known):
            file.write(json.dumps(row) + "\n")
            file.flush()
            error = "" if row["error"] is None else f"{row['error']:.1e}"
            print(row["model"], row["setting"], row["status"], error, row["reason"][:80])


if __name__ == "__main__":
    main()
