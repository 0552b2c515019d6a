"""What our dispatch modes have in common. This module imports torch."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class WatchingMode(TorchDispatchMode):
    """Watches operators without torch's compiler, whose import takes 1.5 s or more.

    torch imports it for every other mode, to keep it away from what the mode calls. Under a mode
    torch runs compiled functions as they are, so there is nothing to keep it away from.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
