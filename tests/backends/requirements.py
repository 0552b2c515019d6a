"""What a version of a library may lack, and its tests are then skipped for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest


def skip_without_engine(name: str, options: Mapping[str, object]) -> None:
    """Skip where OpenCV 4 is asked for the engine that came with OpenCV 5."""
    if name == "opencv-cpu" and options.get("engine") == "new":
        cv2 = pytest.importorskip("cv2")
        if not hasattr(cv2.dnn, "ENGINE_NEW"):
            pytest.skip(f"OpenCV {cv2.__version__} has no other engine than the classic one")
