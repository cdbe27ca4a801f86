"""Seeded draws: the same seed and the same names give the same numbers, in any order of asking."""

import random


def draws(seed: int, *names: object) -> random.Random:
    """Returns a generator of its own for the thing that `names` describe."""
    return random.Random("/".join(str(part) for part in (seed, *names)))  # noqa: S311  # no secret
