"""What a load generator does, each in a process of its own (see bench.children)."""
