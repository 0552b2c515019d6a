import pytest

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import case_from_id

CASE = "yolov3-tiny-prn@96/opencv-cpu/b1/t1"


@pytest.fixture(scope="session")
def opencv_artifact():
    """A small real network as OpenCV eats it, in the session's cache."""
    case = case_from_id(CASE)
    spec = ArtifactSpec(case.model_id, 1, "onnx", 0)
    if not spec.exists:
        item = {"batch": 1, "kind": "onnx", "key": spec.key}
        job = {"job": "prepare", "model": str(case.model_id), "seed": 0, "artifacts": [item]}
        (outcome,) = LocalExecutor().series([job], 300)
        assert spec.exists, outcome
    return spec


@pytest.fixture
def opencv_job(opencv_artifact):
    """What a worker needs to hold that network."""
    return {
        "case": CASE,
        "artifact": str(opencv_artifact.path),
        "reference": str(opencv_artifact.reference),
        "seed": 0,
        "warmup_seconds": 0.2,
    }
