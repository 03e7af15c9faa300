"""The real market, read once."""

import pytest

from oppscan.demo.market import Market, load


@pytest.fixture(scope="session")
def market() -> Market:
    return load()
