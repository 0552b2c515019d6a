"""What several figures need to know of a case row: its family, its label, its setting.

Light: works on the plain text of a case frame and on the registry of models.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from cspbench.core.case import Case, Ref
from cspbench.core.text import printable, significant
from cspbench.errors import CspbenchError
from cspbench.models.stated import model_stated

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

Row = Mapping[Any, Any]
T = TypeVar("T")
LABEL_LENGTH = 44
#: The source and the folders of a file that is a model: onnx:nets/a.onnx.
_FOLDERS = re.compile(r"^[a-z]+:.*/(?=[^/]+$)")


#: Labels of networks by model id, that the suites of the runs at hand chose.
_LABELS: ContextVar[Mapping[str, str]] = ContextVar("labels", default=MappingProxyType({}))


@contextlib.contextmanager
def labelled(runs: Iterable[Run]) -> Iterator[None]:
    """In this block networks are shown by the labels of these runs' suites."""
    chosen = {
        model: label
        for run in runs
        for model, label in run.stored.meta["suite"].get("labels", {}).items()
    }
    token = _LABELS.set(chosen)
    try:
        yield
    finally:
        _LABELS.reset(token)


def plain(text: object) -> str:
    """Text that any file can hold and that shows what it is, on one line."""
    return printable(str(text))


def shorten(text: str, length: int = LABEL_LENGTH) -> str:
    """Cut the middle out of a text that is too long for a label."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[-(length - 1 - head) :]}"


def known(value: Any) -> float | None:
    """A number of a frame; None where it is missing."""
    return None if value is None or math.isnan(value) else float(value)


def known_text(value: Any) -> str | None:
    """A text of a frame; None where it is missing, which a frame may write as NaN."""
    return value if isinstance(value, str) else None


def number(value: float) -> str:
    """Three significant digits, never in powers of ten: 0.0123, 4.50, 78.9, 1234."""
    return significant(value, 3)


def model_label(case_id: str) -> str:
    """`model_shown`, cut to a label's length."""
    return shorten(model_shown(case_id))


def model_shown(case_id: str) -> str:
    """``csppeleenet-ref[gamma=0.5]+prn@320``: what runs, as people look for it.

    That is the suite's label, or else the id without the backend; but γ, which is what the networks
    differ in, stands there also where it is the default, and a file stands with its name alone.
    """
    model = Case.parse(case_id).model_id
    if label := _LABELS.get().get(str(model)):
        return plain(label)
    stated = model_stated(case_id)
    name = _FOLDERS.sub("", stated.model.name)
    return plain(replace(stated, model=Ref(name, stated.model.options)))


def setting_label(case_id: str) -> str:
    """Where and how it runs: backend, batch and threads where they are not 1, a fleet's board."""
    case = Case.parse(case_id)
    extras = [f"batch {case.batch}"] * (case.batch != 1)
    extras += [f"{case.threads} threads"] * (case.threads != 1)
    extras += [f"on {case.board}"] * (case.board is not None)
    return plain(", ".join([str(case.backend), *extras]))


def family(model: str) -> str:
    """Family of a model by its name; a model that is not in the zoo is a family of its own."""
    from cspbench.models.spec import MODELS

    try:
        spec = MODELS.get(model)
    except CspbenchError:
        return plain(model)
    return spec.family or spec.name


def is_csp(case_id: str) -> bool:
    """True for a cross-stage-partial network: by its name, or by its ``csp.fusion`` option."""
    return is_partial(Case.parse(case_id).model)


def is_partial(model: Ref) -> bool:
    """`is_csp` of a model without its case."""
    partial = dict(model.options).get("csp.fusion", "none") != "none"
    return model.name.startswith("csp") or partial


def measured(runs: Sequence[Run]) -> pd.DataFrame:
    """Case rows of all runs that have a latency, in plan order, with the name of their ``run``.

    A case that several runs measured is taken from the last of them.
    """
    import pandas as pd

    frames = [run.cases[run.cases["latency_ms"].notna()].assign(run=run.name) for run in runs]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"id": []})
    return frame.drop_duplicates("id", keep="last").reset_index(drop=True)


def fps_interval(row: Mapping[Any, Any]) -> tuple[float | None, float | None]:
    """The interval of a case row's fps; None with a single launch.

    Ends are swapped by the reciprocal: the highest latency is the lowest fps.
    """
    slowest, fastest = known(row["latency_ms_high"]), known(row["latency_ms_low"])
    images = 1000 * row["batch"]
    return images / slowest if slowest else None, images / fastest if fastest else None


def spread(items: Sequence[T], count: int) -> Sequence[T]:
    """At most ``count`` items, evenly spread from the first on; all of them if they are few."""
    return items[:: -(-len(items) // count)] if len(items) > count else items


def in_order(values: Iterable[str]) -> list[str]:
    """The distinct values in order of first appearance."""
    return list(dict.fromkeys(values))
