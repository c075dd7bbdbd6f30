"""The live stream: what happens in a workspace, told to its open browsers as Server-Sent Events."""
