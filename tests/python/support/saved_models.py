"""What the saved models in tests/python/files_v2 are asked, and in which form they answer."""

import latchwork as lw

EXPECTED = "expected"  # the file of questions and answers among the models


def layer_or_network(model):
    """The part of a model that runs: of an estimator its network."""
    return getattr(model, "network_", model)


def answers(model, x):
    """All arrays that a call gives, by name."""
    module = layer_or_network(model)
    result = module(x, x) if isinstance(module, lw.InputSkip) else module(x)
    if isinstance(module, lw.LSTMCell):
        return dict(zip(("h", "c"), result, strict=True))
    if not isinstance(module, (lw.LSTM, lw.Network)):
        return {"output": result}
    output, state = result
    pairs = state if state and isinstance(state[0], tuple) else (state,) if state else ()
    named = {"output": output}
    for place, (h_n, c_n) in enumerate(pairs):
        named |= {f"h_n.{place}": h_n, f"c_n.{place}": c_n}
    return named
