"""What all processes of a service share: the store, the strategies, and HTTP codes of errors."""

import os

import oppscan

STORE = os.environ["STORE_URL"]  # redis://…, or sqlite:///… on a single host
KEPT = oppscan.TTLPolicy(lease=15)  # a dead worker shows after 15 seconds


async def momentum(context: oppscan.ScanContext) -> list[dict[str, object]]:
    return [{"symbol": symbol, "score": 0.9} for symbol in context.params["symbols"]]


def breakout(context: oppscan.ScanContext) -> list[dict[str, object]]:
    return [{"symbol": symbol, "score": 0.4} for symbol in context.params["symbols"]]


STRATEGIES = {"momentum": momentum, "breakout": breakout}

CODES = {
    oppscan.ScanNotFound: 404,
    oppscan.ScanExpired: 410,
    oppscan.ScanLost: 410,
    oppscan.InvalidInput: 422,
    oppscan.StorageUnavailable: 503,
}


def http_code(error: oppscan.OppscanError) -> int:
    return CODES.get(type(error), 409)  # not finished, failed, cancelled, too many
