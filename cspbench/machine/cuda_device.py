"""Identity of the first visible CUDA device from the driver, for libraries that do not report it.

The driver's order and ``CUDA_VISIBLE_DEVICES`` apply, as for the library that is measured (CUDA
driver API: ``cuDeviceGet``, ``cuDeviceGetName``, ``cuDeviceGetUuid_v2``).
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from typing import Any

_NAME_BYTES = 256


def first_device(driver: Any = None) -> dict[str, str]:
    """``device`` and ``device_uuid`` (as torch writes it) of device 0; empty without a driver.

    Args:
        driver: ``libcuda``, loaded; by default this function loads it.
    """
    try:
        driver = driver or ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {}
    number = ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    identity = (ctypes.c_ubyte * 16)()
    answers: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(number), 0),
        lambda: driver.cuDeviceGetName(name, _NAME_BYTES, number),
        lambda: driver.cuDeviceGetUuid_v2(ctypes.byref(identity), number),
    )
    if any(ask() != 0 for ask in answers):
        return {}
    return {"device": name.value.decode(), "device_uuid": str(uuid.UUID(bytes=bytes(identity)))}
