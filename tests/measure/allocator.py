"""torch's own account of a forward pass's memory on the CPU."""

import torch
from torch.profiler import ProfilerActivity, profile


def allocator_peak_bytes(program, array):
    """Largest sum of live bytes of one forward pass, from torch.profiler's memory events."""
    module = torch.export.load(program).module()
    with torch.inference_mode():
        module(array)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
            module(array)
    events = [event for event in found.profiler.kineto_results.events()
              if event.name() == "[memory]"]  # fmt: skip
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak
