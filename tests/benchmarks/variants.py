"""Compare the time of each variant of the cell with the plain cell's, interleaved in one process."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import latchwork as lw
import numpy as np
from latchwork.benchmark import timing

# Steps, input size and hidden size of every measurement, and the rows of each kind.
STEPS, INPUT_SIZE, HIDDEN_SIZE = 64, 64, 128
KINDS = {"training, N = 64": 64, "forward, N = 32": 32, "forward, N = 1": 1}

# The options of a variant, and the bound on its training time as a multiple of the plain cell's. None means no bound.
Variant = tuple[Mapping[str, Any], float | None]
VARIANTS: dict[str, Variant] = {
    "forget_gate=False": ({"forget_gate": False}, None),
    "coupled": ({"forget_gate": "coupled"}, 1.2),
    "peephole": ({"peephole": True}, 1.2),
    "clip": ({"clip": 2.0}, 1.2),
    "cell_clip": ({"cell_clip": 2.0}, 1.2),
    "zoneout": ({"zoneout": (0.1, 0.1)}, 1.2),
    "recurrent_dropout on hidden": ({"recurrent_dropout": 0.25}, 1.2),
    "recurrent_dropout on candidate": ({"recurrent_dropout": 0.25, "recurrent_dropout_on": "candidate"}, 1.2),
    "weight_dropout": ({"weight_dropout": 0.25}, 1.2),
    "activations, hard sigmoid and softsign": (
        {
            "activations": {
                "input": "hard_sigmoid",
                "forget": "hard_sigmoid",
                "candidate": "softsign",
                "output": "hard_sigmoid",
                "cell": "softsign",
            }
        },
        1.4,
    ),
    "activations, scaled tanh": (
        {"activations": {"candidate": ("scaled_tanh", 2.0, 0.5), "cell": ("scaled_tanh", 1.0, 0.5)}},
        1.4,
    ),
    "activations, softplus and elu": ({"activations": {"input": "softplus", "cell": "elu"}}, 1.4),
    "layer_norm": ({"layer_norm": True}, 1.7),
    "learn_start_state": ({"learn_start_state": True}, None),
    "proj_size": ({"proj_size": 64}, None),
    "reset mask": ({}, 1.05),
}


def make_job(options: Mapping[str, Any], rows: int, training: bool, reset: bool) -> Callable[[], object]:
    """Return a function that calls a layer with these options."""
    lstm = lw.LSTM(INPUT_SIZE, HIDDEN_SIZE, seed=0, **options)
    random = np.random.default_rng(0)
    x = random.standard_normal((STEPS, rows, INPUT_SIZE), dtype=np.float32)
    # As in reinforcement learning, an episode ends somewhere in most rows.
    mask = random.random((STEPS, rows)) < 0.02 if reset else None
    if not training:
        return lambda: lstm(x, reset=mask)
    d_output = random.standard_normal((STEPS, rows, options.get("proj_size", HIDDEN_SIZE)), dtype=np.float32)
    gradients = lstm.record(x).backward(d_output)
    return lambda: lstm.record(x, reset=mask, training=True, mask_seed=1).backward(d_output, into=gradients)


def measure(rows: int, training: bool, rounds: int) -> dict[str, float]:
    """Return medians in seconds; "plain" is the plain cell's."""
    jobs = {"plain": make_job({}, rows, training, False)}
    for name, (options, _) in VARIANTS.items():
        jobs[name] = make_job(options, rows, training, name == "reset mask")
    return timing.medians(jobs, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="keep the medians here")
    arguments = parser.parse_args()
    lw.set_num_threads(arguments.threads)

    medians = {kind: measure(rows, kind.startswith("training"), arguments.rounds) for kind, rows in KINDS.items()}
    print(
        f"T = {STEPS}, in = {INPUT_SIZE}, H = {HIDDEN_SIZE}, float32, {lw.cpu_info()['isa']}, "
        f"{arguments.threads} thread(s), {arguments.rounds} rounds: time over the plain cell's"
    )
    plain = ", ".join(f"{kind}: {times['plain'] * 1e3:.3f} ms" for kind, times in medians.items())
    print(f"plain: {plain}\n")
    print("| variant | " + " | ".join(KINDS) + " | bound, training |")
    print("| --- |" + " --- |" * (len(KINDS) + 1))
    for name, (_, bound) in VARIANTS.items():
        ratios = " | ".join(f"{times[name] / times['plain']:.2f}" for times in medians.values())
        print(f"| {name} | {ratios} | {'' if bound is None else bound} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
