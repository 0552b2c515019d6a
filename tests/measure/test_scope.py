"""What a latency spans: which calls lie inside the clock, and what they work on."""

import numpy as np
import pytest

from cspbench.backends.common import pipeline as _pipeline
from cspbench.backends.spec import BACKENDS, SCOPE
from cspbench.core.case import Case
from cspbench.measure.scope import detects, scope_of, timed_parts


class Session:
    """Notes what is called."""

    def __init__(self):
        self.log = []

    def set_input(self, array):
        self.log.append("set_input")

    def run(self):
        self.log.append("run")

    def infer(self, array):
        self.log.append(("infer", array.shape))

    def pre_process(self, images, size):
        self.log.append(("pre_process", images.shape, images.dtype.name))
        return np.zeros((len(images), 3, *size), np.float32)

    def post_process(self, heads):
        self.log.append(("post_process", heads.shape))


def timed(case):
    """What happens before the clock, and what inside."""
    session = Session()
    feed, infer = timed_parts(session, Case.parse(case), [np.zeros((2, 3, 64, 96), np.float32)])
    feed(0)
    before, session.log = session.log, []
    infer()
    return before, session.log


def test_inference_times_the_run_alone():
    assert timed("peleenet@64x96/torch-cpu/b2/t1") == (["set_input"], ["run"])


def test_end_to_end_times_from_host_memory_to_host_memory():
    case = "peleenet@64x96/torch-cpu[scope=end_to_end]/b2/t1"
    assert timed(case) == ([], [("infer", (2, 3, 64, 96))])


def test_a_pipeline_begins_with_images():
    before, inside = timed("peleenet@64x96/torch-cpu[scope=pipeline]/b2/t1")
    assert before == []
    assert inside == [("pre_process", (2, 480, 640, 3), "uint8"), ("infer", (2, 3, 64, 96))]


@pytest.mark.parametrize("model", ["yolov3-tiny@64x96", "csppeleenet+prn@64x96"])
def test_a_detectors_pipeline_ends_with_boxes_of_every_image(model):
    _, inside = timed(f"{model}/torch-cpu[scope=pipeline]/b2/t1")
    assert inside[2:] == [("post_process", (300, 90))] * 2


def test_who_detects():
    models = ("peleenet@64", "csppeleenet+efm@64", "centernet-resnet18@64")
    found = [detects(Case.parse(f"{model}/x/b1/t1").model_id) for model in models]
    assert found == [False, True, True]


def test_every_backend_has_the_axis_and_old_ids_mean_inference():
    assert all(SCOPE in backend.axes for backend in BACKENDS)
    assert scope_of({}) == "inference"
    assert scope_of({"scope": "pipeline"}) == "pipeline"


# Pre-processing ---------------------------------------------------------------------------------


def test_resizing_by_hand():
    # Two pixels of one row to four: centres at (i + 0.5) / 2 - 0.5 = -0.25, 0.25, 0.75, 1.25,
    # so the weights of the second pixel are 0 (clipped), 0.25, 0.75 and 1 (clipped).
    images = np.zeros((1, 1, 2, 3), np.uint8)
    images[0, 0, 1] = (255, 51, 0)  # blue, green, red
    red, green, blue = _pipeline.pre_process(images, (1, 4))[0]
    assert blue[0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    assert green[0].tolist() == pytest.approx([0, 0.05, 0.15, 0.2])  # 51 / 255 = 0.2
    assert red[0].tolist() == [0, 0, 0, 0]


def test_our_resizing_is_that_of_torch():
    torch = pytest.importorskip("torch")
    images = _pipeline.image_pool(1, 1)[0]
    ours = _pipeline.pre_process(images, (64, 96))
    tensor = torch.from_numpy(images[..., ::-1].transpose(0, 3, 1, 2).copy()).float() / 255
    theirs = torch.nn.functional.interpolate(tensor, (64, 96), mode="bilinear")
    # It works coordinates out in float32: 640 pixels x 6e-8 of a pixel.
    assert np.abs(ours - theirs.numpy()).max() < 1e-4
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous


def opencv_session():
    """Its own pre- and post-processing, without a net."""
    cv2 = pytest.importorskip("cv2")
    from cspbench.backends.opencv_cpu import OpenCvSession

    session = object.__new__(OpenCvSession)
    session._cv2 = cv2
    return session


def test_opencvs_pre_processing_gives_the_same_image():
    images = _pipeline.image_pool(2, 1)[0]
    theirs = opencv_session().pre_process(images, (64, 96))
    ours = _pipeline.pre_process(images, (64, 96))
    assert theirs.shape == ours.shape == (2, 3, 64, 96)
    # It interpolates in whole numbers: within one of 255 steps.
    assert np.abs(theirs - ours).max() <= 1.01 / 255


# Post-processing --------------------------------------------------------------------------------


def test_decoding_by_hand():
    heads = np.full((1, 90), -20.0, np.float32)
    heads[0, :5] = (3, 5, 40, 20, 32)  # cell, anchor, stride
    heads[0, 5:9] = (0, 0, 0, np.log(2))
    heads[0, 9] = 20
    heads[0, 10 + 7] = 20
    boxes, scores, classes, numbers = _pipeline.decode(heads)
    # Centre (0.5 + 3) * 32 = 112, (0.5 + 5) * 32 = 176; sides 40 and 20 * 2 = 40.
    assert boxes[0].tolist() == pytest.approx([92, 156, 40, 40])
    assert (scores[0], classes[0], numbers[0]) == (pytest.approx(1), 7, 0)
    heads[0, 9] = -2  # sigmoid(-2) = 0.12, below 0.25
    assert len(_pipeline.decode(heads)[0]) == 0


def test_suppression_by_hand():
    # Boxes 0 and 1 share 8 x 10 of 120: an overlap of 0.67; 2 is of another class; 3 is apart.
    boxes = np.array([[0, 0, 10, 10], [2, 0, 10, 10], [2, 0, 10, 10], [50, 50, 10, 10]], float)
    scores = np.array([0.5, 0.9, 0.4, 0.6])
    kept = _pipeline.suppress(boxes, scores, np.array([1, 1, 2, 1]), np.array([10, 11, 12, 13]))
    assert kept == [11, 13, 12]


def test_candidates_give_nms_something_to_do_and_always_the_same():
    first, second = _pipeline.candidate_pool(2)
    assert first.shape == (_pipeline.CANDIDATES, 90)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, _pipeline.candidate_pool(1)[0])
    likely = _pipeline.decode(first)[3]
    kept = _pipeline.suppress(*_pipeline.decode(first))
    # Some are unlikely, and of the thirty objects' boxes most are suppressed.
    assert 150 < len(likely) < 300
    assert 25 <= len(kept) < 0.5 * len(likely)


def test_opencvs_nms_keeps_the_same_boxes():
    session = opencv_session()
    for heads in _pipeline.candidate_pool(4):
        ours = _pipeline.suppress(*_pipeline.decode(heads))
        assert sorted(session.post_process(heads)) == sorted(ours)
