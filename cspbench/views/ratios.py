"""Ratios of a run's cases to its reference as rows, in turns where the run measured so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cspbench.core.statuses import FLAGS
from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.measure.statistics import quotient
from cspbench.store.blocks import DEVICE, ELAPSED, RUNNING, SEPARATE
from cspbench.store.ratios import CaseRatio, InTurn, Ratios, reference_of
from cspbench.store.records import Record

#: The flag of a case whose ratio is one of two separate latencies.
SEPARATE_FLAG = "separate_launches"
#: What ratios are of, in words, in the order in which they are named.
TIMES = {
    RUNNING: "running time (elapsed time less waits for a processor)",
    ELAPSED: "elapsed time (waits for a processor included)",
    DEVICE: "device time (by the device's own events)",
}

RATIO_COLUMNS = (
    "case", "reference", "ratio", "ratio_low", "ratio_high", "ratio_all_low", "ratio_all_high",
    "ratio_of", "ratio_by", "ratio_blocks", "ratio_group", "ratio_typical", "waiting", "waited",
    "throttled_rounds", "trusted",
)  # fmt: skip
#: Those of them that the frame of cases has, too.
CASE_RATIO_COLUMNS = ("ratio", "ratio_low", "ratio_high", "ratio_of", "ratio_blocks", "ratio_group")
RATIO_NUMBERS = (
    "ratio", "ratio_low", "ratio_high", "ratio_all_low", "ratio_all_high", "ratio_blocks",
    "ratio_typical", "waiting", "throttled_rounds",
)  # fmt: skip


def with_ratio_flags(flags: Iterable[str], ratio: Mapping[Any, Any]) -> list[str]:
    """The flags of a case, and those that its row of the frame of ratios adds; {} for none."""
    added = {
        "untrusted": ratio.get("trusted") is False,
        "waited": ratio.get("waited") is True,
        SEPARATE_FLAG: ratio.get("ratio_of") == SEPARATE,
    }
    holding = {*flags, *(flag for flag, holds in added.items() if holds)}
    return [flag for flag in FLAGS if flag in holding]


def times_of(kinds: Iterable[str | None]) -> list[str]:
    """Which kinds of time the ratios of a table in turn are of, by their ``ratio_of``."""
    present = set(kinds)
    return [kind for kind in TIMES if kind in present]


def ratio_notes(kinds: Iterable[str | None]) -> list[str]:
    """What a table that people read says of its ratios.

    A table whose ratios are of several kinds of time says in each row which it is.

    Args:
        kinds: ``ratio_of`` of each row; None where it has no ratio.
    """
    kinds = list(kinds)
    times = [TIMES[kind] for kind in times_of(kinds)]
    notes = []
    if len(times) > 1:
        notes.append(f"Each row says what its ratio is of: {', '.join(times[:-1])} or {times[-1]}.")
    elif times:
        notes.append(f"Ratios are of {times[0]}.")
    if SEPARATE not in kinds:
        return notes
    weaker = (
        f"A ratio flagged {SEPARATE_FLAG} is the quotient of two latencies that were not measured "
        "in turn. It is weaker than a ratio from bursts in turn."
    )
    return [*notes, weaker]


def find_reference(pattern: str, case_ids: Sequence[str]) -> str:
    """The one case that a pattern matches.

    Raises:
        InputError: it matches none, or several.
    """
    found = select([pattern], case_ids)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no case of the run matches {pattern!r}")
    raise InputError(
        f"{pattern!r} matches {len(found)} cases, {found[0]} and {found[1]} among them: name one"
    )


def rows_by_reference(
    records: Sequence[Record], meta: Mapping[str, Any], in_turn: InTurn, relative_to: str | None
) -> list[dict[str, Any]]:
    """Rows of `ratio_rows`, in the order of the records; each board of a fleet by itself.

    Args:
        records: all cases of a run.
        meta: of the run.
        in_turn: its launches.
        relative_to: the case that was asked for; by default the reference that the run noted.
    """
    seats = (meta.get("fleet") or {}).get("seats", {})
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        reference = relative_to or reference_of(meta, record.case)
        if reference is not None and seats.get(reference) == seats.get(record.case):
            groups[reference].append(record)
    rows = []
    for reference, group in groups.items():
        launches = (launch for record in group for launch in record.launches)
        own = InTurn(launches) if seats else in_turn  # of one board only
        rows += ratio_rows(group, own.relative_to(reference))
    place = {record.case: number for number, record in enumerate(records)}
    return sorted(rows, key=lambda row: place[row["case"]])


def ratio_rows(records: Sequence[Record], ratios: Ratios) -> list[dict[str, Any]]:
    """One row a case that was measured; the reference's row is its ratio to itself (A/A).

    Cases that never shared a block with the reference have the quotient of the two latencies, whose
    interval is that of two separate measurements (``ratio_of`` says so).
    """
    latency = {record.case: record.latency_ms for record in records}
    base = latency.get(ratios.reference)
    trust = {"trusted": ratios.trusted, "distrust": ratios.distrust}
    rows = []
    for record in records:
        own = latency[record.case]
        if own is None or base is None:
            continue
        is_reference = record.case == ratios.reference
        found = ratios.cases.get(record.case)
        if is_reference and ratios.check_of == record.case:
            found = ratios.check
        row: dict[str, Any] = {
            "case": record.case,
            "reference": ratios.reference,
            "ratio_group": ratios.letters.get(record.case),
            **trust,
        }
        if found is not None:
            row |= _in_turns(found)
        elif not is_reference:
            apart = quotient(own, base)
            row |= {"ratio": apart.estimate, "ratio_low": apart.low, "ratio_high": apart.high,
                    "ratio_of": SEPARATE}  # fmt: skip
        rows.append(row)
    return rows


def _in_turns(found: CaseRatio) -> dict[str, Any]:
    ratio = found.ratio
    return {
        "ratio": ratio.estimate,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "ratio_all_low": ratio.all_low,
        "ratio_all_high": ratio.all_high,
        "ratio_of": found.of,
        "ratio_by": found.by,
        "ratio_blocks": ratio.blocks,
        "ratio_typical": found.typical,
        "waiting": found.waiting,
        "waited": found.waited,
        "throttled_rounds": found.throttled_rounds,
    }
