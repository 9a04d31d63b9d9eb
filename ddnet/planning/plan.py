"""What a preset asks for: runs, paths, and digests of the code that each job depends on.

Standard library and pydantic only: a dry run of the workflow takes a second or two.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ddnet.config import Baseline, Settings, Variant, nearest
from ddnet.errors import DDNetError
from ddnet.planning.baselines import ComparedSystems
from ddnet.planning.code_digest import closure, constructor_of, declared_needs, declared_value, digest, outside_file
from ddnet.registry import PACKAGES
from ddnet.runtime.paths import PROJECT, ROOT

# Table -> the study whose variants are its rows. Tables 1 and 2 compare systems and have fixed rows, as has that of the
# paper's claims. `controls`, `readings` and `fusions` are in no preset's studies: they have targets of their own.
TABLES = {
    "table1": None, "table2": None, "table3": "modules", "table4": "fusion", "tableS1_depth": "depth",
    "tableS3_claims": None, "tableS4_controls": "controls", "tableS5_readings": "readings",
    "tableS6_fusions": "fusions",
}  # fmt: skip
# Rows of Tables 1 and 2 that this suite trains.
HEADLINE = {"table1": ("ddnet_1b",), "table2": ("ddnet_1b", "ddnet_2b")}
# What the package carries: the first learned with a constant map and wants none, the second wants one.
WITHOUT_DEPTH, WITH_DEPTH = "ddnet_1b_constant", "ddnet_1b_rendered"
# What the paper's claims compare; which of them are trained, the studies decide.
CLAIMED = ("unet", "unet_rcab", "ddnet_1b", "ddnet_2b", "ddnet_3b", "fusion_input", "fusion_conv")
# The row that a study's differences refer to; it is trained even where its own study is not asked for.
REFERENCE = {
    "modules": "unet", "fusion": "ddnet_1b", "depth": "unet_rcab", "controls": "unet_rcab", "readings": "ddnet_1b",
    "fusions": "ddnet_1b",
}  # fmt: skip


STUDIES = [study for study in TABLES.values() if study]
WEIGHTS = Path("data", "weights")  # where pretrained trunks are kept, beside the preset's data
OPTIONAL_TRUNKS = ("squeezenet1_1",)  # no package registry has it
_SPEC = re.compile(r"\s*(?P<name>[A-Za-z]\w*)\s*(?:\((?P<arguments>[^()]*)\))?\s*")


@dataclass(frozen=True)
class Run:
    """One training: a variant and a seed."""

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Folder name under `results/runs/<preset>`."""
        return f"{self.variant}-seed{self.seed}"


def slug(source: str) -> str:
    """A depth source as a folder name: `noisy(0.1)` -> `noisy-0.1`."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", source).strip("-")


class Plan(ComparedSystems):
    """Runs and dependencies of one preset.

    Args:
        settings: the preset.
        variants: the whole table of variants.
        baselines: the compared systems; the blurred input alone where none are given.

    Raises:
        DDNetError: a study that no variant belongs to; a fusion, depth source or compared system that does not
            exist; a depth source that the data cannot feed.
    """

    def __init__(
        self, settings: Settings, variants: dict[str, Variant], baselines: dict[str, Baseline] | None = None
    ) -> None:
        self.settings = settings
        self.variants = variants
        self.baselines = baselines or {"blurred": Baseline(name="blurred", system="blurred", label="Blurred input")}
        self.check_systems()
        self._check_names()
        known = {study for variant in variants.values() for study in variant.study}
        for name in settings.seeds_of:
            if name not in variants:
                raise DDNetError(f"seeds_of: no variant '{name}'{nearest(name, list(variants))}")
        for study in settings.studies:
            if study not in STUDIES:
                raise DDNetError(f"studies: '{study}' has no table{nearest(study, STUDIES)}")
            if study not in known:
                raise DDNetError(f"studies: no variant belongs to '{study}'; give one `study: {study}`")
        _check_depth_source(settings.depth.source, "depth.source")
        for name, variant in variants.items():
            if name in self.selected or set(variant.study) & set(settings.studies):
                self._model_modules(name)
            if variant.depth_source is not None:
                _check_depth_source(variant.depth_source, f"variant '{name}'")
        self._check_depth()

    def _check_names(self) -> None:
        """Refuse metrics that do not exist or whose lack no table bears, and studies that are all but a known one."""
        metrics, known = self.settings.evaluation.metrics, _registered("metric")
        for name in metrics:
            if name not in known:
                raise DDNetError(f"evaluation.metrics: no metric '{name}'{nearest(name, known)}")
        if "psnr" not in metrics:
            raise DDNetError("evaluation.metrics: lacks psnr, which every table, claim and figure rests on; add it")
        for name, variant in self.variants.items():
            for study in variant.study:
                near = difflib.get_close_matches(study, STUDIES, n=1)
                if study not in STUDIES and near:
                    raise DDNetError(f"variant '{name}': study '{study}' has no table; did you mean '{near[0]}'?")

    def _check_depth(self) -> None:
        depth, kind = self.settings.depth, self.settings.data.kind
        if kind != "embedded" and depth.fit is not None:
            raise DDNetError(f"depth.fit: data of kind '{kind}' has no true depth to fit a network on; write fit: null")
        if kind != "embedded" and "true_depth" in depth_needs(depth.source):
            raise DDNetError(
                f"depth.source: '{depth.source}' needs true depth, which data of kind '{kind}' does not have; "
                "use monodepth2, depth_anything or constant"
            )
        if depth.training == "patch" and "model" not in depth_needs(depth.source):
            raise DDNetError(
                f"depth.training: 'patch' is for sources that run a network; '{depth.source}' runs none, write image"
            )
        size = self.settings.training.patches.size
        if depth.training == "patch" and (size % 32 or size < 64):
            raise DDNetError(
                f"depth.training: 'patch' needs training.patches.size to be a multiple of 32, at least 64, not {size}"
            )

    @property
    def tables(self) -> list[str]:
        """Tables of the chosen studies; Table 2 always, and Table 1 where there is a second test set."""
        chosen = [name for name, study in TABLES.items() if study is None or study in self.settings.studies]
        return chosen if len(self.datasets) > 1 else [name for name in chosen if name != "table1"]

    def table_variants(self, table: str) -> list[str]:
        """Variants that a table measures, in the order of the variants file."""
        study = TABLES[table]
        if study is not None:
            return self.study_variants(study)
        if table == "tableS3_claims":
            trained = {name for study in self.settings.studies for name in self.study_variants(study)}
            return [name for name in self.variants if name in CLAIMED and name in trained]
        return [name for name in self.variants if name in HEADLINE[table]]

    def table_baselines(self, table: str) -> list[str]:
        """Compared systems that a table measures: all in Table 2, DefocusGAN in Table 1, the blurred input in all."""
        shown = {"table1": ("blurred", "defocusgan"), "table2": tuple(self.baselines)}.get(table, ("blurred",))
        return [name for name in self.measured_baselines if name in shown]

    def study_variants(self, study: str) -> list[str]:
        """Variants of a study, its reference row included.

        Without those whose depth this data cannot give, and of those that are the same under this preset (its own
        output form or depth source spelled out) only the first.
        """
        members = [name for name, v in self.variants.items() if study in v.study or name == REFERENCE[study]]
        members.sort(key=lambda name: name != REFERENCE[study])
        distinct: dict[str, str] = {}
        for name in filter(self._has_depth, members):
            output = self.variants[name].output or self.settings.model.output
            network = self.variants[name].trained() | {"output": output, "depth_source": self.depth_source(name)}
            distinct.setdefault(str(network | {"name": ""}), name)
        return [name for name in self.variants if name in distinct.values()]

    def _has_depth(self, variant: str) -> bool:
        source = self.depth_source(variant)
        photographs = self.settings.data.kind != "embedded"  # nobody knows their true depth
        return source is None or not (photographs and "true_depth" in depth_needs(source))

    @property
    def selected(self) -> list[str]:
        """All variants that the preset's tables need."""
        needed = {name for table in self.tables for name in self.table_variants(table)}
        return [name for name in self.variants if name in needed]

    def runs(self, variants: Iterable[str]) -> list[Run]:
        """Every variant with each of its seeds."""
        return [Run(name, seed) for name in variants for seed in self.seeds(name)]

    def seeds(self, variant: str) -> tuple[int, ...]:
        """Seeds of a variant: the preset's, or its own."""
        return self.settings.seeds_of.get(variant, self.settings.seeds)

    def depth_source(self, variant: str) -> str | None:
        """Depth source of a variant; None for one without depth."""
        chosen = self.variants[variant]
        return (chosen.depth_source or self.settings.depth.source) if chosen.uses_depth else None

    @property
    def depth_sources(self) -> list[str]:
        """All depth sources of the variants, the preset's own first."""
        return list(dict.fromkeys([self.settings.depth.source, *filter(None, map(self.depth_source, self.variants))]))

    def weights_item(self, source: str) -> str | None:
        """The item of pretrained weights that a depth source needs; None for one without, or fitted here."""
        name = _source_name(source)
        fitted = name == "monodepth2" and self.settings.depth.fit is not None
        return name if "model" in depth_needs(source) and not fitted else None

    @property
    def items(self) -> list[str]:
        """What has to be fetched: datasets, and weights of the depth sources that the tables use."""
        datasets = list(self.datasets) if self.settings.data.kind == "dpdd" else []
        used = {self.settings.depth.source, *filter(None, map(self.depth_source, self.selected))}
        return datasets + sorted(filter(None, map(self.weights_item, used))) + self.systems_with("official")

    @property
    def metric_trunks(self) -> list[str]:
        """Pretrained trunks of the chosen metrics."""
        files = (ROOT / "ddnet" / "evaluation" / "metrics" / f"{name}.py" for name in self.settings.evaluation.metrics)
        return [trunk for file in files if (trunk := declared_value(file, "trunk"))]

    @property
    def required_trunks(self) -> list[str]:
        """Pretrained trunks without which a run cannot go on."""
        return list(
            dict.fromkeys(trunk for trunk in (*self.metric_trunks, *self.trunks) if trunk not in OPTIONAL_TRUNKS)
        )

    @property
    def optional_trunks(self) -> list[str]:
        """Pretrained trunks of metrics that are left out where they cannot be had."""
        return [trunk for trunk in self.metric_trunks if trunk in OPTIONAL_TRUNKS]

    @property
    def trial(self) -> bool:
        """Whether only a few scenes of each split are used."""
        return self.settings.data.kind == "dpdd" and self.settings.data.trial is not None

    def local_copy(self, item: str) -> str | None:
        """The copy at hand of a dataset, if the preset names one."""
        local = getattr(self.settings.data, item, None) if self.settings.data.kind == "dpdd" else None
        return str(local) if local else None

    def code(self, script: str, modules: Sequence[str] = (), variant: str | None = None) -> str:
        """Digest of the code behind a job, `code_files`; comments, docstrings and layout do not count."""
        return digest(self.code_files(script, modules, variant))

    def code_files(self, script: str, modules: Sequence[str] = (), variant: str | None = None) -> list[Path]:
        """The code behind a job that may change what it makes: its script and all that this imports from here.

        Args:
            modules: those that the script finds by a name in the settings, such as a metric.
            variant: its network's own files are added: editing one fusion concerns only the variants that use it.
        """
        file = PROJECT / "workflow" / "scripts" / f"{script}.py"
        return closure(ROOT, [*modules, *(self._model_modules(variant) if variant else [])], file)

    def _model_modules(self, variant: str) -> list[str]:
        chosen = self.variants[variant]
        modules = ["ddnet.models", f"ddnet.models.{chosen.arch}"]
        if chosen.fusion not in ("none", "input"):
            inside = ROOT / "ddnet" / "models" / "fusion" / f"{chosen.fusion}.py"
            outside = [point.module for point in entry_points(group="ddnet.fusion") if point.name == chosen.fusion]
            if not inside.is_file() and not outside:
                raise DDNetError(
                    f"variant '{variant}': no fusion '{chosen.fusion}'; allowed: none, input, "
                    f"{', '.join(sorted(p.stem for p in inside.parent.glob('[!_]*.py')))}; "
                    f"or write ddnet/models/fusion/{chosen.fusion}.py"
                )
            if len(outside) + inside.is_file() > 1:
                raise DDNetError(
                    f"variant '{variant}': several fusions are called '{chosen.fusion}', from {', '.join(outside)}"
                    f"{' and ddnet' if inside.is_file() else ''}; uninstall one, or rename its entry point"
                )
            self._check_fusion_options(chosen, inside if inside.is_file() else None)
            for module in outside:
                if outside_file(module) is None:
                    raise DDNetError(
                        f"variant '{variant}': an installed package gives fusion '{chosen.fusion}' as {module}, which "
                        "is not there; correct its entry point (ddnet.fusion) and install it again"
                    )
            modules += [f"ddnet.models.fusion.{chosen.fusion}"] if inside.is_file() else outside
        return modules

    @staticmethod
    def _check_fusion_options(variant: Variant, file: Path | None) -> None:
        """Refuse options that a fusion of this package does not take; the first two are the widths."""
        known = constructor_of(file, _class_name(variant.fusion)) if file else None
        for option in variant.fusion_options if known else ():
            if known and option not in known[0][2:]:
                raise DDNetError(
                    f"variant '{variant.name}': fusion '{variant.fusion}' has no option '{option}' (fusion_options)"
                    f"{nearest(option, known[0][2:])}"
                )

    def part(self, *names: str) -> dict[str, Any]:
        """The named sections of the settings as plain values: what a job is handed, and reruns for."""
        return self.settings.model_dump(mode="json", include=set(names))


def _source_name(spec: str) -> str:
    """A depth source without its numbers: `noisy(0.1)` -> `noisy`."""
    return spec.split("(")[0].strip()


def source_parts(spec: str) -> tuple[str, tuple[float, ...]]:
    """Split `name` or `name(number, ...)`: `noisy(0.2)` -> `("noisy", (0.2,))`.

    Raises:
        DDNetError: not of that form.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DDNetError(f"depth source '{spec}': write a name, or a name and numbers such as noisy(0.2)")
    text = match["arguments"]
    try:
        return match["name"], tuple(float(part) for part in text.split(",")) if text and text.strip() else ()
    except ValueError:
        raise DDNetError(f"depth source '{spec}': '{text}' is not a list of numbers; write e.g. noisy(0.2)") from None


def depth_needs(spec: str) -> frozenset[str]:
    """What a depth source says it needs besides the image, read from its file: `needs = frozenset({...})`.

    Read, not imported, so that planning stays free of torch. A source from another package counts as needing nothing.
    """
    return declared_needs(ROOT / "ddnet" / "depth" / "sources" / f"{_source_name(spec)}.py")


def _registered(kind: str) -> list[str]:
    """Names of a registry, those of other packages among them, without importing any."""
    inside = {path.stem for path in ROOT.joinpath(*PACKAGES[kind].split(".")).glob("[!_]*.py")}
    return sorted(inside | {point.name for point in entry_points(group=f"ddnet.{kind}")})


def registered_modules(kind: str, name: str) -> list[str]:
    """Modules that a registry finds under a name: that of this package, or an installed one's; for `Plan.code`."""
    if ROOT.joinpath(*PACKAGES[kind].split("."), f"{name}.py").is_file():
        return [f"{PACKAGES[kind]}.{name}"]
    return [point.module for point in entry_points(group=f"ddnet.{kind}") if point.name == name]


def depth_modules(spec: str) -> list[str]:
    """Modules of a depth source, for `Plan.code`."""
    return registered_modules("depth", _source_name(spec))


def _class_name(name: str) -> str:
    """As `ddnet.registry` has it: `lpips_alex` -> `LpipsAlex`."""
    return "".join(word.title() for word in name.split("_"))


def _check_depth_source(spec: str, where: str) -> None:
    """Refuse a depth source that does not exist, or numbers that one of this package does not take."""
    known, name = _registered("depth"), _source_name(spec)
    if name not in known:
        raise DDNetError(f"{where}: no depth source '{spec}'{nearest(name, known)}")
    try:
        _, numbers = source_parts(spec)
    except DDNetError as error:
        raise DDNetError(f"{where}: {error}") from None
    file = ROOT / "ddnet" / "depth" / "sources" / f"{name}.py"
    if not file.is_file():
        return
    names, _ = constructor_of(file, _class_name(name)) or ([], 0)
    takes = [argument for argument in names if argument not in ("model_path", "size")]
    if len(numbers) > len(takes):
        allowed = f"takes {', '.join(takes)}" if takes else "takes no number"
        raise DDNetError(f"{where}: '{spec}' has {len(numbers)} numbers; {name} {allowed}")
    ranges = declared_value(file, "ranges") or {}
    for argument, number in zip(takes, numbers, strict=False):
        low, high = ranges.get(argument, (-math.inf, math.inf))
        if not (math.isfinite(number) and low <= number <= high):
            raise DDNetError(f"{where}: '{spec}': {argument} must lie in [{low:g}, {high:g}]")
