import asyncio, json, time
from kit.bus import Bus
from kit import streams
async def test_x(nats):
    bus = await Bus.connect(nats, name="t")
    await bus.ensure(streams.events())
    for i in range(30):
        await bus.publish(f"events.messaging.message.received.{'a' if i%3 else 'b'}", b'{"n":%d}'%i, headers={"ce-id":"x%20y"})
    inbox = bus.client.new_inbox()
    sub = await bus.client.subscribe(inbox)
    async def ask(q):
        await bus.client.publish("$JS.API.DIRECT.GET.EVENTS", json.dumps(q).encode(), reply=inbox)
        while True:
            m = await sub.next_msg(timeout=2)
            print(m.subject, m.headers, m.data)
            if m.headers.get("Status"): break
    await ask({"seq":5,"next_by_subj":"events.*.*.*.b","batch":3})
    await ask({"seq":25,"next_by_subj":"events.*.*.*.b","batch":3})
    await ask({"seq":31,"next_by_subj":"events.*.*.*.b","batch":3})
    await ask({"seq":1,"next_by_subj":"events.*.*.*.zz","batch":3})
    i = await bus.js.stream_info("EVENTS"); print(i.state)
    await bus.close()
