"""A host moves from one Redis to another while scans run: the how-to of the documentation.

Three deploys: ``BEFORE`` reads the new server too, ``AFTER`` starts scans there, and when all that
lived in the old one is over, ``DONE`` knows it no longer. Workers of two neighbouring deploys run
side by side, and a scan of either is found, joined, claimed and finished by both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import oppscan.sync
from oppscan import OutcomeState, ScanNotFound, ScanState
from tests.redis.servers import Server, running

NAMES = ("alpha", "beta")
Open = Callable[[str], oppscan.sync.ScanRegistry]


@pytest.fixture
def servers(valkey: Server, redis_8: Server) -> tuple[Server, Server]:
    return redis_8, valkey


@pytest.fixture
def worker(servers: tuple[Server, Server]) -> Iterator[Open]:
    old, new = (server.url for server in servers)
    settings = {
        "ALONE": (old, []),
        "BEFORE": (old, [new]),
        "AFTER": (new, [old]),
        "DONE": (new, []),
    }
    with ExitStack() as stack:

        def opened(deploy: str) -> oppscan.sync.ScanRegistry:
            url, fallbacks = settings[deploy]
            return stack.enter_context(oppscan.sync.connect(url, fallbacks=fallbacks))

        yield opened


def test_a_running_scan_is_followed_and_finished_through_the_move(worker: Open) -> None:
    started = worker("ALONE").start("ann", NAMES)
    with worker("ALONE").claim(started.scan_id) as claim:
        claim.strategy_finished("alpha", [{"n": 1}])
        for deploy in ("BEFORE", "AFTER"):
            host = worker(deploy)
            status = host.status(started.scan_id, owner="ann")
            assert status.state is ScanState.RUNNING
            assert status.progress.strategies_completed == 1
            assert host.latest("ann").scan_id == started.scan_id
            again = host.start("ann", NAMES)
            assert (again.scan_id, again.joined, again.must_run) == (started.scan_id, True, False)
        claim.strategy_finished("beta", [])
    assert worker("AFTER").results(started.scan_id, owner="ann").opportunities == ({"n": 1},)
    finished = worker("DONE").status(started.scan_id, owner="ann")  # copied when it was read
    assert finished.state is ScanState.COMPLETE
    assert worker("DONE").results(started.scan_id).opportunities == ({"n": 1},)


def test_a_scan_whose_worker_died_is_resumed_from_the_new_deploy(worker: Open) -> None:
    scan_id = worker("BEFORE").start("ann", NAMES).scan_id
    with worker("BEFORE").claim(scan_id) as claim:
        claim.strategy_finished("alpha", [{"n": 1}])
        claim.release()
    with worker("AFTER").claim(scan_id) as claim:
        assert claim.remaining == ("beta",)
        claim.strategy_finished("beta", [{"n": 2}])
    outcomes = worker("BEFORE").status(scan_id).outcomes
    assert {outcome.state for outcome in outcomes} == {OutcomeState.FOUND}
    assert worker("AFTER").results(scan_id).opportunities == ({"n": 1}, {"n": 2})


def test_workers_of_both_deploys_see_the_scans_of_either(worker: Open) -> None:
    before, after = worker("BEFORE"), worker("AFTER")
    for starter, other in ((before, after), (after, before)):
        ticket = starter.start("ann", NAMES, key=repr(starter))
        assert other.status(ticket.scan_id).state is ScanState.PENDING
        assert other.start("ann", NAMES, key=repr(starter)).scan_id == ticket.scan_id
        with other.claim(ticket.scan_id) as claim:
            claim.complete()
        assert starter.status(ticket.scan_id).done


def test_without_the_first_deploy_new_scans_are_unknown_to_old_workers(worker: Open) -> None:
    """The control: why there are three deploys, not two."""
    ticket = worker("AFTER").start("ann", NAMES)
    assert worker("BEFORE").status(ticket.scan_id).state is ScanState.PENDING
    with pytest.raises(ScanNotFound):
        worker("ALONE").status(ticket.scan_id)


def test_the_old_server_may_be_switched_off_when_its_scans_are_over(redis_8: Server) -> None:
    with running(old := Server("valkey-9.1")):
        with oppscan.sync.connect(old.url) as registry:
            scan_id = registry.start("ann", NAMES).scan_id
            with registry.claim(scan_id) as claim:
                claim.complete()
        with oppscan.sync.connect(redis_8.url, fallbacks=[old.url], op_timeout=1) as host:
            assert host.status(scan_id).done
            old.kill()
            assert host.status(scan_id).done
            with pytest.raises(oppscan.StorageUnavailable):
                host.status("0" * 16 + "-" + "0" * 32)  # nobody can say that it never was
    with oppscan.sync.connect(redis_8.url) as host:
        assert host.results(scan_id, partial=True).status.done
