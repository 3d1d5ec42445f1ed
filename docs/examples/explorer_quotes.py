"""Write the page that docs/explorer.md shows: a language model of Python's documentation, and what is inside quotes.

    python docs/examples/explorer_quotes.py [quotes.html]

trains for about half a minute.
"""

import sys
from pydoc_data.topics import topics

import latchwork as lw
from latchwork import explain

SHOWN, CORPUS = 1200, 40_000


def inside_quotes(text: str) -> list[bool]:
    """Say which characters lie between a quotation mark and the next one in the same line, the second mark included."""
    inside, result = False, []
    for character in text:
        result.append(inside)
        inside = character != "\n" and inside != (character == '"')
    return result


def main(path: str) -> None:
    """Train, and write the page."""
    text = "".join(topics[topic] for topic in sorted(topics))
    training, rest = text[:-50_000], text[-50_000:]
    model = lw.LSTMLanguageModel(64, forget_gate=True, max_epochs=6, random_state=0, verbose=True).fit(training)
    shown, corpus = rest[:SHOWN], rest[SHOWN : SHOWN + CORPUS]
    labels = [False, *inside_quotes(shown)]  # the first step reads the start of a text
    tracks = {"quotes": ["inside" if label else None for label in labels]}
    explain.explorer(model, shown, corpus=corpus, tracks=tracks, path=path)
    print(f"written: {path}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "quotes.html")
