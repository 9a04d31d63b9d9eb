"""`ddnet list` and `ddnet describe`: what there is, by kind and by name."""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddnet.config import (
    Complexity,
    Item,
    Settings,
    Variant,
    find_variant,
    load_baselines,
    load_sources,
    load_variants,
)
from ddnet.errors import DDNetError
from ddnet.planning.baselines import system_needs
from ddnet.planning.plan import TABLES
from ddnet.registry import did_you_mean, names, resolve
from ddnet.runtime.log import say
from ddnet.runtime.paths import CONFIG

PRESETS = ("embedded", "smoke", "paper", "paper-short", "folder", "release")
LISTABLE = ("variants", "fusions", "depth", "metrics", "baselines", "datasets", "presets", "studies")
# What `describe` knows, by the word for one of them, in the order in which it looks.
KINDS = {
    "variant": "variants", "fusion": "fusions", "depth": "depth", "baseline": "baselines", "metric": "metrics",
    "dataset": "datasets",
}  # fmt: skip
BUILT_IN = {
    "none": "no depth: the network never reads a map",
    "input": "the map is a fourth channel of the image; no fusion cells",
}
DATASETS = {
    "embedded": "rendered here: true thin-lens defocus and depth of packaged photographs",
    "embedded_ood": "rendered here: lenses and photographs that no training scene has, and a real stereo pair",
    "dpdd": "DPDD, 500 photographed pairs of 1680 x 1120 at 16 bits (Abuolaim and Brown 2020)",
    "realdof": "RealDOF, 50 photographed pairs (Lee et al. 2021), for testing only",
    "folder": "pairs of your own: source/ defocused, target/ all in focus",
}
WIDTHS = 64, 16  # C1 and C2 of the paper
INDENT = 24

Facts = dict[str, object]
SettingsOf = Callable[[str], Settings]


def variants_of(path: Path | None) -> dict[str, Variant]:
    """The table of variants: the project's, or the file that `--variants` names."""
    return load_variants(path or CONFIG / "variants.yaml")


def _list(arguments: argparse.Namespace) -> None:
    kinds = [arguments.kind] if arguments.kind else list(LISTABLE)
    for kind in kinds:
        if len(kinds) > 1:
            say(f"{kind}:")
        for line in _listing(kind, arguments.variants):
            say(f"  {line}" if len(kinds) > 1 else line)


def _listing(kind: str, variants_file: Path | None) -> list[str]:
    variants = variants_of(variants_file)
    if kind == "variants":
        rows = [(v.name, ", ".join(v.study), v.label, ", ".join(v.aliases)) for v in variants.values()]
        width = max(len(studies) for _, studies, _, _ in rows) + 2
        return [f"{n:<{INDENT}}{s:<{width}}{label}{f'  (alias: {a})' if a else ''}" for n, s, label, a in rows]
    if kind == "studies":
        studies = sorted({study for variant in variants.values() for study in variant.study})
        table = {study: name for name, study in TABLES.items() if study}
        return [f"{study:<12}{table.get(study, 'no table yet')}" for study in studies]
    if kind == "baselines":
        return [f"{b.name:<{INDENT}}{b.label}" for b in load_baselines(CONFIG / "baselines.yaml").values()]
    if kind == "presets":
        return list(PRESETS)
    if kind == "datasets":
        return [f"{name:<{INDENT}}{about}" for name, about in DATASETS.items()]
    return _known(kind, variants)


def _known(kind: str, variants: Mapping[str, Variant]) -> list[str]:
    """Every name of one kind, aliases included."""
    if kind == "variants":
        return [called for variant in variants.values() for called in (variant.name, *variant.aliases)]
    if kind == "baselines":
        return list(load_baselines(CONFIG / "baselines.yaml"))
    if kind == "fusions":
        return [*BUILT_IN, *names("fusion")]
    return list(DATASETS) if kind == "datasets" else names({"depth": "depth", "metrics": "metric"}[kind])


def _described() -> list[str]:
    """Every name that can be described."""
    variants = variants_of(None)
    return [called for plural in KINDS.values() for called in _known(plural, variants)]


def kind_of(name: str, kind: str | None, variants: Mapping[str, Variant]) -> str:
    """What a name is, one of `KINDS`.

    Raises:
        DDNetError: it is nothing, says the nearest; or several things, says which.
    """
    known = {each: _known(plural, variants) for each, plural in KINDS.items() if kind in (None, each)}
    found = [each for each, called in known.items() if name in called]
    if not found:
        # All names would fill the screen, so only the nearest is said where no kind is.
        hint, _, allowed = did_you_mean(name, {called for each in known.values() for called in each}).partition(" (")
        raise DDNetError(f"unknown {kind or 'name'} '{name}'{hint} ({allowed if kind else '`ddnet list` shows all)'}")
    if len(found) > 1:
        choices = " or ".join(f"--kind {each}" for each in found)
        raise DDNetError(f"'{name}' is a {' and a '.join(found)}; say which: {choices}")
    return found[0]


def _describe(arguments: argparse.Namespace, settings_of: SettingsOf) -> None:
    variants = variants_of(arguments.variants)
    kind = kind_of(arguments.name, arguments.kind, variants)
    settings = settings_of(arguments.preset)
    facts = {
        "variant": lambda: _variant(find_variant(variants, arguments.name), settings),
        "fusion": lambda: _fusion(arguments.name, variants),
        "depth": lambda: _depth(arguments.name),
        "baseline": lambda: _baseline(arguments.name),
        "metric": lambda: _metric(arguments.name),
        "dataset": lambda: _dataset(arguments.name, settings_of),
    }[kind]()
    for name, value in facts.items():
        say(f"{name + ':':<{INDENT}}{value}")


def _first_line(described: Any) -> str:
    return (inspect.getdoc(described) or "").partition("\n")[0]


def _options(kind: type, first: int) -> str:
    """Constructor arguments from the `first` on, with their defaults."""
    parameters = list(inspect.signature(kind).parameters.values())[first:]
    shown = (p.name if p.default is p.empty else f"{p.name} ({p.default})" for p in parameters)
    return ", ".join(shown) or "none"


def _variant(variant: Variant, settings: Settings) -> Facts:
    from ddnet.evaluation.complexity import measure_complexity

    paper = measure_complexity(variant, settings.complexity)
    trained = measure_complexity(variant, Complexity(width=settings.model.width, size=settings.complexity.size))
    return {
        "variant": variant.name + (f" (alias: {', '.join(variant.aliases)})" if variant.aliases else ""),
        "label": variant.label,
        "studies": ", ".join(variant.study),
        "network": variant.arch,
        "fusion": variant.fusion,
        "RCABs per group": ", ".join(map(str, variant.branches)) if variant.arch == "ddnet" else "-",
        "output": variant.output or f"{settings.model.output} (preset {settings.preset})",
        "depth source": (variant.depth_source or settings.depth.source) if variant.uses_depth else "none",
        "parameters": f"{paper['params']:,} ({paper['params_m']:.2f} M) at width {paper['width']}",
        "MACs": f"{paper['macs_g']:.2f} G at {paper['size']} x {paper['size']}, {paper['tool']}",
        "MACs, cross-check": f"{paper['flopcounter_macs_g']:.2f} G (convolutions, torch FlopCounterMode)",
        f"trained in {settings.preset}": f"{trained['params']:,} parameters at width {trained['width']}",
    }


def _fusion(name: str, variants: Mapping[str, Variant]) -> Facts:
    used = ", ".join(v.name for v in variants.values() if v.fusion == name) or "no variant"
    if name in BUILT_IN:
        return {"fusion": name, "about": BUILT_IN[name], "variants": used}
    from ddnet.models import count_parameters
    from ddnet.models.ddnet import require_fused

    cell = resolve("fusion", name)
    require_fused(cell, name, *WIDTHS, {})
    halo = getattr(cell, "halo", None)
    sees = "the whole image, as far as it says" if halo is None else f"{halo} pixels around each one"
    return {
        "fusion": name,
        "about": _first_line(cell),
        "code": cell.__module__,
        "fusion_options": _options(cell, 2),
        "parameters": f"{count_parameters(cell(*WIDTHS)):,} per scale and branch (C1 = {WIDTHS[0]}, C2 = {WIDTHS[1]})",
        "looks at": f"{sees} (halo: {halo})",
        "variants": used,
    }


def _depth(name: str) -> Facts:
    source = resolve("depth", name)
    words = {"model": "a network's weights", "true_depth": "true depth", "other": "another scene's depth"}
    needs = ", ".join(words.get(need, need) for need in sorted(source.needs))
    arguments = [p.name for p in inspect.signature(source).parameters.values() if p.name not in ("model_path", "size")]
    return {
        "depth source": name,
        "about": _first_line(source),
        "needs": needs or "nothing but the image",
        "numbers": f"{name}({', '.join(arguments)})" if arguments else "none",
        "weights": _licence(name) if "model" in source.needs else "none",
    }


def _item(name: str) -> Item | None:
    return load_sources(CONFIG / "sources.yaml").get(name)


def _licence(name: str) -> str:
    item = _item(name)
    return f"{item.about}; licence: {item.licence}" if item else "no published ones"


def _baseline(name: str) -> Facts:
    from ddnet.planning.compared import compared_systems

    line = load_baselines(CONFIG / "baselines.yaml")[name]
    needs = system_needs(line.system)
    weights = "none"
    if "weights" in needs:
        official = f"its authors': {_licence(line.system)}" if "official" in needs else "its authors' are not public"
        weights = f"trained here, or {official}" if "official" in needs else f"trained here; {official}"
    facts: Facts = {
        "baseline": name,
        "label": line.label,
        "about": _first_line(compared_systems().system_class(line.system)),
        "system": line.system,
        "options": ", ".join(f"{key}: {value}" for key, value in line.options.items()) or "none",
        "weights": weights,
        "datasets": ", ".join(line.datasets) or "every test set",
    }
    try:
        size = compared_systems("complexity").counted(line.system)
    except DDNetError:
        return facts | {"parameters": "none to count: it is no network"}
    return facts | {
        "parameters": f"{size['params']:,} ({size['params_m']:.2f} M) at the published width",
        "MACs": f"{size['macs_g']:.2f} G at {size['size']} x {size['size']}, {size['tool']}",
        **({"note": size["note"]} if size["note"] else {}),
    }


def _metric(name: str) -> Facts:
    metric = resolve("metric", name)
    return {
        "metric": name,
        "about": _first_line(metric),
        "better": "lower" if metric.lower_better else "higher",
        "unit": metric.unit or "none",
        "of an image itself": f"{metric.best:g}",
        "needs": "weights of its network" if metric.needs_weights else "nothing",
        "smallest side": f"{metric.smallest_side} pixels",
    }


def _dataset(name: str, settings_of: SettingsOf) -> Facts:
    facts: Facts = {"dataset": name, "about": DATASETS[name]}
    if name == "folder":
        data = settings_of("folder").data
        assert data.kind == "folder"
        sizes = (
            f"{data.val:.0%} validation, {data.test:.0%} test, unless path has train/, val/ and test/ (preset folder)"
        )
        return facts | {"source": "data.path of the preset", "splits": sizes, "licence": "your own"}
    if item := _item(name):
        places = [place.url for place in item.sources]
        fetched = f"{item.gigabytes:g} GB, first from {places[0]}" if places else "by hand"
        splits = _dpdd_splits() if name == "dpdd" else "50 test"
        return facts | {"source": fetched, "by hand": item.by_hand, "splits": splits, "licence": item.licence}
    data = settings_of("embedded").data
    assert data.kind == "embedded"
    splits = f"{data.train} train, {data.val} validation, {data.test} test, {data.train_depth} to fit the depth network"
    return facts | {
        "source": "rendered from photographs of scikit-image and scikit-learn, which come with them",
        "splits": (f"{data.embedded_ood} test" if name == "embedded_ood" else splits) + ", preset embedded",
        "size": f"{data.size} x {data.size} pixels, {data.lens_samples} lens samples",
        "licence": "the photographs' own, as their packages state",
    }


def _dpdd_splits() -> str:
    from ddnet.data.dpdd import official_pairs

    counts = Counter(pair.split for pair in official_pairs())
    return f"{counts['train']} train, {counts['val']} validation, {counts['test']} test"


def add_parsers(commands: Any, settings_of: SettingsOf) -> None:
    """Add `list` and `describe` to the commands of `ddnet`."""
    listing = commands.add_parser("list", help="names of variants, fusions, depth sources, metrics, ...")
    listing.add_argument("kind", nargs="?", choices=LISTABLE, metavar="KIND", help=f"one of {', '.join(LISTABLE)}")
    listing.set_defaults(run=_list)
    describe = commands.add_parser("describe", help="a variant, fusion, depth source, system, metric or dataset")
    name = describe.add_argument("name", help="any name that `ddnet list` shows")
    name.completer = lambda **_: _described()  # which argcomplete looks for
    describe.add_argument("--kind", choices=tuple(KINDS), help="what it is, where several things are called so")
    describe.add_argument("--preset", default="embedded", help="a preset's name or file (default: embedded)")
    describe.set_defaults(run=lambda arguments: _describe(arguments, settings_of))
