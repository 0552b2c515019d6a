"""Evidence made by hand: case frames and analyses with the numbers that a test is about."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cspbench.analysis.record import Analysis
from cspbench.literature import Claim
from cspbench.paper.evidence import Evidence


def case(model: str, latency_ms: float, share: float = 0.02, backend: str = "opencv-cpu") -> dict:
    """A measured case whose interval is ``share`` of the latency either way."""
    return {
        "id": f"{model}/{backend}/b1/t1", "status": "ok", "reason": "", "latency_ms": latency_ms,
        "latency_ms_low": latency_ms * (1 - share), "latency_ms_high": latency_ms * (1 + share),
    }  # fmt: skip


def lost(model: str, status: str, reason: str, backend: str = "opencv-cpu") -> dict:
    """A case without a latency."""
    nothing = float("nan")
    return {
        "id": f"{model}/{backend}/b1/t1", "status": status, "reason": reason,
        "latency_ms": nothing, "latency_ms_low": nothing, "latency_ms_high": nothing,
    }  # fmt: skip


def analysis(model: str, places: dict[str, str] | None = None, **totals: float) -> Analysis:
    """An analysis that knows these totals."""
    return Analysis(id=model, input=(), totals=dict(totals), places=places or {})


def evidence(*runs: list[dict], analyses: list[Analysis] | None = None) -> Evidence:
    """Runs ``run0``, ``run1``, ... of these cases, and these analyses."""
    frames = {f"run{number}": pd.DataFrame(rows) for number, rows in enumerate(runs)}
    return Evidence({one.id: one for one in analyses or []}, frames)


def claim(kind: str, **test: Any) -> Claim:
    """A claim with this test."""
    return Claim("tried", "it is so", {}, "nowhere", test={"kind": kind, **test})
