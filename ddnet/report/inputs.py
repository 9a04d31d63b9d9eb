"""From what a workflow job is handed (plain values and paths) to what the report functions take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddnet.config import Baseline, Variant
from ddnet.report.collect import RunRef, VariantInfo


def variant_infos(variants: Iterable[Mapping[str, Any]], depth_source: str) -> tuple[VariantInfo, ...]:
    """Report records of variants given as plain values; `depth_source` is the preset's, where a variant names none."""
    infos = []
    for values in variants:
        variant = Variant(**values)
        infos.append(
            VariantInfo(
                name=variant.name,
                label=variant.label,
                studies=variant.study,
                arch=variant.arch,
                fusion=variant.fusion,
                branches=len(variant.branches),
                depth_source=(variant.depth_source or depth_source) if variant.uses_depth else "",
                config=variant.model_dump(mode="json", exclude={"name", "label", "study", "aliases"}),
            )
        )
    return tuple(infos)


def test_sets(names: Sequence[str]) -> tuple[str, str | None]:
    """The main test set, and the second one where there is one."""
    return names[0], names[1] if len(names) > 1 else None


def compared(baselines: Iterable[Mapping[str, Any]]) -> tuple[Baseline, ...]:
    """Compared systems given as plain values."""
    return tuple(Baseline(**values) for values in baselines)


def run_refs(
    runs: Path, baselines: Iterable[Baseline], variants: Iterable[VariantInfo], seeds: Mapping[str, Sequence[int]]
) -> list[RunRef]:
    """The compared systems, and every variant with each of its seeds, under `results/runs/<preset>`."""
    refs = [RunRef(baseline.name, None, baseline.label, runs / baseline.name) for baseline in baselines]
    for variant in variants:
        refs += [
            RunRef(variant.name, seed, variant.label, runs / f"{variant.name}-seed{seed}")
            for seed in seeds[variant.name]
        ]
    return refs
