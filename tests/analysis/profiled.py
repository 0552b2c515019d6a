"""What torch.profiler saw of one forward pass's memory on the CPU."""

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch.profiler import ProfilerActivity, profile

#: Calls that take memory for the operator that makes them.
FACTORIES = (
    *("empty", "empty_strided", "empty_like", "resize_", "zeros", "zeros_like", "new_empty"),
    *("full", "ones", "scalar_tensor"),
)


@dataclass
class Memory:
    """Bytes of one forward pass; inputs and weights are not among them.

    ``peak``: largest sum of what the allocator had given out. ``live_peak``: the same without what
    a kernel takes and gives back within its own call. ``temporaries``: the largest of those, by
    operator.
    """

    peak: int
    live_peak: int
    temporaries: Counter = field(default_factory=Counter)


@dataclass
class _Block:
    kernel: object
    begin: int
    size: int
    end: int | None = None

    @property
    def temporary(self):
        return (
            self.end is not None and self.kernel is not None and self.end <= self.kernel.end_time_ns
        )


def profiled(module, *inputs):
    """Memory of one forward pass without gradients; an earlier one warms up."""
    with torch.no_grad():
        module(*inputs)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            result = module(*inputs)
    blocks = _blocks(recorded.profiler.kineto_results.experimental_event_tree())
    del result
    temporaries = Counter()
    for block in blocks:
        if block.temporary:
            name = block.kernel.name.removeprefix("aten::")
            temporaries[name] = max(temporaries[name], block.size)
    live = [block for block in blocks if not block.temporary]
    return Memory(_peak(blocks), _peak(live), temporaries)


def _blocks(roots):
    """Pieces of memory that the allocator gave out, each with the kernel that asked for it."""
    events = []
    pending = list(roots)
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if event.name == "[memory]":
            events.append(event)
    events.sort(key=lambda event: event.start_time_ns)
    blocks, alive = [], {}
    for event in events:
        facts = event.extra_fields
        if facts.alloc_size > 0:
            alive[facts.ptr] = _Block(_kernel(event), event.start_time_ns, facts.alloc_size)
            blocks.append(alive[facts.ptr])
        elif facts.ptr in alive:
            alive.pop(facts.ptr).end = event.start_time_ns
    return blocks


def _kernel(event):
    """The operator that asked for memory."""
    parent = event.parent
    while parent is not None and parent.name.removeprefix("aten::") in FACTORIES:
        parent = parent.parent
    return parent


def _peak(blocks):
    changes = [(block.begin, block.size) for block in blocks]
    changes += [(block.end, -block.size) for block in blocks if block.end is not None]
    live = peak = 0
    for _, change in sorted(changes):
        live += change
        peak = max(peak, live)
    return peak
