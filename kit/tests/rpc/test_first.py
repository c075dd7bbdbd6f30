import uuid

import echo_pb2 as pb

async def test_smoke(rpc, stub, log_lines):
    t = uuid.uuid4()
    a = await rpc.user(tenant_id=t).call(stub.Send, pb.EchoRequest(short_text="x"))
    print(a, log_lines)
    assert [x.number async for x in rpc.user().stream(stub.Count, pb.EchoRequest(page_size=3))] == [0,1,2]
