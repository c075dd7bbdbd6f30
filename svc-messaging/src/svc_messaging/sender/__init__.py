"""The sender: takes queued messages to Meta, one owner per number, and records what became of each.

    SEND stream, table -> worker (a partition's commands) -> lanes (live before bulk, one message per contact)
        -> claims (queued -> sending) -> limiter -> graph (the POST)
        -> outcomes (what the answer means) -> recorder (one transaction per batch)

It is the only process that holds Meta's tokens, so it also moves media bytes to and from Meta.
"""
