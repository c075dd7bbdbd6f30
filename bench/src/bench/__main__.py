"""`python -m bench [claim …] [--quick]`: measure claims, print a table, write results.json."""

import argparse
import asyncio
import importlib
import os
import sys
import time

from bench import results
from bench.options import Options

CLAIMS = (
    "intake",
    "worst-case",
    "committed",
    "browser",
    "rate-limit",
    "dispatch",
    "api",
    "fairness",
    "cost",
    "growth",
    "recovery",
)
LONG = ("soak",)
"""Those that run by themselves only: an hour each."""

_HELP = f"of {', '.join(CLAIMS)}; none: all of them; or {', '.join(LONG)}, which take an hour"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="claim", help=_HELP)
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds: a look, no figures for others")
    parser.add_argument("--minutes", type=int, default=60, metavar="N", help="how long soak lasts; 60 by default")
    given = parser.parse_args()
    if unknown := set(given.claims) - {*CLAIMS, *LONG}:
        parser.error(f"no claim is called {', '.join(sorted(unknown))}")
    options = Options(quick=given.quick, minutes=given.minutes)
    rows: list[results.Row] = []
    for claim in given.claims or CLAIMS:
        rows += measure(claim, options)
    print(f"\n{results.table(rows)}")
    return 0


def measure(claim: str, options: Options) -> list[results.Row]:
    before, began = os.getloadavg()[0], time.monotonic()
    print(f"{claim}: measuring (load average {before:.2f}) …", file=sys.stderr, flush=True)
    module = importlib.import_module(f"bench.claims.{claim.replace('-', '_')}")
    rows: list[results.Row] = asyncio.run(module.measure(options))
    results.write(claim, rows, quick=options.quick, load_before=before)
    print(f"{claim}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(results.table(rows), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
