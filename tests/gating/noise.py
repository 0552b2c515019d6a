"""Simulated burst times of a machine with the noise of real ones.

One path of machine noise runs through both arms in ABBA order: autocorrelated (AR(1), 0.5 from one
burst to the next), heavy-tailed (Student with 3 degrees of freedom, scale 5 %), with drift over the
gate, a co-tenant that comes and goes (+40 %), and per block an offset of each process
(standard deviation 0.8 %). These are the magnitudes seen on a shared 2-core virtual machine.
"""

from __future__ import annotations

import numpy as np

PAIRS = 30


def estimates(
    trials: int,
    blocks: int,
    effect: float,
    *,
    seed: int,
    drift: float = 0.2,
    autocorrelation: float = 0.5,
    freedom: float | None = 3,
    tenant: float = 0.4,
) -> np.ndarray:
    """Block estimates (log-ratios) of shape (trials, blocks).

    Args:
        trials: independent gates.
        blocks: blocks of each gate.
        effect: true slowdown of the head, as a share.
        seed: seed of the noise.
        drift: growth of latency from the first to the last burst, as a share.
        autocorrelation: correlation of a burst's noise with that of the burst before it.
        freedom: degrees of freedom of the Student noise; None for normal noise.
        tenant: growth of latency while the co-tenant runs, as a share.
    """
    rng = np.random.default_rng(seed)
    bursts = 2 * PAIRS
    shape = (trials, blocks, bursts)
    drawn = rng.standard_normal(shape) if freedom is None else rng.standard_t(freedom, shape)
    shocks = 0.05 * drawn
    noise = np.empty(shape)
    noise[..., 0] = shocks[..., 0]
    for i in range(1, bursts):
        noise[..., i] = autocorrelation * noise[..., i - 1] + shocks[..., i]
    noise += np.log1p(drift) * np.linspace(0, 1, blocks * bursts).reshape(blocks, bursts)
    start = rng.integers(0, bursts, (trials, blocks, 1))
    length = rng.integers(0, 30, (trials, blocks, 1))
    place = np.arange(bursts)
    noise += np.log1p(tenant) * ((place >= start) & (place < start + length))
    head = np.isin(place % 4, (1, 2))  # A B B A
    process = 0.008 * rng.standard_normal((trials, blocks, 2))
    noise[..., head] += np.log1p(effect) + process[..., :1]
    noise[..., ~head] += process[..., 1:]
    return np.median(noise[..., head] - noise[..., ~head], axis=-1)
