"""FastAPI: ``uvicorn fastapi_app:app --workers 4``. Scans run in the web workers themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from service import KEPT, STORE, STRATEGIES, http_code

import oppscan


async def resume_stalled(runner: oppscan.StrategyRunner) -> None:
    """Take over what a worker left behind that died; every worker looks."""
    while True:
        with suppress(oppscan.StorageError):
            await runner.recover()
        await asyncio.sleep(KEPT.lease)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        oppscan.connect(STORE, ttl=KEPT) as app.state.registry,
        oppscan.StrategyRunner(app.state.registry, STRATEGIES) as app.state.runner,
    ):
        looking = asyncio.create_task(resume_stalled(app.state.runner))
        yield
        looking.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/users/{user}/scans", status_code=202)
async def start(user: str, params: dict[str, Any], request: Request) -> dict[str, Any]:
    ticket = await request.app.state.runner.start(user, params=params)
    return ticket.status.to_dict()


@app.get("/users/{user}/scans/{scan_id}")
async def status(user: str, scan_id: str, request: Request) -> dict[str, Any]:
    return (await request.app.state.registry.status(scan_id, owner=user)).to_dict()


@app.get("/users/{user}/scans/{scan_id}/results")
async def results(user: str, scan_id: str, request: Request) -> dict[str, Any]:
    return (await request.app.state.registry.results(scan_id, owner=user)).to_dict()


@app.exception_handler(oppscan.OppscanError)
async def refuse(_: Request, error: oppscan.OppscanError) -> Response:
    return JSONResponse({"detail": str(error)}, http_code(error))
