"""Live progress bars over ``watch``, of either face, in terminals and notebooks.

.. code-block:: python

    async for status in tqdm_bar(registry.watch(scan_id)):
        pass

Each passes on what it is given, and shows it meanwhile. `tqdm_bar` needs tqdm (extra: ``tqdm``),
`rich_bar` needs rich (extra: ``cli``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, overload

from oppscan import ScanStatus

if TYPE_CHECKING:
    from rich.console import Console

Show = Callable[[ScanStatus], None]
Opened = AbstractContextManager[Show]


def caption(status: ScanStatus) -> str:
    """Give the words beside a bar: ``running, 5 found``."""
    state = f"{status.state} (stalled)" if status.stalled else str(status.state)
    return f"{state}, {status.progress.opportunities_found} found"


@overload
def tqdm_bar(statuses: AsyncIterable[ScanStatus]) -> AsyncGenerator[ScanStatus]: ...
@overload
def tqdm_bar(statuses: Iterable[ScanStatus]) -> Generator[ScanStatus]: ...
def tqdm_bar(
    statuses: Iterable[ScanStatus] | AsyncIterable[ScanStatus],
) -> Generator[ScanStatus] | AsyncGenerator[ScanStatus]:
    """Show statuses as a bar of tqdm: a widget in notebooks, text elsewhere."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    @contextmanager
    def opened() -> Generator[Show]:
        with tqdm(unit="strategy") as bar:

            def show(status: ScanStatus) -> None:
                bar.total = status.progress.total_strategies
                bar.n = status.progress.strategies_completed
                bar.set_description_str(caption(status), refresh=False)
                bar.refresh()

            yield show

    return _follow(statuses, opened())


@overload
def rich_bar(
    statuses: AsyncIterable[ScanStatus], *, console: Console | None = None
) -> AsyncGenerator[ScanStatus]: ...
@overload
def rich_bar(
    statuses: Iterable[ScanStatus], *, console: Console | None = None
) -> Generator[ScanStatus]: ...
def rich_bar(
    statuses: Iterable[ScanStatus] | AsyncIterable[ScanStatus], *, console: Console | None = None
) -> Generator[ScanStatus] | AsyncGenerator[ScanStatus]:
    """Show statuses as a bar of rich, on ``console`` or the terminal."""
    from rich.progress import Progress

    @contextmanager
    def opened() -> Generator[Show]:
        with Progress(console=console) as bars:
            bar = bars.add_task("pending", total=None)

            def show(status: ScanStatus) -> None:
                done, total = status.progress.strategies_completed, status.progress.total_strategies
                bars.update(bar, description=caption(status), completed=done, total=total)

            yield show

    return _follow(statuses, opened())


def _follow(
    statuses: Iterable[ScanStatus] | AsyncIterable[ScanStatus], opened: Opened
) -> Generator[ScanStatus] | AsyncGenerator[ScanStatus]:
    if isinstance(statuses, AsyncIterable):
        return _awaited(statuses, opened)
    return _walked(statuses, opened)


def _walked(statuses: Iterable[ScanStatus], opened: Opened) -> Generator[ScanStatus]:
    with opened as show:
        for status in statuses:
            show(status)
            yield status


async def _awaited(
    statuses: AsyncIterable[ScanStatus], opened: Opened
) -> AsyncGenerator[ScanStatus]:
    with opened as show:
        async for status in statuses:
            show(status)
            yield status
