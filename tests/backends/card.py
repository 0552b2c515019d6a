"""An invented CUDA device: the processor, with a log of what was asked of it."""

import types

import torch


class Card:
    """The device of a session: the processor, with a log of what was called.

    ``segments`` are the caching allocator's; an inference takes 4096 bytes on top of what is used.
    """

    def __init__(self):
        self.device, self.log, self.used, self.workspace = torch.device("cpu"), [], 1234, 500
        self.pools = [
            {"segment_pool_id": (0, 0), "total_size": 2 * 2**20, "allocated_size": 2**20},
            {"segment_pool_id": (0, 1), "total_size": 6 * 2**20, "allocated_size": 2**20},
        ]

    def event(self):
        card = self

        class Event:
            def record(self):
                card.log.append("event")

            def query(self):
                return False

            def elapsed_time(self, end):
                return 3.0

        return Event()

    def stall(self, cycles):
        self.log.append("stall")

    def synchronise(self):
        self.log.append("synchronise")

    def pinned(self, like):
        self.log.append("pinned")
        return torch.empty(like.shape, dtype=like.dtype)

    def properties(self):
        return types.SimpleNamespace(name="a device", uuid="1-2-3", L2_cache_size=1024)

    def capture(self, work):
        self.log.append("capture")
        result = work()

        def replay():
            self.log.append("replay")
            result.copy_(work())

        return replay, result

    def used_bytes(self):
        return self.used

    def peak_bytes(self):
        return 12345

    def reserved_bytes(self):
        return 8 * 2**20

    def segments(self):
        return self.pools

    def reset_peak(self):
        self.log.append("new peak")

    def drop_workspaces(self):
        self.used -= self.workspace

    def empty_cache(self):
        pass
