"""docs/plots.md: its code makes its pictures, and the model does what the page says of it."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
from matplotlib import image, pyplot

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_page(tmp_path):
    specification = importlib.util.spec_from_file_location("plots", DOCS / "examples" / "plots.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    names = module.run(tmp_path)
    pyplot.close("all")

    page = (DOCS / "plots.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\]\(images/(.*?)\)", page)
    assert len(pictures) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures)
    for (
        name
    ) in pictures:  # those in the repository are of the same layout; fonts and versions of matplotlib differ a little
        made, kept = (image.imread(folder / name).shape for folder in (tmp_path, DOCS / "images"))
        np.testing.assert_allclose(made, kept, atol=2)

    trace, unit, quoted, sentence = (names[name] for name in ("trace", "unit", "quoted", "sentence"))
    cell = trace[0].cell[:, 0, unit]
    letters = np.array([character.isalpha() for character in sentence])
    assert (cell[quoted & letters] > 0).all()
    assert (cell[~quoted & letters] < 0).all()
    written = trace[0].input_gate[:, 0, unit] * trace[0].candidate[:, 0, unit]
    assert written[names["step"]] > 0.9
    assert names["history"][-1]["val_loss"] < 1.6
