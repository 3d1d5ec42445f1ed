"""The embedded Reber grammar, for the programs beside this file; docs/embedded-reber-1997.md shows its graph."""

import numpy as np

SYMBOLS = "BTPSXVE"
END = 0  # the state before a string and after it

# The inner grammar: what may follow in each of its states, and to which state each symbol leads. None: it is over.
_INNER = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": None},
)


def _edges():
    """List the edges of the whole graph: for each state its one or two (symbol, next state)."""
    outer = [[("B", 1)], [("T", 2), ("P", 2 + len(_INNER) + 2)]]
    for letter in "TP":  # a copy of the inner grammar for each letter that must come again
        first = len(outer)
        again = first + len(_INNER)
        for edges in _INNER:
            outer.append([(symbol, again if to is None else first + to) for symbol, to in edges.items()])
        outer += [[(letter, again + 1)], [("E", END)]]
    return outer


_EDGES = _edges()
# By state and coin: the symbol, and the state that follows. Where there is no choice, both coins give the same.
SYMBOL = np.array([[SYMBOLS.index(symbol) for symbol, _ in (edges * 2)[:2]] for edges in _EDGES])
NEXT = np.array([[state for _, state in (edges * 2)[:2]] for edges in _EDGES])
# By state: 1 for each symbol that may come.
POSSIBLE = np.zeros((len(_EDGES), len(SYMBOLS)), np.float32)
for _state, _symbols in enumerate(SYMBOL):
    POSSIBLE[_state, _symbols] = 1
ONE_HOT = np.eye(len(SYMBOLS), dtype=np.float32)


class Streams:
    """Strings without end, one after another, in several streams side by side.

    Parameters
    ----------
    generators : sequence of random.Random
        One for each member; it tosses the coins where there is a choice.
    rows : int
        How many streams each member has.
    """

    def __init__(self, generators, rows):
        self._generators = generators
        self._symbols = np.zeros((len(generators), rows), int)
        self._states = np.zeros((len(generators), rows), int)
        self.restart(np.ones((len(generators), rows), bool))

    def restart(self, where):
        """Begin a new stream, at the first symbol of a string, wherever (members, rows) is true."""
        self._symbols[where] = SYMBOL[END, 0]
        self._states[where] = NEXT[END, 0]

    def read(self, steps):
        """Go on by so many steps.

        Returns
        -------
        symbols : numpy.ndarray of int
            (members, steps, rows), indices into ``SYMBOLS``.
        possible : numpy.ndarray
            (members, steps, rows, 7): 1 for each symbol that may come next.
        following : numpy.ndarray of int
            (members, steps, rows): the symbol that does come next.
        first : numpy.ndarray of bool
            (members, steps, rows): whether it is the first symbol of a string.
        """
        shape = steps, self._symbols.shape[1]
        tossed = [np.frombuffer(rng.randbytes(shape[0] * shape[1]), np.uint8) for rng in self._generators]
        coins = np.stack([coin.reshape(shape) % 2 for coin in tossed], axis=1)
        symbols, states = (np.empty((steps + 1, *start.shape), int) for start in (self._symbols, self._states))
        symbols[0], states[0] = self._symbols, self._states
        for step, coin in enumerate(coins):
            symbols[step + 1] = SYMBOL[states[step], coin]
            states[step + 1] = NEXT[states[step], coin]
        self._symbols, self._states = symbols[-1].copy(), states[-1].copy()
        symbols, states = symbols.swapaxes(0, 1), states.swapaxes(0, 1)
        return symbols[:, :-1], POSSIBLE[states[:, :-1]], symbols[:, 1:], states[:, :-1] == NEXT[END, 0]


def string(rng):
    """Draw one string: its symbols, and the states after them; the last one is ``END``."""
    state, symbols, visited = END, [], []
    while not symbols or state != END:
        coin = rng.getrandbits(1)
        symbols.append(int(SYMBOL[state, coin]))
        state = int(NEXT[state, coin])
        visited.append(state)
    return tuple(symbols), tuple(visited)


def right(output, possible):
    """Say where each symbol that may come has a larger output than every other: (...) of (..., 7)."""
    return np.where(possible == 1, output, np.inf).min(axis=-1) > np.where(possible == 1, -np.inf, output).max(axis=-1)
