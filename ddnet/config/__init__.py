"""Everything that is configured, checked before anything runs: presets, variants, compared systems, sources.

Standard library, pydantic and yaml only: a dry run of the workflow must not pay for importing torch.
"""

from ddnet.config._base import explain, given, merge, nearest
from ddnet.config.recipe import Recipe, common_recipe, merged_recipe
from ddnet.config.settings import (
    PAPER_WIDTH,
    Complexity,
    Depth,
    DpddData,
    EmbeddedData,
    Evaluation,
    FitDepth,
    FolderData,
    LearnedSystem,
    Model,
    Patches,
    Perceptual,
    Photometric,
    Settings,
    Training,
    Trial,
    files_in,
    load_settings,
    named_files,
    validate_settings,
)
from ddnet.config.sources import Item, Source, load_sources, source_of
from ddnet.config.systems import Baseline, Variant, find_variant, load_baselines, load_variants

__all__ = [
    "PAPER_WIDTH",
    "Baseline",
    "Complexity",
    "Depth",
    "DpddData",
    "EmbeddedData",
    "Evaluation",
    "FitDepth",
    "FolderData",
    "Item",
    "LearnedSystem",
    "Model",
    "Patches",
    "Perceptual",
    "Photometric",
    "Recipe",
    "Settings",
    "Source",
    "Training",
    "Trial",
    "Variant",
    "common_recipe",
    "explain",
    "files_in",
    "find_variant",
    "given",
    "load_baselines",
    "load_settings",
    "load_sources",
    "load_variants",
    "merge",
    "merged_recipe",
    "named_files",
    "nearest",
    "source_of",
    "validate_settings",
]
