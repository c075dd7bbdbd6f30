"""The RPCs of svc-messaging: thin servicers over the nouns, each with one visible transaction and without SQL.

    request -> servicer (who, which workspace) -> noun (SQL, rules) -> convert (rows to protos) -> answer

What svc-tenants knows of a workspace is asked before the transaction begins (`workspaces`).
"""
