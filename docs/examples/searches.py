"""Strategies that know nothing of scans: a name and what to look for."""

NAMES = [f"strategy-{number}" for number in range(1, 15)]
TIMEOUT = 60  # seconds for one of them


async def search(name: str, params: dict[str, object]) -> list[dict[str, object]]:
    return [{"symbol": symbol, "by": name} for symbol in params["symbols"]]
