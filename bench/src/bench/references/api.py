"""The least that a JSON API in Python does: FastAPI with a route that reads and one that writes, nothing behind."""

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI

from bench import children
from bench.children import Json, Tell


def make_app(page: Json, message: Json) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/conversations")
    async def conversations() -> dict[str, Any]:
        return page

    @app.post("/v1/conversations/{conversation_id}/messages")
    async def send(conversation_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return {**message, "conversationId": conversation_id, "text": body["text"]}

    return app


async def work(spec: Json, tell: Tell) -> Json:
    app = make_app(spec["page"], spec["message"])
    config = uvicorn.Config(app, port=spec["port"], http="httptools", access_log=False, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    tell({"ready": True})
    await serving
    return {}


if __name__ == "__main__":
    children.main(work)
