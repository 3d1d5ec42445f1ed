"""The pages on estimators: their code makes their pictures, which show what the pages say; the defaults are right."""

import importlib.util
import inspect
import re
from pathlib import Path

import latchwork as lw
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def program():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
    specification = importlib.util.spec_from_file_location("estimators", DOCS / "examples" / "estimators.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("page", ["regressor", "classifier", "missing-values", "language-model"])
def test_pictures(program, page, tmp_path):
    from matplotlib import image, pyplot

    names = program.run(page, tmp_path)
    pyplot.close("all")
    (picture,) = re.findall(r"\]\(images/(.*?)\)", (DOCS / f"{page}.md").read_text(encoding="utf-8"))
    made, kept = (image.imread(folder / picture).shape for folder in (tmp_path, DOCS / "images"))
    np.testing.assert_allclose(made, kept, atol=2)
    if page == "regressor":
        width = (names["high"] - names["low"])[:96]
        assert width[names["hours"][724:820] % 24 >= 12].mean() > 1.2 * width[names["hours"][724:820] % 24 < 12].mean()
    if page == "classifier":
        for place, name in enumerate(names["names"]):
            assert names["thoughts"][name][-1, place] > 0.8
    if page == "missing-values":
        scores = names["scores"]
        assert all(scores["forward", share] > scores["mean", share] for share in names["shares"])
    if page == "language-model":
        line, surprise = names["line"], names["surprise"]
        steep = {line.index(word): surprise[line.index(word)] for word in ("rat", "corn", "lay")}
        assert min(steep.values()) > 2
        assert np.delete(surprise, [*steep, *(line.index("corn") + place for place in (1, 2))]).max() < 1


@pytest.mark.parametrize(("page", "kind"), [("regressor", lw.LSTMRegressor), ("classifier", lw.LSTMClassifier)])
def test_defaults_of_the_pages(page, kind):
    """The tables name options that exist, and their values where they are plain."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \| .+ \|$", text.split("## The defaults")[1], re.MULTILINE)
    assert len(rows) >= 4
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items()}
    for names, values in rows:
        shown = values.split(", ") if names.count("`") > 2 else [values]
        for name, value in zip(re.findall(r"`(\w+)`", names), shown * names.count("`"), strict=False):
            default = defaults[name]
            if isinstance(default, str):
                assert value.strip("`").strip('"').lower() == default, name
            elif isinstance(default, (int, float)) and not isinstance(default, bool):
                assert float(value) == default, name
