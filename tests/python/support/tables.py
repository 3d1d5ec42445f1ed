"""Small tables with something to learn, as CSV."""

import numpy as np


def gestures(count=45, seed=0, *, labels=("saw", "sine", "square")):
    """Sequences (id, t, x, hand) of one of three waves, which kind says."""
    random = np.random.default_rng(seed)
    lines = ["id,t,x,hand,kind"]
    for sequence in range(count):
        start, steps = random.uniform(0, 6), random.integers(8, 20)
        for step in range(steps):
            wave = np.sin(step / 2 + start)
            value = ((step / 6 + start) % 2 - 1, wave, np.sign(wave))[sequence % 3] + random.normal(scale=0.1)
            hand = "left" if sequence % 2 else "right"
            lines.append(f"g{sequence},{step},{value:.3f},{hand},{labels[sequence % 3]}")
    return "\n".join(lines) + "\n"


def monthly(years=25, seed=0):
    """One series (month, load) with a season."""
    random = np.random.default_rng(seed)
    lines = ["month,load"]
    for month in range(12 * years):
        load = 10 + 3 * np.sin(2 * np.pi * month / 12) + random.normal(scale=0.2)
        lines.append(f"{1970 + month // 12}-{month % 12 + 1:02},{load:.3f}")
    return "\n".join(lines) + "\n"
