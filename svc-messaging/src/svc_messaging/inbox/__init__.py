"""The inbox: takes what customers wrote, and how far answers came, from the journal into the database.

    META stream -> worker (a partition's envelopes) -> parse (items) -> numbers (whose they are)
        -> reduce (one row per contact, message and status) -> store (one transaction) -> acknowledge

Storing is idempotent, so that any envelope may come again.
"""
