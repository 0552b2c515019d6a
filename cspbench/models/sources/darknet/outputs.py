"""Detection sections -> outputs of the network.

Semantics and defaults: see ``sections.py``.
"""

from __future__ import annotations

from math import prod

from cspbench.models.sources.darknet.cfg import Section
from cspbench.models.sources.darknet.context import MAX_CHANNELS, Context, LayerDraft
from cspbench.models.sources.darknet.ops import Detection


def yolo(section: Section, context: Context) -> LayerDraft:
    """``[yolo]``, ``[gaussian_yolo]``: 4 (or 8) coordinates, an objectness and the classes."""
    classes = section.integer("classes", 20, 1, MAX_CHANNELS)
    anchors = len(section.integers("mask")) or section.integer("num", 1, 1, MAX_CHANNELS)
    coordinates = 8 if section.name.lower() == "gaussian_yolo" else 4
    return _detection(section, context, classes, anchors, anchors * (classes + coordinates + 1))


def region(section: Section, context: Context) -> LayerDraft:
    """``[region]`` (YOLOv2)."""
    classes = section.integer("classes", 20, 1, MAX_CHANNELS)
    anchors = section.integer("num", 1, 1, MAX_CHANNELS)
    coordinates = section.integer("coords", 4, 1, 64)
    return _detection(section, context, classes, anchors, anchors * (classes + coordinates + 1))


def detection(section: Section, context: Context) -> LayerDraft:
    """``[detection]`` (YOLOv1): a grid of ``side`` x ``side`` in one long vector."""
    classes = section.integer("classes", 1, 1, MAX_CHANNELS)
    boxes = section.integer("num", 1, 1, MAX_CHANNELS)
    side = section.integer("side", 7, 1, 1024)
    coordinates = section.integer("coords", 1, 1, 64)
    count = side**2 * (boxes * (1 + coordinates) + classes)
    if prod(context.shape) != count:
        raise section.fail(
            f"reads {count} numbers, but the layer before it has {prod(context.shape)}"
        )
    return LayerDraft(Detection(classes, boxes), context.shape)


def _detection(
    section: Section, context: Context, classes: int, anchors: int, channels: int
) -> LayerDraft:
    if context.shape[0] != channels:
        raise section.fail(
            f"{anchors} anchors of {classes} classes need {channels} channels before it, "
            f"not {context.shape[0]}"
        )
    return LayerDraft(Detection(classes, anchors), context.shape)
