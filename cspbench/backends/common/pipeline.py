"""Scope ``pipeline``: the work before and after an inference, in numpy, and its stored data.

Before: a uint8 image as OpenCV decodes it (480 x 640, BGR) is resized bilinearly (half-pixel
centres), scaled to [0, 1] and laid out as (batch, 3, height, width), RGB. After, for detectors:
300 stored candidates an image are decoded as YOLOv3's (Redmon, Farhadi 2018, section 2.1) and
suppressed class by class (greedy NMS at an overlap of 0.45). The weights are random, so what a
network puts out would give NMS nothing to do, or everything: it gets stored candidates instead,
thirty objects of ten overlapping boxes each. All is derived from fixed seeds with integer and
exact float32 arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

import functools

import numpy as np

from cspbench.artifacts.tensors import POOL_SIZE, input_tensor

IMAGE = (480, 640)
OBJECTS, BOXES = 30, 10
CANDIDATES = OBJECTS * BOXES
CLASSES = 80
#: Columns of a candidate's head: cell x and y, anchor width and height and stride in pixels; then
#: the raw outputs tx, ty, tw, th, objectness and the classes.
GEOMETRY, FIRST_CLASS = 5, 10
MIN_SCORE = 0.25
MAX_OVERLAP = 0.45
_SEED = 0x1911


def image_pool(batch: int, size: int = POOL_SIZE) -> list[np.ndarray]:
    """Different stored images: uint8 (batch, 480, 640, 3), BGR."""
    return [
        (input_tensor((batch, *IMAGE, 3), _SEED, index) * np.float32(256)).astype(np.uint8)
        for index in range(size)
    ]


def candidate_pool(size: int = POOL_SIZE) -> list[np.ndarray]:
    """Different stored sets of candidates: float32 (300, 90), see GEOMETRY."""
    return [_candidates(index) for index in range(size)]


def _candidates(index: int) -> np.ndarray:
    objects = input_tensor((OBJECTS, 6), _SEED + 1, index)
    jitter = input_tensor((CANDIDATES, 5), _SEED + 2, index)
    noise = input_tensor((CANDIDATES, CLASSES), _SEED + 3, index)
    parents = objects.repeat(BOXES, axis=0)
    heads = np.empty((CANDIDATES, FIRST_CLASS + CLASSES), np.float32)
    heads[:, 0:2] = np.floor(parents[:, 0:2] * 13)  # the cell, of a grid of 13 x 13 ...
    heads[:, 2:4] = 30 + np.floor(parents[:, 2:4] * 150)  # ... its anchor ...
    heads[:, 4] = 32  # ... and stride, as YOLOv3 has at 416 pixels
    heads[:, 5:9] = (jitter[:, :4] - np.float32(0.5)) * np.float32(0.5)
    heads[:, 9] = jitter[:, 4] * 6 - 2  # objectness: a third or so stays below MIN_SCORE
    heads[:, FIRST_CLASS:] = noise * 2 - 6
    label = np.floor(parents[:, 4] * CLASSES).astype(int)
    heads[np.arange(CANDIDATES), FIRST_CLASS + label] = 3
    return heads


@functools.cache
def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both neighbours of every target pixel, and the weight of the second one."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.floor(centre).astype(np.intp)
    return low, np.minimum(low + 1, source - 1), (centre - low).astype(np.float32)


def pre_process(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize, scale and lay out: uint8 (batch, h, w, BGR) to float32 (batch, RGB, *size)."""
    top, bottom, down = _taps(images.shape[1], size[0])
    left, right, across = _taps(images.shape[2], size[1])
    down, across = down[:, None, None], across[:, None]
    rows = images[:, top] * (1 - down) + images[:, bottom] * down
    pixels = rows[:, :, left] * (1 - across) + rows[:, :, right] * across
    pixels *= np.float32(1 / 255)
    return np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2))


def decode(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, x y width height), scores, classes and numbers of the likely candidates.

    x = (sigmoid(tx) + cell) stride and width = anchor exp(tw), alike for y and height; the score
    is sigmoid(objectness) times the sigmoid of the likeliest class.
    """
    classes = heads[:, FIRST_CLASS:].argmax(axis=1)
    best = heads[np.arange(len(heads)), FIRST_CLASS + classes]
    scores = _sigmoid(heads[:, 9]) * _sigmoid(best)
    likely = np.flatnonzero(scores >= MIN_SCORE)
    chosen = heads[likely]
    sides = chosen[:, 2:4] * np.exp(chosen[:, 7:9])
    centres = (_sigmoid(chosen[:, 5:7]) + chosen[:, 0:2]) * chosen[:, 4:5]
    boxes = np.concatenate([centres - sides / 2, sides], axis=1)
    return boxes, scores[likely], classes[likely], likely


def suppress(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, numbers: np.ndarray
) -> list[int]:
    """Greedy NMS class by class: the ``numbers`` of the kept boxes, best first."""
    corners = boxes[:, :2] + boxes[:, 2:]
    areas = boxes[:, 2] * boxes[:, 3]
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(numbers[best]))
        low = np.maximum(boxes[rest, :2], boxes[best, :2])
        sides = np.maximum(np.minimum(corners[rest], corners[best]) - low, 0)
        shared = sides[:, 0] * sides[:, 1]
        overlap = shared / (areas[rest] + areas[best] - shared)
        order = rest[(overlap <= MAX_OVERLAP) | (classes[rest] != classes[best])]
    return kept


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result
