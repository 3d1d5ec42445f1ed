"""What tests that fork have in common."""

import pytest

# Python warns of a fork beside threads, and JAX, if another test has loaded it, of every fork.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:os.fork.. was called:RuntimeWarning")
