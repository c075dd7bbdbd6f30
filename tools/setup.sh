#!/bin/sh
# Find a Python that is new enough, and let it make the environment. PYTHON=… names one.
for python in ${PYTHON:-python3 python3.15 python3.14 python3.13 python3.12 python3.11}; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -ISc 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        exec "$python" -IS "$(dirname "$0")/setup.py"
    fi
done
found=$(${PYTHON:-python3} --version 2>&1 | tail -n 1)
echo "setup: Python 3.11 or later is needed, and this machine says: $found. Name one with make PYTHON=…" >&2
exit 1
