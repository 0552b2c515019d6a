"""Orders in which arms take turns: balanced for position and for what ran just before.

Williams (1949), "Experimental designs balanced for the estimation of residual effects of
treatments": with an even number of arms n orders suffice for each arm to stand once in each
position and to follow each other arm once; with an odd number it takes 2 n orders, the second half
being the first half reversed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise


def williams(count: int) -> list[list[int]]:
    """The orders of a Williams design.

    Args:
        count: how many arms there are, from 1 on.

    Returns:
        ``count`` orders of the numbers 0 to count - 1 if count is even (or 1), else twice as many.
    """
    # 0, 1, n - 1, 2, n - 2, ...: neighbours differ by another step each time.
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    orders = [[(item + shift) % count for item in first] for shift in range(count)]
    return orders if count % 2 == 0 or count == 1 else orders + [order[::-1] for order in orders]


def balanced_orders(count: int, seed: str, skip: int = 0) -> Iterator[list[int]]:
    """Order after order of a Williams design, repeated for ever.

    Which arm plays which part in the design and the sequence of the orders are drawn by ``seed``.
    Of three or more arms none ends a round and begins the next: it would begin with its own caches,
    as others never do. Two arms alternate: AB, BA, AB, ...

    Args:
        count: how many arms there are.
        seed: of the draw; one seed gives the same orders on every machine.
        skip: how many orders were used already, in earlier blocks: the design goes on from there.
    """
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    names = draw.sample(range(count), count)
    orders = williams(count)
    if count > 2:
        draw.shuffle(orders)
        while any(one[-1] == other[0] for one, other in pairwise([*orders, orders[0]])):
            draw.shuffle(orders)
    number = skip
    while True:
        yield [names[part] for part in orders[number % len(orders)]]
        number += 1
