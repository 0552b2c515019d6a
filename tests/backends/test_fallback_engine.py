"""OpenCV's ``engine: auto`` says so where it could not take its first engine."""

import types
from pathlib import Path

import pytest

from cspbench.backends.opencv_cpu import OpenCvSession, _read
from cspbench.errors import Unsupported

NEW, CLASSIC = 2, 1


class CvError(Exception):
    """As cv2.error: the sentence is in ``err``."""

    err = "no such operator"


def opencv(*, takes, engines=("ENGINE_NEW", "ENGINE_CLASSIC")):
    """A cv2 whose engines ``takes`` can hold the model."""

    def read(path, engine=CLASSIC):
        if engine not in takes:
            raise CvError
        return types.SimpleNamespace(
            empty=lambda: False, getUnconnectedOutLayersNames=lambda: ("out",)
        )

    numbers = {"ENGINE_NEW": NEW, "ENGINE_CLASSIC": CLASSIC}
    dnn = types.SimpleNamespace(
        readNetFromONNX=read, **{name: numbers[name] for name in engines}
    )  # fmt: skip
    return types.SimpleNamespace(
        dnn=dnn, error=CvError, __version__="5.0.0", getNumThreads=lambda: 1
    )


def facts(cv2, wanted):
    return OpenCvSession(cv2, _read(cv2, Path("net.onnx"), wanted), 1).describe()


def test_auto_tells_why_it_fell_back_to_the_classic_engine():
    told = facts(opencv(takes={CLASSIC}), "auto")
    assert told["engine"] == "classic"
    assert told["fallback"] == "the new engine cannot read the model: no such operator"


@pytest.mark.parametrize(("wanted", "ran"), [("auto", "new"), ("new", "new"), ("classic",) * 2])
def test_what_got_its_first_choice_has_not_fallen_back(wanted, ran):
    told = facts(opencv(takes={NEW, CLASSIC}), wanted)
    assert told["engine"] == ran
    assert "fallback" not in told


@pytest.mark.parametrize("engines", [(), ("ENGINE_CLASSIC",)])
def test_the_only_engine_of_a_version_is_no_fallback(engines):
    cv2 = opencv(takes={CLASSIC}, engines=engines)
    assert "fallback" not in facts(cv2, "auto")
    with pytest.raises(Unsupported, match=r"OpenCV 5\.0\.0 has"):
        facts(cv2, "new")


def test_an_engine_asked_for_by_name_is_never_another_one():
    with pytest.raises(Unsupported, match="the new engine cannot read the model"):
        facts(opencv(takes={CLASSIC}), "new")
