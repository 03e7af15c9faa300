"""Positive control: each of these stores has one planted bug, and a case of the suite sees it."""

# ruff: noqa: ANN401 - a bug may change any request and any reply

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from oppscan import MemoryBackend, OppscanError
from oppscan.backends.base import StorageBackend, TransactionalBackend
from oppscan.ops import (
    Applied,
    Apply,
    Enter,
    Erase,
    Free,
    HeadIs,
    Point,
    Refused,
    Resolve,
    Resolved,
    Room,
    Save,
    Selected,
    SelectOwned,
)
from oppscan.testing import ManualClock, lose
from oppscan.testing.contract import StoreContract
from oppscan.testing.loss import Kind
from oppscan.testing.world import FACES, Face, World

Change = Callable[[Any], Any]


def _same(thing: Any) -> Any:
    return thing


class BuggyBackend(MemoryBackend):
    """A memory store that changes each request before it runs, and each reply after."""

    def __init__(self, clock: ManualClock, request: Change = _same, reply: Change = _same) -> None:
        super().__init__(clock)
        self._bug = request
        self._slip = reply

    def execute_blocking(self, request: Any, namespace: str, timeout: float) -> Any:
        return self._slip(super().execute_blocking(self._bug(request), namespace, timeout))


def without_guards(*kinds: type) -> Change:
    def bug(request: Any) -> Any:
        if not isinstance(request, Apply):
            return request
        return replace(request, guards=tuple(g for g in request.guards if not isinstance(g, kinds)))

    return bug


def guarded(how: Change) -> Change:
    """Change all guards on a head."""

    def bug(request: Any) -> Any:
        if not isinstance(request, Apply):
            return request
        made = tuple(how(g) if isinstance(g, HeadIs) else g for g in request.guards)
        return replace(request, guards=made)

    return bug


def changed(kind: type, how: Change) -> Change:
    """Change all changes of a kind; None drops them."""

    def bug(request: Any) -> Any:
        if not isinstance(request, Apply):
            return request
        made = (how(c) if isinstance(c, kind) else c for c in request.changes)
        return replace(request, changes=tuple(c for c in made if c is not None))

    return bug


def dies_first(change: Any) -> Any:
    return replace(change, keep=max(1, change.life // 2))


class Stale:
    """Answers a read as it was answered before."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def __call__(self, reply: Any) -> Any:
        if isinstance(reply, Resolved) and reply.sighting is not None:
            return self.seen.setdefault(reply.sighting.scan_id, reply)
        return reply


def late(reply: Any) -> Any:
    return replace(reply, now=reply.now - 1) if isinstance(reply, Resolved) else reply


def always_applied(reply: Any) -> Any:
    return Applied(reply.now) if isinstance(reply, Refused) else reply


def headless(reply: Any) -> Any:
    if isinstance(reply, Resolved) and reply.sighting is not None and not reply.sighting.head:
        return replace(reply, sighting=None)
    return reply


def beheaded(reply: Any) -> Any:
    """Read a log without its first frame, and say that this is all of it."""
    if not isinstance(reply, Resolved) or reply.sighting is None or reply.sighting.data is None:
        return reply
    frames = reply.sighting.data
    cut = frames._replace(items=frames.items[1:])
    return replace(reply, sighting=replace(reply.sighting, data=cut))


def shuffled_where_torn(reply: Any) -> Any:
    """Read a log in another order, where the scan is no longer in its owner's index."""
    seen = reply.sighting if isinstance(reply, Resolved) else None
    if seen is None or seen.entry or seen.data is None:
        return reply
    first, second, *rest = seen.data.items
    data = seen.data._replace(items=(second, first, *rest))
    return replace(reply, sighting=replace(seen, data=data))


def unordered(reply: Any) -> Any:
    if isinstance(reply, Selected):
        return replace(reply, sightings=reply.sightings[::-1])
    return reply


def unlimited_select(request: Any) -> Any:
    return replace(request, before="") if isinstance(request, SelectOwned) else request


def all_parts(request: Any) -> Any:
    return replace(request, parts=frozenset()) if isinstance(request, Resolve) else request


BUGS: dict[str, tuple[Callable[[ManualClock], BuggyBackend], str, dict[str, Any]]] = {
    "a forgotten fence": (
        lambda c: BuggyBackend(c, without_guards(HeadIs)),
        "test_g7_zombie_can_change_nothing",
        {},
    ),
    "a fence that only tells": (
        lambda c: BuggyBackend(c, reply=always_applied),
        "test_g7_zombie_cannot_extend_ttl",
        {},
    ),
    "no single flight": (
        lambda c: BuggyBackend(c, without_guards(Free)),
        "test_i9_racing_starts_have_one_winner",
        {},
    ),
    "claims are not exclusive": (
        lambda c: BuggyBackend(c, without_guards(HeadIs)),
        "test_cancel_races_with_the_holder_s_write",
        {},
    ),
    "no limit of live scans": (
        lambda c: BuggyBackend(c, without_guards(Room)),
        "test_too_many_live_scans",
        {},
    ),
    "torn logs are written on": (
        lambda c: BuggyBackend(c, guarded(lambda guard: replace(guard, torn=True))),
        "test_g4_a_torn_log_is_not_written_on",
        {"kind": "events"},
    ),
    "a lookup that dies first": (
        lambda c: BuggyBackend(c, changed(Point, dies_first)),
        "test_i3_each_lookup_outlives_the_result_by_itself",
        {"kind": "index"},
    ),
    "an index that dies first": (
        lambda c: BuggyBackend(c, changed(Enter, dies_first)),
        "test_history_keeps_expired_scans_as_tombstones",
        {},
    ),
    "a record without a tombstone": (
        lambda c: BuggyBackend(c, changed(Save, lambda s: replace(s, keep=1)), headless),
        "test_g5_expiry_and_margin_to_the_millisecond",
        {},
    ),
    "a clock that is one millisecond late": (
        lambda c: BuggyBackend(c, reply=late),
        "test_g7_the_lease_ends_exactly_when_it_ends",
        {},
    ),
    "stale reads": (
        lambda c: BuggyBackend(c, reply=Stale()),
        "test_g2_no_observer_sees_progress_go_back",
        {},
    ),
    "no index": (
        lambda c: BuggyBackend(c, changed(Enter, lambda _: None)),
        "test_history_is_newest_first_and_pages",
        {},
    ),
    "no list of what is due": (
        lambda c: BuggyBackend(c, changed(Save, lambda s: replace(s, due=None))),
        "test_i8_a_dead_worker_s_scan_reads_stalled_within_one_lease",
        {},
    ),
    "appends replace": (
        lambda c: BuggyBackend(c, changed(Save, lambda s: replace(s, fresh=True))),
        "test_g13_a_stalled_scan_is_resumed_without_loss",
        {},
    ),
    "appends come twice": (
        lambda c: BuggyBackend(c, changed(Save, lambda s: replace(s, data=s.data * 2))),
        "test_results_are_exactly_what_was_given",
        {},
    ),
    "lost heads are unknown": (
        lambda c: BuggyBackend(c, reply=headless),
        "test_g4_one_lost_key_never_gives_a_wrong_answer",
        {"stage": "running", "kind": "head"},
    ),
    "another order of what a loss left": (
        lambda c: BuggyBackend(c, reply=shuffled_where_torn),
        "test_g4_one_lost_key_never_gives_a_wrong_answer",
        {"stage": "complete", "kind": "entry"},
    ),
    "a silent part of the results": (
        lambda c: BuggyBackend(c, reply=beheaded),
        "test_results_are_exactly_what_was_given",
        {},
    ),
    "history in the wrong order": (
        lambda c: BuggyBackend(c, reply=unordered),
        "test_history_is_newest_first_and_pages",
        {},
    ),
    "pages that start over": (
        lambda c: BuggyBackend(c, unlimited_select),
        "test_history_is_newest_first_and_pages",
        {},
    ),
    "forgets nothing": (
        lambda c: BuggyBackend(c, changed(Erase, lambda _: None)),
        "test_forget_leaves_nothing",
        {},
    ),
    "reads nothing of a scan but its head": (
        lambda c: BuggyBackend(c, all_parts),
        "test_i2_the_record_is_there_before_any_worker_claims",
        {},
    ),
}


def _lose(backend: StorageBackend, namespace: str, kind: Kind, scan_id: str) -> None:
    assert isinstance(backend, TransactionalBackend)
    lose(backend, namespace, kind, scan_id)


async def _run(
    face: Face, make: Callable[[ManualClock], MemoryBackend], case: str, given: dict[str, Any]
) -> None:
    stores: dict[str, MemoryBackend] = {}

    def open_store(clock: ManualClock, name: str) -> MemoryBackend:
        return stores.setdefault(name, make(clock))

    world = World(face, open_store, lose_key=_lose)
    try:
        await getattr(StoreContract(), case)(world, **given)
    finally:
        await world.aclose()


@pytest.mark.asyncio
# A case that fails half way leaves calls behind that nobody awaits.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("bug", BUGS)
async def test_a_planted_bug_is_caught(bug: str, face: Face) -> None:
    make, case, given = BUGS[bug]
    caught = (AssertionError, OppscanError, pytest.fail.Exception)  # no slip of the case itself
    with pytest.raises(caught):
        await _run(face, make, case, given)


@pytest.mark.asyncio
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("bug", BUGS)
async def test_the_same_case_passes_without_the_bug(bug: str, face: Face) -> None:
    _, case, given = BUGS[bug]
    await _run(face, BuggyBackend, case, given)
