"""Calls while the service behind them is started again."""

import asyncio

from gateway_rig import SECONDS

from kit import grpc_presence
from kit.testing.rpc import serve

DATA = b"of a picture" * 1000


async def test_calls_and_files_wait_for_a_service_that_is_started_again(start, port, monkeypatch):
    monkeypatch.setattr(grpc_presence, "_AWAITED_SECONDS", 60)
    async with start(targets={"messaging": f"127.0.0.1:{port}"}) as api:
        path = api.files.hold(DATA)
        assert (await api.get(path)).code == "UNAVAILABLE"
        picture = {"data": DATA, "headers": {"Content-Type": "image/png"}}
        calls = [api.get(path), api.call("POST", "/v1/media", **picture), api.get(path.removesuffix("/content"))]
        asking = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.3)
        assert not any(each.done() for each in asking)
        async with serve(api.files, authority=api.authority, port=port):
            answers = await asyncio.wait_for(asyncio.gather(*asking), SECONDS)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[0].body == DATA
