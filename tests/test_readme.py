"""The README's measured numbers are those of results/reference; `python tests/test_readme.py` writes them anew."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results" / "reference" / "embedded" / "tables"
MARKERS = ("<!-- measured: begin -->\n", "<!-- measured: end -->\n")


def rows(table: str) -> list[dict[str, str]]:
    with (REFERENCE / f"{table}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def number(row: dict[str, str], name: str, decimals: int, spread: bool = False) -> str:
    value = row.get(name, "")
    if not value:
        return "—"
    text = f"{float(value):.{decimals}f}"
    deviation = row.get(f"{name}_sd", "") if spread else ""
    return f"{text} ± {float(deviation):.{decimals}f}" if deviation and math.isfinite(float(deviation)) else text


def difference(row: dict[str, str], name: str) -> str:
    if not row[name]:
        return "—"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = f" [{float(low):+.2f}, {float(high):+.2f}]" if low else ""
    return (f"{float(row[name]):+.2f}{interval}" if interval else "0.00").replace("-", "−")


def printed_difference(value: float) -> str:
    return f"*{value:+.2f}*".replace("-", "−").replace("+0.00", "0.00")


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def heading(*cells: str) -> str:
    return line(*cells) + line("---", *["--:"] * (len(cells) - 1))


def block() -> str:
    """The part of the README between the markers."""
    first, second, third, fourth = (rows(name) for name in ("table1", "table2", "table3", "table4"))
    text = "**Table S3, the paper's claims** (`embedded`, 24 test images; verdicts are ours)\n\n"
    text += heading(
        "claim", "verdict", "Δ PSNR, dB [95 %]", "seeds in favour", "smallest resolvable Δ", "*printed Δ, DPDD*"
    )
    for row in rows("tableS3_claims"):
        text += line(
            row["label"], f"**{row['verdict']}**", difference(row, "delta_psnr"), row["seeds_in_favour"],
            number(row, "resolvable", 2), printed_difference(float(row["paper_delta_psnr"])),
        )  # fmt: skip
    text += "\n**Table 3, effects of each module** (`embedded`, 24 test images)\n\n"
    text += heading("", "PSNR, dB", "SSIM", "MAE", "Δ PSNR to base [95 %]", "*printed, DPDD: PSNR*", "*printed Δ*")
    base = float(third[0]["paper_psnr"])
    for row in third:
        printed = float(row["paper_psnr"])
        text += line(
            row["label"], number(row, "psnr", 2, True), number(row, "ssim", 3), number(row, "mae", 4),
            difference(row, "delta_psnr"), f"*{printed:.2f}*", printed_difference(printed - base),
        )  # fmt: skip
    text += "\n**Table 4, fusion methods**\n\n"
    text += heading(
        "", "PSNR, dB", "SSIM", "LPIPS-alex", "Δ PSNR to GRU [95 %]", "*printed, DPDD: PSNR*", "*printed Δ*"
    )
    gru = next(float(row["paper_psnr"]) for row in fourth if row["key"] == "gru")
    for row in fourth:
        printed = float(row["paper_psnr"])
        text += line(
            row["label"], number(row, "psnr", 2, True), number(row, "ssim", 3), number(row, "lpips_alex", 3),
            difference(row, "delta_psnr"), f"*{printed:.2f}*", printed_difference(printed - gru),
        )  # fmt: skip
    text += "\n**Table S4, does the depth help?** (not in the paper)\n\n"
    text += heading(
        "", "depth", "params, M", "PSNR, dB", "Δ PSNR to no depth [95 %]", "Δ PSNR to constant depth [95 %]"
    )
    for row in rows("tableS4_controls"):
        deltas = [difference(row, name) for name in ("delta_none", "delta_constant")]
        text += line(
            row["label"], row["depth"], number(row, "params_m", 2), number(row, "psnr", 2, True), *deltas
        )  # fmt: skip
    text += "\n**Table S5, which reading of the paper?** (not in the paper)\n\n"
    text += heading("", "params, M", "MACs, G", "PSNR, dB", "Δ PSNR to the default reading [95 %]")
    for row in rows("tableS5_readings"):
        sizes = [number(row, "params_m", 2), number(row, "macs_g", 1)]
        text += line(row["label"], *sizes, number(row, "psnr", 2, True), difference(row, "delta_psnr"))
    text += "\n**Table S6, more ways of fusing depth** (not in the paper)\n\n"
    text += heading("", "params, M", "MACs, G", "PSNR, dB", "SSIM", "Δ PSNR to GRU [95 %]")
    for row in rows("tableS6_fusions"):
        sizes = [number(row, "params_m", 2), number(row, "macs_g", 1)]
        scores = [number(row, "psnr", 2, True), number(row, "ssim", 3)]
        text += line(row["label"], *sizes, *scores, difference(row, "delta_psnr"))
    text += "\n**Table S2, defocus maps against the true blur** (not in the paper; the true blur is known here)\n\n"
    text += heading("", "MAE, px", "Spearman, textured pixels", "Δ PSNR, hyper-Laplacian", "Δ PSNR, Richardson-Lucy")
    for row in rows("tableS2_defocus"):
        gains = [difference(row, f"gain_{method}") for method in ("hyper_laplacian", "richardson_lucy")]
        text += line(row["label"], number(row, "mae_px", 3), number(row, "pooled_spearman", 2), *gains)
    text += "\n**Tables 1 and 2, the rows that are measured here**\n\n"
    text += heading("", "test set", "PSNR, dB", "SSIM", "indoor PSNR", "outdoor PSNR")
    for table, name in ((second, "embedded"), (first, "embedded_ood")):
        for row in table:
            if row["psnr"]:
                strata = [number(row, f"{place}_psnr", 2) for place in ("indoor", "outdoor")]
                text += line(row["label"], name, number(row, "psnr", 2, True), number(row, "ssim", 3), *strata)
    return text


def test_the_readme_quotes_the_reference_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = MARKERS
    assert readme.split(begin)[1].split(end)[0] == block()


def test_the_readme_s_pictures_and_links_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


if __name__ == "__main__":
    path = ROOT / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(MARKERS[0])
    path.write_text(before + MARKERS[0] + block() + MARKERS[1] + rest.split(MARKERS[1])[1], encoding="utf-8")
