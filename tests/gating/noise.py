"""Simulated burst times of a machine with the noise of real ones.

One path of machine noise runs through both arms in ABBA order. Noise only makes a burst slower:
small delays with a heavy tail (the size of a Student's t, 3 degrees of freedom, scale 3 %), a
neighbour that stays or goes from burst to burst (at work 40 % of the time, up to +40 %), drift over
the gate, and a co-tenant that comes for up to 30 bursts (+40 %). The second burst of a pair begins
with the caches of the other side and takes 4 % longer. Per block each process has an offset of its
own (standard deviation 0.6 %; more in bad hours, by the pages of memory that it got). These are the
magnitudes seen on a shared machine with two virtual cores.
"""

from __future__ import annotations

import numpy as np

from cspbench.gating.duet import PAIRS


def estimates(
    trials: int,
    blocks: int,
    effect: float,
    *,
    seed: int,
    drift: float = 0.2,
    autocorrelation: float = 0.9,
    freedom: float | None = 3,
    neighbour: float = 0.4,
    tenant: float = 0.4,
    second: float = 0.04,
    process: float = 0.006,
) -> np.ndarray:
    """Block estimates (log-ratios) of shape (trials, blocks).

    Args:
        trials: independent gates.
        blocks: blocks of each gate.
        effect: true slowdown of the head, as a share.
        seed: seed of the noise.
        drift: growth of latency from the first to the last burst, as a share.
        autocorrelation: share of the bursts in which the neighbour is what it was before.
        freedom: degrees of freedom of the delays; None for normal ones.
        neighbour: growth of latency that the neighbour causes at most, as a share.
        tenant: growth of latency while the co-tenant runs, as a share.
        second: growth of latency of the second burst of each pair, as a share.
        process: standard deviation of a process's own offset, as a log-ratio.
    """
    rng = np.random.default_rng(seed)
    bursts = 2 * PAIRS
    shape = (trials, blocks, bursts)
    drawn = rng.standard_normal(shape) if freedom is None else rng.standard_t(freedom, shape)
    noise = 0.03 * np.abs(drawn)
    slowed = np.where(rng.random(shape) < 0.4, rng.uniform(0, np.log1p(neighbour), shape), 0.0)
    stays = rng.random(shape) < autocorrelation
    for i in range(1, bursts):
        slowed[..., i] = np.where(stays[..., i], slowed[..., i - 1], slowed[..., i])
    noise += slowed
    noise += np.log1p(drift) * np.linspace(0, 1, blocks * bursts).reshape(blocks, bursts)
    start = rng.integers(0, bursts, (trials, blocks, 1))
    length = rng.integers(0, 30, (trials, blocks, 1))
    place = np.arange(bursts)
    noise += np.log1p(tenant) * ((place >= start) & (place < start + length))
    noise += np.log1p(second) * (place % 2)
    head = np.isin(place % 4, (1, 2))  # A B B A
    offsets = process * rng.standard_normal((trials, blocks, 2))
    noise[..., head] += np.log1p(effect) + offsets[..., :1]
    noise[..., ~head] += offsets[..., 1:]
    pairs = noise[..., head] - noise[..., ~head]
    kinds = [np.median(pairs[..., first::2], axis=-1) for first in (0, 1)]  # by who began
    return np.mean(kinds, axis=0)  # as `Block.estimate`
