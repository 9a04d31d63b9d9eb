"""What a table says about itself: test set, seeds, widths, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddnet.report.collect import LOCATIONS
from ddnet.report.evidence import METRIC_NAMES, Evidence
from ddnet.report.statistics import FEWEST_RANKED
from ddnet.report.wording import TRIAL_NOTE, display_name, is_rendered, learned_from

PAPER_TEST_SET = {"table1": "RealDOF", "table2": "DPDD", "table3": "DPDD", "table4": "DPDD", "tableS3_claims": "DPDD"}
SQUEEZE = "The paper's LPIPS is computed with SqueezeNet and stands next to LPIPS-squeeze only."


def plain_text(value: Any) -> str:
    """A provenance value in one line: mappings as `key value`, several values joined by slashes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain_text(item)}" for key, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return " / ".join(map(plain_text, value))
    return str(value)


def _dates(value: Any) -> str:
    """The day of the measurement, or the first and the last of several."""
    days = sorted({str(date)[:10] for date in (value if isinstance(value, list) else [value])})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _short(key: str, value: Any) -> str:
    """A table made from many runs names up to three different values; each run's manifest has its own."""
    if key == "date":
        return _dates(value)
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)} different, see the runs' manifests"
    if key == "commit":
        return plain_text([str(item)[:12] for item in (value if isinstance(value, list) else [value])])
    return plain_text(value)


def provenance_facts(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of a record of `collect.merge_provenance`, in the order in which readers get it."""
    facts = []
    if "commit" in known:
        dirty = known.get("dirty")
        some_dirty = any(dirty) if isinstance(dirty, list) else bool(dirty)
        facts.append(("commit", _short("commit", known["commit"]) + (" (+dirty)" if some_dirty else "")))
    for key in ("config_hash", "code_digest", "data_digest", "device", "versions", "date"):
        if known.get(key) not in (None, "", {}, []):
            facts.append((key.replace("_", " "), _short(key, known[key])))
    return facts


def provenance_line(evidence: Evidence) -> str:
    """Commit, digests, device, versions and date in one line; empty where nothing is known. A trial comes first."""
    parts = ["trial on a few scenes"] if evidence.trial else []
    return "; ".join([*parts, *(f"{name} {value}" for name, value in provenance_facts(evidence.provenance))])


def unavailable_note(evidence: Evidence, metric: str) -> str:
    """Why a metric has no value: `LPIPS-squeeze: weights unavailable: <reason>`."""
    reason = evidence.unavailable.get(metric, "not in per_image.csv")
    return f"{METRIC_NAMES[metric]}: {reason if 'unavailable' in reason else f'unavailable: {reason}'}"


def _printed_dataset(table: str, dataset: str, trial: bool) -> list[str]:
    """Whether the printed numbers beside the measured ones are of the same images; nothing where none are printed."""
    printed = PAPER_TEST_SET.get(table)
    if printed is None:
        return []
    if display_name(dataset) == printed:
        whose = "The printed numbers are the paper's on the same test set"
        return [f"{whose}, of which this trial has a few scenes." if trial else f"{whose}."]
    kind = "Embedded benchmark" if is_rendered(dataset) else display_name(dataset)
    return [
        f"{kind}, not {printed}: the printed numbers are of another dataset, and differences to them are not "
        "reproduction errors."
    ]


def learned_systems(evidence: Evidence) -> list[str]:
    """Where each compared system of Table 2 that needs weights has them from."""
    labels = {baseline.system: baseline.label for baseline in reversed(evidence.baselines)}
    return [f"{labels[name]}: {learned_from(chosen)}." for name, chosen in evidence.systems.items() if name in labels]


def difference_notes(evidence: Evidence) -> list[str]:
    """What around the compared systems is otherwise than in their authors' code, one note for each that says so."""
    notes = []
    for baseline in evidence.baselines:
        chosen = evidence.systems.get(baseline.system, {})
        asked = ["always", "" if chosen.get("recipe") == "common" else chosen.get("weights")]
        said = [text for when, text in baseline.differs.items() if when in asked]
        if said:
            notes.append(f"{baseline.label} differs from what its authors published: {'; '.join(said)}.")
    return notes


def size_notes(evidence: Evidence) -> list[str]:
    """What the counted sizes of the compared networks contain, or why the printed ones cannot be reached."""
    labels = {baseline.name: baseline.label for baseline in evidence.baselines}
    counted = {name: size["note"] for name, size in evidence.complexity.items() if name in labels and size.get("note")}
    first = {note: name for name, note in reversed(counted.items())}  # several lines may use one system
    return [f"Size of {labels[name]}: {note}." for note, name in reversed(first.items())]


def system_notes(evidence: Evidence) -> tuple[str, ...]:
    """All that a table says of the compared systems."""
    return (*learned_systems(evidence), *difference_notes(evidence), *size_notes(evidence))


def footnotes(evidence: Evidence, table: str, dataset: str, reference: str = "") -> tuple[str, ...]:
    """All footnotes of one table.

    Args:
        dataset: the test set that the table was measured on.
        reference: what the table's Δ columns are taken against, in words; "" where it has none.
    """
    values = evidence.images[evidence.images["dataset"] == dataset]
    images = values.drop_duplicates("scene")
    counts = {name: int((images["location"] == name).sum()) for name in LOCATIONS}
    strata = f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if any(counts.values()) else ""
    known = sorted(set(values["seed"].dropna().astype(int)))
    seeds = ", ".join(map(str, known)) or "none"
    notes = [TRIAL_NOTE] if evidence.trial else []
    notes.append(
        f"Measured on {display_name(dataset)}: {len(images)} test image{'s' if len(images) != 1 else ''}{strata}, "
        f"preset {evidence.preset}."
    )
    if table in ("table2", "tableS3_claims") and not strata:
        notes.append("Which images are indoor and which outdoor is not known, so those columns have no value.")
    notes += _printed_dataset(table, dataset, evidence.trial)
    notes.append(
        f"One value per image, mean over images, then over seeds ({seeds}); ± is the sample s.d. over "
        "seeds, shown where there are several" + ("; here is one seed." if len(known) == 1 else ".")
    )
    if reference:
        notes.append(
            f"Δ is the paired PSNR difference to {reference}, with a 95 % interval by a "
            f"hierarchical bootstrap (seeds, then images; {evidence.draws:,} draws), p of Wilcoxon's signed-rank test "
            "over images (Holm's correction over this table's contrasts), and the share of images on which it is "
            "positive."
        )
        if 1 < len(images) < FEWEST_RANKED:
            notes.append(
                f"With {len(images)} test images p cannot fall below {2 / 2 ** len(images):g}, so nothing can be "
                "significant."
            )
    notes.append(
        f"Trained at width {evidence.width}; parameters and MACs are those of the paper's width 64 at "
        "512×512, one forward pass of the restoration network, the depth network not included."
    )
    if evidence.depth_source:
        notes.append(f"Depth: {evidence.depth_source}, unless the row says otherwise.")
    if line := provenance_line(evidence):
        notes.append(f"Provenance: {line}.")
    return tuple(notes)
