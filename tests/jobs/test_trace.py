"""torch.profiler's trace of a case: kept on request, read by a viewer."""

import base64
import zlib
from types import SimpleNamespace

import pytest

from cspbench.backends.spec import BACKENDS
from cspbench.errors import Unsupported
from cspbench.jobs.spec import JOBS
from cspbench.jobs.trace import MOST_JSON_BYTES, TraceResult, perform


def packed(data):
    return base64.b64encode(zlib.compress(data)).decode()


def test_the_text_is_the_one_that_was_packed():
    assert TraceResult(3, "2.13.0", packed(b'{"traceEvents": []}')).text() == '{"traceEvents": []}'


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ("not base64!", "is damaged"),
        (base64.b64encode(b"no zlib").decode(), "is damaged"),
        (packed(b"{}")[:-4], "damaged or too large"),
        (packed(b"\xff\xfe"), "is damaged"),
        (packed(b" " * (MOST_JSON_BYTES + 1)), "damaged or too large"),  # 256 kB become 256 MB
    ],
)
def test_a_trace_of_a_stranger_is_bounded(stored, why):
    with pytest.raises(ValueError, match=why):
        TraceResult(3, "2.13.0", stored).text()


def test_only_cases_that_torch_runs_have_one():
    kind = JOBS.get("trace")
    assert [name for name in BACKENDS.names() if kind.applies(BACKENDS.get(name), {})] == [
        "jetson", "torch-cpu", "torch-cuda",
    ]  # fmt: skip
    request = SimpleNamespace(backend=BACKENDS.get("onnxruntime"))
    with pytest.raises(Unsupported, match="onnxruntime runs nothing that"):
        perform(request, lambda phase: None)
