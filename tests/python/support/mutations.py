"""Files with faults put into them at random: every reader must take each, or refuse it with a ValueError."""

import os
import random
import warnings

# How many files each test tries; ten thousand take some minutes for each format.
COUNT = int(os.environ.get("LATCHWORK_MUTATED_FILES", "200"))


def mutated(content, generator):
    """Change, leave out, repeat or cut off some bytes."""
    content = bytearray(content)
    for _ in range(generator.randint(1, 8)):
        if len(content) < 40:
            break
        place = generator.randrange(len(content))
        kind = generator.randrange(4)
        if kind == 0:
            content[place] = generator.randrange(256)
        elif kind == 1:
            del content[place : place + generator.randint(1, 40)]
        elif kind == 2:
            content[place:place] = content[generator.randrange(len(content)) :][: generator.randint(1, 40)]
        else:
            del content[max(place, 20) :]
    return bytes(content)


def are_read_or_refused(read, content, count, path):
    """Read so many mutations of a file; give the share that was refused. Any other error ends the test."""
    generator, refused = random.Random(0), 0
    for _ in range(count):
        path.write_bytes(mutated(content, generator))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except ValueError:
            refused += 1
    return refused / count
