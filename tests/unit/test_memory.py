"""Freed arrays stay with the process where that was asked for, and only there."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from ddnet.runtime.malloc import freed_memory_kept, keep_freed_memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

def use():
    np.ones((4, 64 << 20), np.uint8)  # 256 MiB, freed at once

before = held()
use()
returned = held()
with freed_memory_kept():
    use()
    inside = held()
after = held()
use()
again = held()
keep_freed_memory()
use()
print(*(now - before for now in (returned, inside, after, again, held())))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told")
def test_freed_memory_stays_where_it_was_asked_for() -> None:
    done = subprocess.run((sys.executable, "-c", PROGRAM), capture_output=True, text=True, check=True)
    returned, inside, after, again, kept = map(int, done.stdout.split())
    assert inside > 250 and kept > 250
    assert max(returned, after, again) < 20


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddnet.runtime import malloc as memory

    monkeypatch.setattr(memory, "_library", lambda: None)
    memory.keep_freed_memory()
    with memory.freed_memory_kept():
        pass
