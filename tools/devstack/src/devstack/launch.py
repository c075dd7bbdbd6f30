"""Become another program, tied to the life of the one who asked.

Run as a script by `devstack.child`, with the standard library only, so that it costs some ten milliseconds:

    python -I -S launch.py --parent PID --death-signal N [--account UID:GID [--capability N]] -- program arguments…

The kernel sends the death signal when the parent ends in any way, so a killed supervisor leaves no orphans (Linux;
elsewhere the next start finds what is left by its records). PostgreSQL refuses to run as root: root names another
account, and one capability to keep when that account could not reach the folder (a clone below /root).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def main() -> None:
    options, program = _parse(sys.argv[1:])
    if "account" in options:
        uid, gid = (int(part) for part in options["account"].split(":"))
        become(uid, gid, int(options["capability"]) if "capability" in options else None)
    if sys.platform == "linux":
        # After the change of account: the kernel forgets the setting when credentials change.
        _prctl(PR_SET_PDEATHSIG, int(options["death-signal"]))
        if os.getppid() != int(options["parent"]):
            sys.exit("launch: the parent ended before its child started.")
    # Python ignores these two, and ignored signals survive exec; a server expects the defaults.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(program[0], program)  # noqa: S606 (this is the one thing it is for)
    except OSError as error:
        sys.exit(f"launch: cannot run {program[0]}: {error.strerror}.")


def become(uid: int, gid: int, capability: int | None) -> None:
    """Change the account for good, keeping at most one capability, through exec too."""
    if capability is not None:
        # Keeps capabilities over the change of account, and makes access(2) respect them afterwards: initdb asks by it
        # whether it may run the server.
        _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        mask = 1 << capability
        header = _CapabilityHeader(CAPABILITY_VERSION_3, 0)
        sets = (_CapabilitySet * 2)(_CapabilitySet(mask, mask, mask), _CapabilitySet(0, 0, 0))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capset(ctypes.byref(header), sets) != 0:
            raise OSError(ctypes.get_errno(), "capset")
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    end = arguments.index("--")
    words = iter(arguments[:end])
    return {name.removeprefix("--"): next(words) for name in words}, arguments[end + 1 :]


def _prctl(option: int, *values: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*values, 0, 0, 0, 0][:4]
    if libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


if __name__ == "__main__":
    main()
