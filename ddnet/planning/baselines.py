"""What a preset asks of the compared systems: which are measured, with what weights, how trained."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from ddnet.config import Baseline, LearnedSystem, Recipe, Settings, common_recipe, files_in, merged_recipe, nearest
from ddnet.errors import DDNetError
from ddnet.io.files import expanded
from ddnet.planning.code_digest import (
    closure,
    constructor_of,
    declared_keys,
    declared_needs,
    declared_value,
    has_base,
    keywords_of,
)
from ddnet.runtime.paths import ROOT

BASES = {"MapBased": "map_based", "NetworkSystem": "network_system"}  # of compared systems, and their files
DATASETS = ("embedded", "embedded_ood", "dpdd", "realdof")


def baseline_module(system: str) -> str:
    """Dotted name of the module that holds a compared system's class."""
    return f"baselines.{system}.baseline"


def baseline_file(system: str) -> Path:
    """File of the module that holds a compared system's class, whether or not it is there."""
    return ROOT / "baselines" / system / "baseline.py"


def system_needs(system: str) -> frozenset[str]:
    """What a compared system says it needs, read from its file, not imported: `needs = frozenset({...})`.

    `weights` where they have to be learned or fetched; then also `official` where its authors' file can be read,
    `patches` where it learns from the extracted patches, and `true_defocus` where from the true blur. `pictures` where
    it has only those that were restored elsewhere.
    """
    return declared_needs(baseline_file(system))


def view_terms(system: str, name: str = "view_terms") -> frozenset[str]:
    """Terms of a compared system's loss that compare with the two views of a dual-pixel sensor: `view_terms`.

    Args:
        name: `own_terms` for all that the system brings along.
    """
    files = [file for file in closure(ROOT, [baseline_module(system)]) if ROOT / "baselines" in file.parents]
    return frozenset().union(*(declared_needs(file, name) for file in files))


def baseline_names() -> list[str]:
    """Folders of baselines/ that hold a system."""
    return sorted(file.parent.name for file in (ROOT / "baselines").glob("*/baseline.py"))


def options_of(system: str) -> list[str] | None:
    """What a line of the baselines file may say of a system; None where its file does not tell."""
    file = baseline_file(system)
    name = "".join(word.title() for word in system.split("_"))
    found = constructor_of(file, name)
    for base, module in BASES.items():
        if found is None and has_base(file, base):
            found = constructor_of(ROOT / "baselines" / "common" / f"{module}.py", base)
    if found is None:
        return [] if system == "blurred" else None
    return [option for option in found[0] if option != "weights"]


class ComparedSystems:
    """The part of a plan that concerns the compared systems."""

    settings: Settings
    baselines: dict[str, Baseline]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the test sets: the main one and, where there is one, that of Table 1."""
        data = self.settings.data
        if data.kind == "folder":
            return (data.name, f"{data.name}_second") if data.second else (data.name,)
        return ("embedded", "embedded_ood") if data.kind == "embedded" else ("dpdd", "realdof")

    def check_systems(self) -> None:
        """Refuse lines and settings that ask for what a system does not have.

        Raises:
            DDNetError: a system that does not exist, weights that cannot be had, a training that cannot be done.
        """
        for name, baseline in self.baselines.items():
            file = baseline_file(baseline.system)
            if not file.is_file():
                known = nearest(baseline.system, baseline_names())
                raise DDNetError(
                    f"baseline '{name}': no system '{baseline.system}'{known}; correct it, or write "
                    f"{file.relative_to(ROOT)}"
                )
            self._check_line(name, baseline)
        for name, system in self.settings.systems.items():
            self._check_system(name, system)

    def _check_line(self, name: str, line: Baseline) -> None:
        """Refuse options that the system does not take, and test sets that are all but a known one.

        Some other test set may be that of another preset which uses the same file.
        """
        known = [*dict.fromkeys((*DATASETS, *self.datasets))]
        for dataset in (*line.datasets, *line.per_dataset):
            if dataset not in known and (
                self.settings.data.kind != "folder" or difflib.get_close_matches(dataset, known, n=1)
            ):
                raise DDNetError(f"baseline '{name}': no test set '{dataset}'{nearest(dataset, known)}")
        options = options_of(line.system)
        for given in (line.options, *line.per_dataset.values()):
            for option, value in given.items():
                if options is not None and option not in options:
                    raise DDNetError(
                        f"baseline '{name}': {line.system} has no option '{option}'{nearest(option, options)}"
                    )
                methods = list(declared_value(ROOT / "baselines" / "common" / "deconvolution.py", "METHODS") or ())
                if option == "method" and methods and value not in methods:
                    raise DDNetError(f"baseline '{name}': no method '{value}'{nearest(str(value), methods)}")

    def _check_system(self, name: str, system: LearnedSystem) -> None:
        needs, kind = system_needs(name), self.settings.data.kind
        if "weights" not in needs:
            learned = [system for system in baseline_names() if "weights" in system_needs(system)]
            raise DDNetError(f"systems: no compared system '{name}' needs weights{nearest(name, learned)}")
        if system.weights == "official" and "official" not in needs:
            raise DDNetError(f"systems.{name}.weights: its authors' file is not public; write train or none")
        if system.weights != "train" or not any(line.system == name for line in self.baselines.values()):
            return
        own = self._own_recipe(name)
        options = keywords_of(baseline_file(name), "train")
        if own is None and system.recipe == "common":
            raise DDNetError(f"systems.{name}.recipe: the common one is for networks that restore pictures; write own")
        if own is None and options is None:
            raise DDNetError(
                f"systems.{name}.weights: nothing says how to train it; give its line of the baselines file a "
                "`recipe`, or write official or none"
            )
        if "true_defocus" in needs and kind != "embedded":
            raise DDNetError(
                f"systems.{name}.weights: it learns from the true blur, which data of kind '{kind}' does not have; "
                "write official or none"
            )
        for option in system.training.keys() - {*(options or ())} if own is None else ():
            raise DDNetError(f"systems.{name}.training: unknown key '{option}'{nearest(option, options or ())}")
        known = declared_keys(baseline_file(name), "sizes")
        for size in self.training_of(name).get("sizes", {}).keys() - {*known}:
            raise DDNetError(f"systems.{name}.training.sizes: unknown key '{size}'{nearest(size, known)}")
        self._check_terms(name, self.training_of(name))
        self._check_views(name, self.training_of(name))

    def _check_terms(self, name: str, training: dict[str, Any]) -> None:
        """Refuse terms of a loss that the system does not have, and a loss of none."""
        if "loss" not in training:
            return
        perceptual, where = training["perceptual"]["weight"], f"systems.{name}.training.loss"
        known = ["l1", "mse", *sorted(view_terms(name, "own_terms")), *(["perceptual"] if perceptual else [])]
        for term in training["loss"]:
            if term not in known:
                raise DDNetError(f"{where}: unknown term '{term}'{nearest(term, known)}")
        if not perceptual and not any(training["loss"].values()):
            raise DDNetError(f"{where}: no term has a weight; give one some, such as mse: 1")

    def _check_views(self, name: str, training: dict[str, Any]) -> None:
        terms = self._weighted_view_terms(name)
        named, instead = " and ".join(terms), ", ".join(f"{term}: 0" for term in terms)
        one = len(terms) == 1
        if terms and self.settings.data.kind == "folder":
            raise DDNetError(
                f"systems.{name}.training.loss: {named} need{'s' if one else ''} the two views of a dual-pixel sensor, "
                f"which data of kind 'folder' does not have; write training: {{loss: {{{instead}}}}}"
            )
        if terms and self.settings.data.kind == "dpdd" and not self.settings.data.views:
            raise DDNetError(
                f"systems.{name}.training.loss: {named} need{'s' if one else ''} the two views of a dual-pixel sensor; "
                f"write data: {{kind: dpdd, views: true}}, which fetches them too, or training: {{loss: {{{instead}}}}}"
            )
        if terms and "turns" in training["augment"]:
            raise DDNetError(
                f"systems.{name}.training.augment: a turned picture has no left and right view, which the loss's "
                f"{named} compare{'s' if one else ''} with; leave turns out, or write loss: {{{instead}}}"
            )

    def _weighted_view_terms(self, system: str) -> list[str]:
        """Those of `view_terms` that have a weight in a system's training here."""
        if self._own_recipe(system) is None:
            return []
        loss = self.training_of(system)["loss"]
        return sorted(term for term in view_terms(system) if loss.get(term))

    def _own_recipe(self, system: str) -> Recipe | None:
        recipes = [line.recipe for line in self.baselines.values() if line.system == system and line.recipe]
        return recipes[0] if recipes else None

    def training_of(self, system: str) -> dict[str, Any]:
        """How a compared system is trained: the values of its recipe, or the arguments of its own training."""
        chosen, recipe = self.settings.systems[system], self._recipe(system)
        if recipe is None:
            return chosen.training
        return merged_recipe(recipe, chosen.training, f"systems.{system}.training").model_dump(mode="json")

    def _recipe(self, system: str) -> Recipe | None:
        """The recipe that the preset chose, before its changes; None for a system without."""
        own = self._own_recipe(system)
        common = own and self.settings.systems[system].recipe == "common"
        return common_recipe(self.settings.training) if common else own

    @property
    def learned_systems(self) -> dict[str, dict[str, Any]]:
        """What the preset says of the compared systems that need weights.

        `recipe` is empty for one without recipes; `training` of one with has but what differs from its recipe.
        """
        told = {name: system.model_dump(mode="json") for name, system in self.settings.systems.items()}
        for name, entry in told.items():
            recipe = self._recipe(name)
            if recipe is None:
                entry["recipe"] = ""
            else:
                before, after = recipe.model_dump(mode="json"), self.training_of(name)
                entry["training"] = {key: after[key] for key in after if after[key] != before[key]}
        return told

    @property
    def trunks(self) -> list[str]:
        """Pretrained trunks of the perceptual losses that have a weight, the preset's own first."""
        own = self.settings.training.perceptual
        used = [own.trunk] if own.weight else []
        return list(dict.fromkeys([*used, *filter(None, map(self.trunk_of, self.systems_with("train")))]))

    def trunk_of(self, system: str) -> str | None:
        """The pretrained trunk of a compared system's perceptual loss; None where that has no weight."""
        term = self.training_of(system).get("perceptual")
        return str(term["trunk"]) if term and term["weight"] else None

    @property
    def measured_baselines(self) -> list[str]:
        """The compared systems without those that need weights and are not given any, or are not for these datasets."""
        return [
            name
            for name, b in self.baselines.items()
            if self.weights_of(b.system) != "none" and any(map(b.measured_on, self.datasets))
        ]

    @property
    def counted_baselines(self) -> list[str]:
        """The measured ones that are networks, whose parameters and MACs are counted."""

        def is_network(system: str) -> bool:
            return system == "dmenet" or has_base(baseline_file(system), "NetworkSystem")

        return [name for name in self.measured_baselines if is_network(self.baselines[name].system)]

    def weights_of(self, system: str) -> str:
        """Where a compared system has its weights from: train, official or none; empty for one that needs none."""
        if "weights" not in system_needs(system):
            return ""
        return self.settings.systems[system].weights if system in self.settings.systems else "none"

    def systems_with(self, weights: str) -> list[str]:
        """Compared systems whose weights are had in this way."""
        return sorted({b.system for b in self.baselines.values() if self.weights_of(b.system) == weights})

    def pictures(self, baseline: str) -> list[str]:
        """Finished pictures that a line of the baselines file measures: it is measured anew where one changes.

        Raises:
            DDNetError: no folder is named, or nothing is in it.
        """
        line = self.baselines[baseline]
        if "pictures" not in system_needs(line.system):
            return []
        key, fix = f"baseline '{baseline}': options.folder", "name one with restored pictures"
        folders = []
        for dataset in filter(line.measured_on, self.datasets):
            if not (folder := str(line.options_on(dataset).get("folder", ""))):
                raise DDNetError(f"{key}: is not given; {fix}")
            inside = expanded(folder) / dataset
            folders.append(inside if inside.is_dir() else Path(folder))
        return [file for folder in dict.fromkeys(folders) for file in files_in([folder], folder, key, fix)]

    @property
    def map_systems(self) -> list[str]:
        """Compared systems whose defocus maps are scored against the true blur; none where that is unknown."""
        if self.settings.data.kind != "embedded":
            return []
        measured = dict.fromkeys(self.baselines[name].system for name in self.measured_baselines)
        return [name for name in measured if has_base(baseline_file(name), "MapBased")]
