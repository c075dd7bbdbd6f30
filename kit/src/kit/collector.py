"""Python's garbage collector, told what our processes are like.

Work in batches makes objects by the ten thousand that all live until the batch is done, as imports do until the process
ends: with Python's defaults the collector would look at all of them again and again, and find nothing.
"""

import gc

_YOUNG_OBJECTS_MAX = 50_000

# With the first import of ours, as looking at what is imported is a tenth of a process's start.
gc.set_threshold(_YOUNG_OBJECTS_MAX, 20, 20)


def settle() -> None:
    """All is imported: what is there now stays, and is not looked at any more."""
    gc.collect()
    gc.freeze()
