#!/usr/bin/env -S python3 -I -S
"""Whether the process of this container works: GET of AEROSTIC_HEALTH (port and path, such as 9201/readyz) says 200.

A one-shot container sets none and is healthy. Standard library alone and no site-packages: it starts in 30 ms.
"""

import os
import socket
import sys

SECONDS = 4


def main() -> int:
    port, _, path = os.environ.get("AEROSTIC_HEALTH", "").partition("/")
    if not port:
        return 0
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=SECONDS) as connection:
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = connection.makefile("rb").read(4096)
    except OSError as error:
        print(error)
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body.decode("utf-8", "replace").strip())
    return 0 if head.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
