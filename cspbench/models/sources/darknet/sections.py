"""Every section that the reader knows, by name: its options and input shapes -> a layer.

Semantics and defaults are those of AlexeyAB/darknet ``src/parser.c`` and the layers that it makes,
described from their documented behaviour. Where forks differ, the docstring names the fork that is
followed.
"""

from __future__ import annotations

from collections.abc import Callable

from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.models.sources.darknet import maps, outputs, weighted
from cspbench.models.sources.darknet.cfg import Section
from cspbench.models.sources.darknet.context import Context, LayerDraft

Maker = Callable[[Section, Context], LayerDraft]

SECTIONS: dict[str, Maker] = {
    "activation": maps.activation,
    "avg": maps.avgpool,
    "avgpool": maps.avgpool,
    "batchnorm": weighted.batchnorm,
    "conn": weighted.connected,
    "connected": weighted.connected,
    "conv": weighted.convolutional,
    "convolutional": weighted.convolutional,
    "cost": maps.identity,
    "crop": maps.crop,
    "detection": outputs.detection,
    "dropout": maps.identity,
    "empty": maps.identity,
    "gaussian_yolo": outputs.yolo,
    "local": weighted.local,
    "local_avg": maps.local_avgpool,
    "local_avgpool": maps.local_avgpool,
    "max": maps.maxpool,
    "maxpool": maps.maxpool,
    "region": outputs.region,
    "reorg": maps.reorg,
    "reorg3d": maps.reorg,
    "route": maps.route,
    "sam": maps.sam,
    "scale_channels": maps.scale_channels,
    "shortcut": maps.shortcut,
    "silence": maps.identity,
    "soft": maps.softmax,
    "softmax": maps.softmax,
    "upsample": maps.upsample,
    "yolo": outputs.yolo,
}

_RECURRENT = "recurrent networks keep a state between images"
#: Sections of Darknet that this reader refuses, with the reason.
UNSUPPORTED: dict[str, str] = {
    "contrastive": "it exists for training",
    "conv_lstm": _RECURRENT,
    "crnn": _RECURRENT,
    "deconvolutional": "Darknet removed it",
    "gru": _RECURRENT,
    "history": _RECURRENT,
    "implicit": "its values do not depend on the image",
    "lrn": "local response normalisation has no reader",
    "lstm": _RECURRENT,
    "normalization": "local response normalisation has no reader",
    "rnn": _RECURRENT,
}


def make(section: Section, context: Context) -> LayerDraft:
    """Turn a section into a layer.

    Raises:
        InputError: an unknown or unsupported section, or options that do not fit.
    """
    name = section.name.lower()
    maker = SECTIONS.get(name)
    if maker is None:
        if name in UNSUPPORTED:
            raise section.fail(f"is not supported: {UNSUPPORTED[name]}")
        hint = nearest(name[:64], [*SECTIONS, *UNSUPPORTED])
        raise InputError(
            f"{section.path}:{section.line}: [{section.name}] is not a Darknet section{hint}"
        )
    return maker(section, context)
