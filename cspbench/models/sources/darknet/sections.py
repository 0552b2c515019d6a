"""Every section that the reader knows, by name: its options and input shapes -> a layer."""

from __future__ import annotations

from collections.abc import Callable

from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.models.sources.darknet import maps, outputs, weighted
from cspbench.models.sources.darknet.cfg import Section
from cspbench.models.sources.darknet.making import Context, Made

Maker = Callable[[Section, Context], Made]

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

#: Sections of Darknet that this reader refuses, with the reason.
UNSUPPORTED: dict[str, str] = {
    "contrastive": "it exists for training",
    "conv_lstm": "recurrent networks keep a state between images",
    "crnn": "recurrent networks keep a state between images",
    "deconvolutional": "Darknet removed it",
    "gru": "recurrent networks keep a state between images",
    "history": "recurrent networks keep a state between images",
    "implicit": "its values are no function of the image",
    "lrn": "local response normalisation has no reader",
    "lstm": "recurrent networks keep a state between images",
    "normalization": "local response normalisation has no reader",
    "rnn": "recurrent networks keep a state between images",
}


def make(section: Section, context: Context) -> Made:
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
