"""One module per claim: `async def measure(options) -> list[Row]`."""
