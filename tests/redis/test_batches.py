"""Reads that leave together: who gets which answer, and what a failure or a cancellation costs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from oppscan.backends.redis import batch
from oppscan.backends.redis.batch import Answer, Batcher
from oppscan.clock import elapsed

MINUTE = 60.0


class Wire:
    """Lists the requests of a batcher; each is answered, or fails, when a test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self.batcher = Batcher(self._fetch, lambda key: key[0])
        self._ends: list[asyncio.Future[None]] = []
        self._sent = asyncio.Event()

    async def _fetch(self, keys: Sequence[str], _: float) -> list[Answer]:
        number = len(self.sent)
        self.sent.append(tuple(keys))
        self._sent.set()
        self._ends.append(asyncio.get_running_loop().create_future())
        await self._ends[number]
        return [(key.encode(), number) for key in keys]

    def answer(self, number: int) -> None:
        self._ends[number].set_result(None)

    def fail(self, number: int, error: Exception) -> None:
        self._ends[number].set_exception(error)

    async def ask(self, *keys: str, seconds: float = MINUTE) -> list[asyncio.Task[Answer]]:
        """Begin to read each of the keys, one after the other."""
        deadline = elapsed() + seconds
        tasks = [asyncio.create_task(self.batcher.get(key, deadline)) for key in keys]
        await self.settle()
        return tasks

    async def until_sent(self, count: int) -> None:
        while len(self.sent) < count:
            self._sent.clear()
            await self._sent.wait()

    @staticmethod
    async def settle() -> None:
        """Let everything go as far as it can by itself."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def nobody_loses_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PATIENCE", MINUTE)


async def _outcomes(tasks: Sequence[asyncio.Task[Answer]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def _run(use: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(MINUTE):
            await use

    asyncio.run(bounded())


def test_reads_that_come_during_another_leave_together_when_it_ends() -> None:
    async def use() -> None:
        wire = Wire()
        tasks = await wire.ask("a1", "a2", "a3")
        assert wire.sent == [("a1",)]
        wire.answer(0)
        await wire.settle()
        assert wire.sent == [("a1",), ("a2", "a3")]
        wire.answer(1)
        assert await _outcomes(tasks) == [(b"a1", 0), (b"a2", 1), (b"a3", 1)]

    _run(use())


def test_g2_equal_reads_share_an_answer_but_none_that_is_older_than_the_question() -> None:
    async def use() -> None:
        wire = Wire()
        tasks = await wire.ask("a1", "a1", "a1")
        wire.answer(0)
        await wire.settle()
        assert wire.sent == [("a1",), ("a1",)]
        wire.answer(1)
        assert await _outcomes(tasks) == [(b"a1", 0), (b"a1", 1), (b"a1", 1)]

    _run(use())


def test_a_slow_read_holds_up_the_others_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PATIENCE", 0.0)

    async def use() -> None:
        wire = Wire()
        slow, quick = await wire.ask("a1", "a2")
        await wire.until_sent(2)
        wire.answer(1)
        assert await quick == (b"a2", 1)
        assert not slow.done()
        wire.answer(0)
        assert await slow == (b"a1", 0)

    _run(use())


def test_each_wait_is_as_long_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What left before its time leaves no alarm behind that would send the next reads too early."""

    async def use() -> None:
        wire = Wire()
        await wire.ask("a1")
        monkeypatch.setattr(batch, "PATIENCE", 0.0)
        early = asyncio.create_task(wire.batcher.get("a2", elapsed() + MINUTE))
        wire.answer(0)
        await asyncio.sleep(0)
        assert not early.done()
        monkeypatch.setattr(batch, "PATIENCE", MINUTE)
        (late,) = await wire.ask("a3")
        assert wire.sent == [("a1",), ("a2",)]
        wire.answer(1)
        await wire.settle()
        wire.answer(2)
        assert await _outcomes([early, late]) == [(b"a2", 1), (b"a3", 2)]

    _run(use())


def test_no_request_holds_more_keys_than_a_server_may_be_kept_busy_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "LARGEST", 2)

    async def use() -> None:
        wire = Wire()
        tasks = await wire.ask("a1", "a2", "a3", "a4")
        wire.answer(0)
        await wire.settle()
        assert wire.sent[1:] == [("a2", "a3"), ("a4",)]
        wire.answer(1)
        wire.answer(2)
        assert [answer for answer, _ in await _outcomes(tasks)] == [b"a1", b"a2", b"a3", b"a4"]

    _run(use())


def test_i6_a_request_that_fails_fails_its_own_readers_and_no_others() -> None:
    async def use() -> None:
        wire = Wire()
        tasks = await wire.ask("a1", "a2", "b1", "a2", "b2")
        wire.answer(0)
        await wire.settle()
        assert wire.sent[1:] == [("a2",), ("b1", "b2")]
        down = ConnectionError("node a is down")
        wire.fail(1, down)
        wire.answer(2)
        assert await _outcomes(tasks) == [(b"a1", 0), down, (b"b1", 2), down, (b"b2", 2)]
        (after,) = await wire.ask("a2")
        wire.answer(3)
        assert await after == (b"a2", 3)

    _run(use())


def test_i6_a_request_that_is_not_answered_ends_with_its_readers_time() -> None:
    async def use() -> None:
        wire = Wire()
        (first,) = await wire.ask("a1")
        late = await wire.ask("a2", "a3", seconds=0.0)
        wire.answer(0)
        assert [type(outcome) for outcome in await _outcomes(late)] == [TimeoutError] * 2
        assert await first == (b"a1", 0)

    _run(use())


def test_a_reader_that_is_cancelled_takes_nobody_with_it() -> None:
    async def use() -> None:
        wire = Wire()
        lone, one, two, three = await wire.ask("a1", "a2", "a2", "a3")
        lone.cancel()
        one.cancel()
        await wire.settle()
        assert wire.sent == [("a1",), ("a2", "a3")]
        three.cancel()
        await wire.settle()
        wire.answer(1)
        assert await two == (b"a2", 1)
        assert all(task.cancelled() for task in (lone, one, three))

    _run(use())


@pytest.mark.parametrize("turns", range(4))
def test_a_failure_is_no_news_to_readers_who_leave_meanwhile(
    caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """Whichever turn of the loop they leave in: a failure that nobody asks for would be logged."""

    async def use() -> None:
        wire = Wire()
        first, gone = await wire.ask("a1", "a2")
        wire.answer(0)
        await wire.settle()
        wire.fail(1, ConnectionError("down"))
        for _ in range(turns):
            await asyncio.sleep(0)
        gone.cancel()
        assert await first == (b"a1", 0)
        await _outcomes([gone])

    _run(use())
    gc.collect()
    assert caplog.records == []


def test_i6_closing_ends_what_is_under_way_as_an_outage() -> None:
    async def use() -> None:
        wire = Wire()
        first, *cut_off = await wire.ask("a1", "a2", "b1")
        wire.answer(0)
        await wire.settle()
        await wire.batcher.aclose()
        assert [type(outcome) for outcome in await _outcomes(cut_off)] == [ConnectionError] * 2
        assert await first == (b"a1", 0)

    _run(use())
