"""The contract suite: what every store must do, written once, for both faces.

A store of one's own is tested by one class::

    from oppscan.testing.contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda clock, name: MyBackend(tmp_path / name, clock=clock)

``open_store(clock, name)`` opens one more view of the store called ``name`` ("first", and
"second" where a case needs another one). A store with a clock of its own ignores ``clock`` and
sets ``real_time = True`` and a small ``unit`` on the class; one that is no
`TransactionalBackend` overrides the fixture ``lose_key``.

Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("oppscan.testing.cases")

from oppscan.testing.cases.base import Cases  # noqa: E402 - after the registration above
from oppscan.testing.cases.suite import StoreContract  # noqa: E402

__all__ = ["Cases", "StoreContract"]
