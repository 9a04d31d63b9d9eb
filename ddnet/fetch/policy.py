"""How patiently a source is asked, and what it means that one failed."""

from __future__ import annotations

from dataclasses import dataclass


class SourceFailed(Exception):
    """A source cannot give what is asked of it, said in few words; another one may still do."""


@dataclass(frozen=True)
class Policy:
    """Limits of one fetch; times in seconds.

    Args:
        attempts: of one file in a row that bring nothing new; any byte gained starts the count afresh. The waits
            between eight of them last two minutes, which most routers take to come back.
        first_attempts: the same for a host that has not answered yet, so that an offline machine learns so quickly.
        backoff_s: wait after the first failure, doubled with each further one.
        backoff_cap_s: longest such wait.
        retry_after_cap_s: longest wait that a server may ask for; a source that asks for more has failed.
        connect_s: until a connection stands.
        read_s: between two pieces of an answer.
        stall_s: over which the rate is judged.
        min_rate: bytes/s below which a connection counts as stalled and is made anew.
        connections: files at a time.
    """

    attempts: int = 8
    first_attempts: int = 2
    backoff_s: float = 1.0
    backoff_cap_s: float = 60.0
    retry_after_cap_s: float = 300.0
    connect_s: float = 10.0
    read_s: float = 30.0
    stall_s: float = 30.0
    min_rate: float = 10_000.0
    connections: int = 8
