"""`ddnet weights`: which published weights this suite can read, and taking in what was downloaded by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ddnet.config import load_sources, source_of
from ddnet.io.files import expanded
from ddnet.runtime.log import say
from ddnet.runtime.paths import CONFIG

SOURCES = CONFIG / "sources.yaml"
INDENT = 16
NEXT = {
    "monodepth2": "`depth: {source: monodepth2, fit: null}` in a preset",
    "depth_anything": "`depth: {source: depth_anything, fit: null}` in a preset",
    "ddnet": 'in Python, `ddnet.load("ddnet").restore(image)`',
}


def weights_list(_: argparse.Namespace) -> None:
    """Every item of published weights: what is expected, where it is published, its licence, and whether it is here."""
    from ddnet.data.fetch_data import WEIGHTS
    from ddnet.restoration.import_weights import expected_files, here

    items = load_sources(SOURCES)
    for name in WEIGHTS:
        item = source_of(name, items)
        there = here(name)
        way = f"`snakemake --cores 1 data/embedded/fetched/{name}.json` fetches it, or " if item.sources else ""
        lines = [
            item.about,
            f"expected: {expected_files(name)}",
            *(f"published: {source.url}" for source in item.sources),
            f"by hand: {item.by_hand}",
            f"licence: {' '.join(item.licence.split())}",
            f"here: {there}" if there else f"not here: {way}`ddnet weights import FILE`",
        ]
        for number, line in enumerate(lines):
            say(f"{'' if number else name + ':':<{INDENT}}{line}")


def weights_import(arguments: argparse.Namespace) -> None:
    """Take in published weights that were downloaded by hand."""
    from ddnet.restoration.import_weights import import_weights

    items = load_sources(SOURCES)
    found = import_weights(expanded(arguments.file), items, arguments.name)
    digests = ", ".join(digest[:12] for digest in found.fetched.digests.values())
    say(
        f"{found.name}: recognised as {source_of(found.name, items).about}; {found.parameters:,} parameters, SHA-256 "
        f"{digests}; kept in {found.folder}"
    )
    say(f"next: {NEXT.get(found.name, f'`systems: {{{found.name}: {{weights: official}}}}` in a preset')}")


def add_parser(commands: Any) -> None:
    """Add `weights list` and `weights import` to the commands of `ddnet`."""
    weights = commands.add_parser("weights", help="published weights: what is here, take in a file")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is expected, where it is published, and whether it is here")
    listing.set_defaults(run=weights_list)
    taking = actions.add_parser("import", help="check a downloaded file in full, and keep it where the workflow looks")
    taking.add_argument("file", type=Path, help="the published file, or a folder or a zip that contains it")
    taking.add_argument("--as", dest="name", metavar="NAME", help="which item it is (default: found out)")
    taking.set_defaults(run=weights_import)
