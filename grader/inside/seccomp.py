"""The system-call filter of the box, as a classic BPF program; for x86_64 and aarch64.

Compiled and loaded by the kernel process before student code. A deny list: what it names fails with EPERM, as on any locked-down
host; `clone3` fails with ENOSYS so that the C library falls back to `clone`, whose flags can be read. A signal that would end the
kernel is sent without effect, whoever in the box sends it; those of the box's outside do not pass the filter.
"""

from __future__ import annotations

import errno
import platform
import struct

__all__ = ["DENIED", "program"]

# name -> (x86_64, aarch64); None where the machine has no such call
DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "fanotify_init": (300, 262), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "syslog": (103, 116), "personality": (135, 92), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "vhangup": (153, 58), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None), "uselib": (134, None), "ustat": (136, None),
    "sysfs": (139, None), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
}  # fmt: skip
"""Calls that always fail with EPERM. System V's memory, queues and semaphores are counted by no size limit of ours."""

_MACHINES = {
    # audit architecture, clone, clone3, socket, socketpair, setsockopt, kill, tkill, tgkill, fcntl
    "x86_64": (0xC000003E, 56, 435, 41, 53, 54, 62, 200, 234, 72),
    "aarch64": (0xC00000B7, 220, 435, 198, 199, 208, 129, 130, 131, 25),
}
_LOAD, _EQUAL, _SET, _ATLEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NEW_NAMESPACES = 0x7E020000 | 0x80
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_SETLEASE = 1024
_BUFFERS = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF and what forces them."""

_PIDFD_SEND_SIGNAL = 424
"""A filter cannot see to whom it sends: it fails, and `kill` is used."""
_ENDING = (1, 3, 9, 15, 19, 20)
"""HUP, QUIT, KILL, TERM, STOP, TSTP: what a notebook restarts its kernel with. A crash (ABRT, SEGV) stays one."""

_Instruction = tuple[int, int, int, int]


def _fail(number: int) -> _Instruction:
    return (_RETURN, 0, 0, 0x00050000 | number)


def program(kernel: int, machine: str | None = None) -> bytes:
    """The filter's bytes (8 per instruction) for `machine`, by default this one; empty where no table exists.

    `kernel`: the process, by its id in the box, that no signal ends; also none to its group or to all processes.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        return b""
    column = 0 if machine == "x86_64" else 1
    arch, clone, clone3, socket, socketpair, setsockopt, kill, tkill, tgkill, fcntl = _MACHINES[machine]
    code: list[_Instruction] = [
        (_LOAD, 0, 0, 4),  # architecture: a 32-bit call on a 64-bit machine has other numbers
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # call number
    ]
    if machine == "x86_64":
        code += [(_ATLEAST, 0, 1, 0x40000000), _fail(errno.EPERM)]  # the x32 calls
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, 1, number), _fail(errno.EPERM)]
    for number in (clone3, _PIDFD_SEND_SIGNAL):
        code += [(_EQUAL, 0, 1, number), _fail(errno.ENOSYS)]
    code += [
        (_EQUAL, 0, 4, clone),
        (_LOAD, 0, 0, 16),
        (_SET, 0, 1, _NEW_NAMESPACES),
        _fail(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    # whoever opens a file of ours that a box sees would wait 45 s for its lease to be given back
    code += [
        (_EQUAL, 0, 4, fcntl),
        (_LOAD, 0, 0, 24),
        (_EQUAL, 0, 1, _SETLEASE),
        _fail(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    # a socket buffers what the system gives it, since that is memory of nobody: asking for more is taken without effect
    code += [
        (_EQUAL, 0, 5 + len(_BUFFERS), setsockopt),
        (_LOAD, 0, 0, 24),
        (_EQUAL, 0, 1 + len(_BUFFERS), 1),  # SOL_SOCKET
        (_LOAD, 0, 0, 32),
        *[(_EQUAL, len(_BUFFERS) - place, 0, name) for place, name in enumerate(_BUFFERS)],
        (_RETURN, 0, 0, _ALLOW),
        _fail(0),
    ]
    targets = [kernel, -kernel & 0xFFFFFFFF, 0, 0xFFFFFFFF]
    past = 5 + len(_ENDING) + len(targets)
    for call, place in ((kill, 24), (tkill, 24), (tgkill, 32)):  # where its signal stands, behind a number or two
        code += [
            (_EQUAL, 0, past, call),
            (_LOAD, 0, 0, place),
            *[(_EQUAL, len(_ENDING) - n, 0, signal) for n, signal in enumerate(_ENDING)],
            (_RETURN, 0, 0, _ALLOW),
            (_LOAD, 0, 0, 16),
            *[(_EQUAL, len(targets) - n, 0, target) for n, target in enumerate(targets)],
            (_RETURN, 0, 0, _ALLOW),
            _fail(0),
        ]
    code += [(_EQUAL, 1, 0, socket), (_EQUAL, 0, 9, socketpair)]
    # only these families; of netlink only ROUTE, which ZeroMQ needs to list interfaces (others reach the whole host: vsock)
    code += [
        (_LOAD, 0, 0, 16),
        (_EQUAL, 6, 0, _UNIX),
        (_EQUAL, 5, 0, _INET),
        (_EQUAL, 4, 0, _INET6),
        (_EQUAL, 0, 2, _NETLINK),
        (_LOAD, 0, 0, 32),
        (_EQUAL, 1, 0, 0),
        _fail(errno.EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code += [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
