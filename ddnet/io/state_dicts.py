"""Where in a checkpoint the weights of a network lie, however its authors' training program wrapped them.

Programs write a network's named tensors alone, or in dictionaries (`state_dict`, `params_ema`, `model`, ...), and put
`module.`, `model.` or `_orig_mod.` before the names. What is looked for are the published names after all that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddnet.errors import DDNetError

log = logging.getLogger(__name__)

Known = Callable[[str], bool]

# What may stand before a tensor's name; the dictionaries around the tensors may be called anything.
BEFORE = frozenset(
    "module _orig_mod _fsdp_wrapped_module model network net generator state_dict model_state_dict model_state params "
    "weights netG net_g gen G g online_model deblur_net".split()
)
AVERAGED = frozenset({"ema", "swa", "averaged"})  # over training; such weights are the ones to use
OF_TRAINING = re.compile(r"optim|sched|scaler|exp_avg|momentum|grad|discriminator|loss|criterion", re.IGNORECASE)
COUNTERS = frozenset({"num_batches_tracked", "n_averaged", "num_updates"})
DEEPEST = 4  # dictionaries around the tensors
SHOWN = 60  # characters of a name


@dataclass(frozen=True)
class FoundState:
    """The weights of one network in a checkpoint.

    Attributes:
        prefix: what stands before every name in the file.
        entries: value by name with its prefix: what is the network's, and what it has no place for.
        said: which of several sets of weights these are; empty where there is but one.
    """

    prefix: str
    entries: dict[str, Any]
    said: str = ""

    def tell(self, title: str) -> None:
        """Say which of several sets was taken; called when it has turned out to fit."""
        if self.said:
            log.warning("%s: %s", title, self.said)


@dataclass(frozen=True)
class _Set:
    """The tensors of one dictionary that have the same prefix: `where` is the way to it."""

    where: tuple[str, ...]
    prefix: str
    mapping: Mapping[str, Any]
    names: frozenset[str]

    @property
    def parts(self) -> list[str]:
        return [*self.where, *self.prefix.split(".")[:-1]]

    @property
    def called(self) -> str:
        return f"'{'.'.join(self.parts)[:SHOWN]}'" if self.parts else "the file itself"

    @property
    def averaged(self) -> bool:
        return any(map(_is_averaged, self.parts))

    @property
    def rank(self) -> tuple[int, bool, bool]:
        """The larger, the better: the most complete, averaged over training, of a usual name."""
        return len(self.names), self.averaged, all(part in BEFORE or _is_averaged(part) for part in self.parts)

    def same_as(self, other: _Set) -> bool:
        pairs = [(self.mapping[self.prefix + name], other.mapping[other.prefix + name]) for name in self.names]
        return self.names == other.names and all(a is b or _equal(a, b) for a, b in pairs)


def find_state(content: Any, known: Known, where: str, title: str, ignored: Known = lambda name: False) -> FoundState:
    """The set of tensors in a checkpoint that has most of a network's names; of two, that averaged over training.

    What training keeps beside a network is left out: its progress, the optimiser, counters of batches, copies.

    Args:
        content: what the file holds.
        known: whether a name is one of the network's.
        where, title: the file and the network, for messages.
        ignored: whether a name is of a part of the network that is not used.

    Raises:
        DDNetError: no tensor has such a name, or two sets that differ could both be meant.
    """
    mappings = list(_mappings(content))
    if not mappings:
        raise DDNetError(f"{where}: {type(content).__name__}, not a dictionary of tensors; not weights of {title}")
    sets = [found for place, mapping in mappings for found in _sets(place, mapping, known)]
    if not sets:
        raise DDNetError(f"{where}: {_why_unknown(mappings, known)}; not weights of {title} as they are published")
    best = max(sets, key=lambda one: one.rank)
    others = [one for one in sets if not one.same_as(best)]
    if doubtful := [one for one in others if one.rank == best.rank]:
        raise DDNetError(
            f"{where}: {best.called} and {doubtful[0].called} both hold weights of {title}, and they differ; save "
            "those that are meant in a file of their own"
        )
    others = [one for one in others if 2 * len(one.names) > len(best.names)]
    return FoundState(best.prefix, _entries(best, known, ignored), _said(best, others))


def _mappings(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every dictionary of a file that holds tensors by name, and the way to it."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while waiting:
        where, value = waiting.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        named = {name: inner for name, inner in value.items() if isinstance(name, str)}
        if any(isinstance(inner, Tensor) for inner in named.values()):
            yield where, named
        if len(where) < DEEPEST:
            waiting += [((*where, name), inner) for name, inner in named.items() if not OF_TRAINING.search(name)]


def _sets(where: tuple[str, ...], mapping: Mapping[str, Any], known: Known) -> list[_Set]:
    names: dict[str, set[str]] = {}
    for name in mapping:
        if (found := _split(name, known)) is not None:
            names.setdefault(found[0], set()).add(found[1])
    return [_Set(where, prefix, mapping, frozenset(those)) for prefix, those in names.items()]


def _split(name: str, known: Known) -> tuple[str, str] | None:
    """A name's usual prefix and the rest, which is known; None where there is no such rest."""
    prefix, rest = "", name
    while not known(rest):
        first, dot, after = rest.partition(".")
        if not dot or not (first in BEFORE or _is_averaged(first)):
            return None
        prefix, rest = f"{prefix}{first}.", after
    return prefix, rest


def _is_averaged(part: str) -> bool:
    return not AVERAGED.isdisjoint(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower()))


def _equal(one: Any, other: Any) -> bool:
    tensors = isinstance(one, Tensor) and isinstance(other, Tensor)
    return tensors and one.dtype == other.dtype and one.layout == other.layout and torch.equal(one, other)


def _entries(found: _Set, known: Known, ignored: Known) -> dict[str, Any]:
    inside = {name: value for name, value in found.mapping.items() if name.startswith(found.prefix)}
    return {name: value for name, value in inside.items() if _counts(name[len(found.prefix) :], value, known, ignored)}


def _counts(name: str, value: Any, known: Known, ignored: Known) -> bool:
    """Whether an entry is the network's, or else one that the network would need a place for."""
    if known(name):
        return True
    first, _, rest = name.partition(".")
    outer, _, last = name.rpartition(".")
    return not (
        ignored(name)
        or not isinstance(value, Tensor)
        or last in COUNTERS
        or (value.ndim == 0 and not rest)  # the number of steps and the like
        or (rest and (_is_averaged(first) or OF_TRAINING.search(first) is not None))
        or (known(outer) and OF_TRAINING.search(last) is not None)
        or _split(name, known) is not None
    )


def _said(best: _Set, others: Sequence[_Set]) -> str:
    if not others:
        return ""
    left = ", ".join(f"{one.called}{' (incomplete)' if one.rank[0] < best.rank[0] else ''}" for one in others)
    average = ", averaged over training" if best.averaged else ""
    return f"the file holds more than one set of weights; taken: {best.called}{average}; left: {left}"


def _why_unknown(mappings: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]], known: Known) -> str:
    """Why no name is known: what stands before it, or what the first one is."""
    names = [name for _, mapping in mappings for name in mapping if isinstance(mapping[name], Tensor)]
    for name in names:
        parts = name.split(".")
        for place in range(1, len(parts)):
            if known(".".join(parts[place:])):
                before = ".".join(parts[:place])[:SHOWN]
                return f"its names begin with '{before}.', which is not known; save them without that"
    return f"no tensor has a name that is known, the first is '{names[0][:SHOWN]}'"
