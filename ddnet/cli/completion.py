"""`ddnet completion`: names and options completed by the shell, and who may be completed to what."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

from ddnet.config import load_baselines, load_variants
from ddnet.runtime.paths import CONFIG

SHELLS = {
    "bash": "eval \"$(ddnet completion bash)\" in ~/.bashrc",
    "zsh": "eval \"$(ddnet completion zsh)\" in ~/.zshrc, after compinit",
    "fish": "ddnet completion fish > ~/.config/fish/completions/ddnet.fish",
}  # fmt: skip
INDENT = 12

Names = Callable[[], list[str]]


def _variants() -> list[str]:
    return [called for v in load_variants(CONFIG / "variants.yaml").values() for called in (v.name, *v.aliases)]


def _presets() -> list[str]:
    tables = ("variants", "baselines", "sources")
    return sorted(file.stem for file in CONFIG.glob("*.yaml") if file.stem not in tables)


def _networks() -> list[str]:
    """Whatever `ddnet.load` takes by name."""
    return [*_variants(), *load_baselines(CONFIG / "baselines.yaml"), "ddnet", "default"]


# By the argument's name in any command; arguments with a list of choices need no entry.
COMPLETED: dict[str, Names] = {"preset": _presets, "network": _networks}


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and leave, where it is the shell that asks; otherwise nothing happens."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    for action in _arguments(parser):
        if action.choices is None and (names := COMPLETED.get(action.dest)):
            action.completer = lambda names=names, **_: names()  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _arguments(inner)
        else:
            yield action


def completion(arguments: argparse.Namespace) -> None:
    """The code that a shell needs, on standard output."""
    import argcomplete

    print(argcomplete.shellcode(["ddnet"], shell=arguments.shell))


def add_parser(commands: Any) -> None:
    """Add `completion` to the commands of `ddnet`."""
    lines = "\n".join(f"  {shell + ':':<{INDENT - 2}}{line}" for shell, line in SHELLS.items())
    code = commands.add_parser(
        "completion",
        help="code for the shell: TAB completes commands and names",
        description=f"Code that makes TAB complete commands, options and names; put\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    code.add_argument("shell", choices=sorted(SHELLS))
    code.set_defaults(run=completion)
