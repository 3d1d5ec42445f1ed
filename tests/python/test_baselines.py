import math
import pydoc_data.topics

import pytest
from latchwork.estimators.baselines import CharacterModel

CODE_POINTS = 0x110000


def test_order_0_is_the_smoothed_frequency():
    model = CharacterModel(0, alpha=0.5).fit("aab")
    # 3 tokens: a, b and all others.
    a, b = (2 + 0.5) / (3 + 1.5), (1 + 0.5) / (3 + 1.5)
    assert model.vocabulary_ == "ab"
    assert model.bits_per_character("abb") == pytest.approx(-(math.log2(a) + 2 * math.log2(b)) / 3, rel=1e-12)


def test_a_context_selects_the_counts():
    model = CharacterModel(1, alpha=0.1).fit("abac")
    # Before the first character the context is empty; a was followed by b and c, b by a.
    first, after_a, after_b = 1.1 / 1.4, 1.1 / 2.4, 1.1 / 1.4
    expected = -(math.log2(first) + math.log2(after_a) + math.log2(after_b)) / 3
    assert model.bits_per_character("aba") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_probabilities_of_all_code_points_add_up_to_one(order):
    training = "the cat sat on the mat"
    model = CharacterModel(order).fit(training)
    context = "the cat"[-order:] if order else ""
    before = model.bits_per_character(context) * len(context) if context else 0.0

    def probability(character):
        return 2.0 ** -(model.bits_per_character(context + character) * (len(context) + 1) - before)

    known = set(training)
    total = sum(probability(character) for character in known) + (CODE_POINTS - len(known)) * probability("\u2603")
    assert total == pytest.approx(1.0, rel=1e-9)


def test_what_the_command_line_prints_for_python_s_documentation():
    topics = pydoc_data.topics.topics
    text = "".join(topics[topic] for topic in sorted(topics))
    held_out = len(text) // 10
    bits = [CharacterModel(k).fit(text[:-held_out]).bits_per_character(text[-held_out:]) for k in (0, 4)]
    # The text differs a little between versions of Python.
    assert bits == pytest.approx([4.67, 2.21], abs=0.1)


@pytest.mark.parametrize(
    ("order", "alpha", "message"),
    [
        (-1, 0.01, "order: expected at least 0"),
        (0, 0.0, "alpha: expected a positive"),
        (0, -0.01, "alpha: expected a positive"),
        (0, math.nan, "alpha"),
    ],
)
def test_bad_parameters(order, alpha, message):
    with pytest.raises(ValueError, match=message):
        CharacterModel(order, alpha)


def test_empty_text():
    with pytest.raises(ValueError, match="text: expected at least 1 character"):
        CharacterModel(0).fit("")
    with pytest.raises(ValueError, match="text: expected at least 1 character"):
        CharacterModel(0).fit("a").bits_per_character("")
