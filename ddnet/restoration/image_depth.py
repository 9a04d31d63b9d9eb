"""Depth of a picture of one's own, estimated as the preset estimated it that a network was trained in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ddnet.config import Depth, load_settings
from ddnet.data.fetch_data import WEIGHTS, folder_of
from ddnet.depth.sources import build_depth_source, parse_spec
from ddnet.depth.sources._base import DepthSource
from ddnet.errors import DDNetError
from ddnet.fetch import scan_folder
from ddnet.io.images import FloatArray, quantise, to_float
from ddnet.registry import resolve
from ddnet.runtime.paths import CONFIG

GIVE = "pass depth, (H, W) floating point in [0, 1] with 1 nearest"


def project_of(run: Path) -> Path:
    """The folder with `data/` and `results/` that a run belongs to; the working directory for a run moved elsewhere."""
    above = run.parents
    inside = len(above) > 3 and (above[2].name, above[1].name) == ("results", "runs")
    project = above[3] if inside else Path()
    return project.relative_to(Path.cwd()) if project.is_relative_to(Path.cwd()) else project


def preset_of(name: str) -> Depth | None:
    """The depth settings of one of this suite's presets; None for a preset of one's own, whose file nobody knows."""
    file = CONFIG / f"{name}.yaml"
    if not name or not file.is_file() or name in ("baselines", "sources", "variants"):
        return None
    return load_settings(file).depth


@dataclass(frozen=True)
class PictureDepth:
    """Estimates depth from a picture.

    Args:
        spec: the depth source, such as `monodepth2` or `noisy(0.1)`.
        preset: by whose network; empty: by the published one.
        settings: the preset's; None where they are not known: then its fitted network is used if there is one.
        project: the folder whose `data/` has the network.
        what: whose depth it is, for messages.
    """

    spec: str
    preset: str
    settings: Depth | None
    project: Path
    what: str

    def estimate(self, image: FloatArray) -> FloatArray:
        """(H, W, 3) in [0, 1] to (H, W) in [0, 1], rounded to 16 bits as the maps are that runs are evaluated with.

        Raises:
            DDNetError: the source needs what a picture alone does not have, or its network is not here.
        """
        return to_float(quantise(self._source.predict(image), 16))

    def require(self) -> None:
        """Refuse before the first picture, as `estimate` would."""
        _ = self._source

    @cached_property
    def _source(self) -> DepthSource:
        name, _ = parse_spec(self.spec)
        needs = resolve("depth", name).needs
        if needs - {"model"}:
            raise DDNetError(
                f"{self.what} is guided by depth of '{self.spec}', which cannot be had from a picture alone; {GIVE}"
            )
        if "model" not in needs:
            return build_depth_source(self.spec)
        fitted = self.project / "data" / self.preset / "depth_model" / "monodepth2.pt"
        may_be_fitted = name == "monodepth2" and self.preset != ""
        if may_be_fitted and (fitted.is_file() if self.settings is None else self.settings.fit is not None):
            if not fitted.is_file():
                raise DDNetError(
                    f"{self.what} is guided by depth, and the network that estimates it, {fitted}, is not here; "
                    f"{GIVE}, or make it: snakemake --cores 8 data/{self.preset}/depth_model/monodepth2.pt "
                    f"--configfile workflow/config/{self.preset}.yaml"
                )
            return build_depth_source(self.spec, fitted)  # at the size that it was fitted for
        folder, wanted = self.project / folder_of(name), WEIGHTS[name]()
        files = scan_folder(folder, wanted)[0] if folder.is_dir() else {}
        if wanted.missing(set(files)):
            raise DDNetError(
                f"{self.what} is guided by depth, and the network that estimates it is not here, in {folder}; {GIVE}, "
                f"or take it in: `ddnet weights import FILE` (`ddnet weights list` says where {name} is published)"
            )
        size = (self.settings.height, self.settings.width) if self.settings else None
        return build_depth_source(self.spec, next(iter(files.values())).parent, size)
