"""Networks of several members, the same as single networks, and arguments for their calls."""

import latchwork as lw
import numpy as np
from layers import normal

MEMBERS, STEPS, ROWS, SIZES = 3, 5, 4, {"input_size": 3, "hidden_size": 6}
SEED = 2**64 - 2  # the members' seeds wrap around
VOCABULARY = 5


def lstm(seed, dtype, **options):
    return lw.LSTM(**(SIZES | options), dtype=dtype, seed=seed)


# What makes the layers, from the seed and the dtype.
CHAINS = {
    "plain": lambda seed, dtype: [lstm(seed, dtype)],
    "stack": lambda seed, dtype: [lstm(seed, dtype, num_layers=2, bidirectional=True, proj_size=2, dropout=0.25)],
    "reverse": lambda seed, dtype: [lstm(seed, dtype, reverse=True, batch_first=True, bias=False)],
    "variants": lambda seed, dtype: [
        lstm(seed, dtype, peephole=True, layer_norm=True, zoneout=(0.25, 0.25), learn_start_state=True)
    ],
    "dropouts": lambda seed, dtype: [
        lstm(seed, dtype, num_layers=2, residual=True, recurrent_dropout=0.25, weight_dropout=0.25)
    ],
    "coupled": lambda seed, dtype: [
        lstm(
            seed, dtype, forget_gate="coupled", activations={"cell": "softsign"}, clip=0.5, cell_clip=0.25, init="keras"
        )
    ],
    "head": lambda seed, dtype: [lstm(seed, dtype, batch_first=True), lw.Linear(6, 4, dtype=dtype, seed=seed)],
    "tokens": lambda seed, dtype: [
        lw.Embedding(VOCABULARY, 3, dtype=dtype, seed=seed),
        lstm(seed, dtype),
        lw.Linear(6, VOCABULARY, activation="tanh", dtype=dtype, seed=seed),
    ],
    "last": lambda seed, dtype: [
        lstm(seed, dtype, bidirectional=True),
        lstm(seed, dtype, input_size=12),
        lw.Last(),
        lw.Linear(6, 4, dtype=dtype, seed=seed),
    ],
    "mean": lambda seed, dtype: [
        lw.Dropout(0.25),
        lstm(seed, dtype, bidirectional=True),
        lw.Mean(),
        lw.Dropout(0.25),
        lw.Linear(12, 4, activation=("elu", 0.5), dtype=dtype, seed=seed),
    ],
    "max": lambda seed, dtype: [lstm(seed, dtype), lw.Dropout(0.25), lw.Max()],
}


def seed_of(member):
    return (SEED + member) % 2**64


def together(chain, dtype="float32"):
    return lw.Network(chain(SEED, dtype), members=MEMBERS)


def alone(chain, dtype="float32"):
    return [lw.Network(chain(seed_of(member), dtype)) for member in range(MEMBERS)]


PLAIN = CHAINS["plain"]


def stacked(results):
    """One result of each member as one with an axis of members: arrays, tuples and mappings of them."""
    if isinstance(results[0], tuple):
        return tuple(stacked(parts) for parts in zip(*results, strict=True))
    if hasattr(results[0], "keys"):
        return {name: stacked([result[name] for result in results]) for name in results[0]}
    return np.stack(results)


class Data:
    """Arguments of a call, shared by all members or each member's own."""

    def __init__(self, network, shared, dtype="float32"):
        lead = () if shared else (MEMBERS,)
        axes = (ROWS, STEPS) if network.batch_first else (STEPS, ROWS)
        lstms = [layer for layer in network if isinstance(layer, lw.LSTM)]
        self.shared = shared
        random = np.random.RandomState(8)
        if isinstance(network[0], lw.Embedding):
            self.x = random.randint(0, VOCABULARY, (*lead, *axes))
        else:
            self.x = normal(1, (*lead, *axes, 3), dtype)
        self.state = self.states(lstms, lead, 2, dtype)
        output = network(self.x)[0]
        self.y = normal(4, (*lead, *output.shape[1:]), dtype)
        self.d_output = normal(5, output.shape, dtype)
        self.d_state = self.states(lstms, (MEMBERS,), 6, dtype)
        lengths = random.randint(0, STEPS + 1, (MEMBERS, ROWS))
        lengths[:, 1] = 0
        self.common = {
            "lengths": lengths[0] if shared else lengths,
            "reset": random.random_sample((*lead, *axes)) < 0.25,
        }

    @staticmethod
    def states(lstms, lead, seed, dtype):
        pairs = []
        for lstm in lstms:
            states = lstm.num_layers * (2 if lstm.bidirectional else 1)
            sizes = (lstm.proj_size or lstm.hidden_size, lstm.hidden_size)
            pairs.append(tuple(normal(seed + i, (*lead, states, ROWS, size), dtype) for i, size in enumerate(sizes)))
        return pairs[0] if len(pairs) == 1 else tuple(pairs)

    def of(self, value, member):
        if isinstance(value, tuple):
            return tuple(self.of(part, member) for part in value)
        return value if self.shared else value[member]

    def common_of(self, member):
        return {name: self.of(value, member) for name, value in self.common.items()}


def member_of(value, member):
    """One member's part of what always has the axis of members."""
    return tuple(member_of(part, member) for part in value) if isinstance(value, tuple) else value[member]
