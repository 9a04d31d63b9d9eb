"""Memory that jobs ask for: from the sizes of the preset, and of a user's own pictures."""

from __future__ import annotations

from pathlib import Path

from miniature import write_png

from ddnet.cli.main import CONFIG
from ddnet.config import FolderData, load_settings, load_variants
from ddnet.planning.job_memory import DPDD_PIXELS, decoding_mb, evaluation_mb, image_pixels, training_mb

VARIANTS = load_variants(CONFIG / "variants.yaml")


def test_it_grows_with_what_a_job_holds_and_a_gpu_holds_it_itself() -> None:
    embedded, paper = (load_settings(CONFIG / f"{name}.yaml", {}) for name in ("embedded", "paper"))
    small, large = image_pixels(embedded), image_pixels(paper)
    assert small == 192**2 and large == DPDD_PIXELS
    one, two = VARIANTS["ddnet_1b"], VARIANTS["ddnet_2b"]
    assert training_mb(embedded, one, small, False) < training_mb(paper, one, large, False)
    assert training_mb(paper, one, large, True) < training_mb(paper, one, large, False)
    assert training_mb(paper, one, large, False) < training_mb(paper, two, large, False)
    assert evaluation_mb(paper, large, True) < evaluation_mb(paper, large, False)
    assert 1000 <= decoding_mb(small) < 1100 < decoding_mb(large)


def test_pictures_of_ones_own_are_asked_for_their_size_and_other_files_are_not(tmp_path: Path) -> None:
    import numpy as np

    settings = load_settings(CONFIG / "embedded.yaml", {})
    own = settings.model_copy(update={"data": FolderData(kind="folder", path=tmp_path)})
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "notes.txt").write_text("no picture")
    assert image_pixels(own) == DPDD_PIXELS
    write_png(tmp_path / "source" / "large.png", np.zeros((1500, 3000, 3), np.uint8))
    assert image_pixels(own) == 1500 * 3000
