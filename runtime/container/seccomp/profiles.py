"""Our own profiles: `default`, `strict`, and `privileged`, which has no filter.

`default` allows what a server under glibc or musl needs: less than Docker's profile, whose list it
exceeds by calls newer than that and by chroot, which fails anyway without its capability. `strict` is
for programs that need no more than files, memory, threads, timers and TCP or UDP. All other calls
answer EPERM; calls newer than those named here answer ENOSYS, so that a C library falls back to older
ones; foreign architectures (i386, x32) are fatal.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
import stat
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pybench.runtime.container.seccomp.policy import Clause, Policy, outcome
from pybench.runtime.container.specification.seccomp import Condition

FILES: Final = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync flock fstat fstatfs
    fsync ftruncate futimesat getcwd getdents getdents64 inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch lchown link linkat lseek lstat mkdir mkdirat newfstatat open openat openat2 pipe pipe2
    pread64 preadv pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat
    renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat sync_file_range syncfs tee truncate
    umask unlink unlinkat utime utimensat utimes write writev
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
    llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
MEMORY: Final = """
    brk madvise map_shadow_stack membarrier memfd_create mlock mlock2 mlockall mmap mprotect mremap mseal
    msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
"""
PROCESSES: Final = """
    arch_prctl capget execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid
    geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit
    getrusage gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setgid setpgid
    setpriority setrlimit setsid setuid sigaltstack signalfd signalfd4 sysinfo tgkill times tkill uname vfork
    wait4 waitid
"""
TIME: Final = """
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime
    timerfd_settime
"""
WAITING: Final = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex
    futex_requeue futex_wait futex_waitv futex_wake poll ppoll pselect6 select
"""
SOCKETS: Final = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg
    sendmsg sendto setsockopt shutdown
"""
RANDOMNESS: Final = "getrandom"
ALWAYS: Final = tuple(" ".join((FILES, MEMORY, PROCESSES, TIME, WAITING, SOCKETS, RANDOMNESS)).split())
"""Allowed by both profiles, whatever the arguments."""

NOT_WHEN_STRICT: Final = MappingProxyType(
    {
        "changes of identity; setuid and setgid remain, with which shells give up privileges": """
            capset setfsgid setfsuid setgroups setregid setresgid setresuid setreuid""",
        "another root directory": "chroot",
        "asynchronous I/O: little used, with a long record of faults": """
            io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit""",
        "System V and POSIX inter-process objects; sockets and shared mappings remain": """
            mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv
            msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget""",
        "sync writes back the file systems of the host and all its other containers": "sync",
    }
)
"""Why `strict` refuses what `default` allows."""

DENIED: Final = MappingProxyType(
    {
        "looks into or takes over other processes": """
            kcmp pidfd_getfd process_madvise process_mrelease process_vm_readv process_vm_writev ptrace""",
        "opens files around the path and its permissions": "name_to_handle_at open_by_handle_at",
        "enters, makes or changes namespaces": "setdomainname sethostname setns unshare",
        "changes or reveals mounts": """
            fsconfig fsmount fsopen fspick listmount mount mount_setattr move_mount open_tree open_tree_attr
            pivot_root statmount umount2""",
        "keys: their rings are not bound to namespaces in every kernel": "add_key keyctl request_key",
        "large attack surfaces": """
            bpf fanotify_init fanotify_mark io_uring_enter io_uring_register io_uring_setup memfd_secret
            modify_ldt perf_event_open remap_file_pages userfaultfd vmsplice""",
        "tells which pages of a file are cached, and so what neighbours read from a shared image": """
            cachestat mincore""",
        "placement of memory on the host's nodes": """
            get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node""",
        "the host's kernel, clock, devices and accounting": """
            _sysctl acct adjtimex clock_adjtime clock_settime delete_module finit_module init_module ioperm
            iopl kexec_file_load kexec_load lookup_dcookie lsm_get_self_attr lsm_list_modules
            lsm_set_self_attr nfsservctl quotactl quotactl_fd reboot settimeofday swapoff swapon syslog
            sysfs uselib ustat vhangup""",
    }
)
"""Why neither profile allows these. They answer EPERM whatever the version of libseccomp."""

CLONE_NAMESPACES: Final = 0x7E020000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; CLONE_NEWTIME is no flag of clone(2)."""
HARMLESS_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, either with UNAME26, and the question which one it is. All others weaken the
randomisation of addresses or emulate other systems."""
TIOCSTI: Final = 0x5412
"""Types into the terminal of whoever started the container (CVE-2017-5226)."""
TIOCLINUX: Final = 0x541C
"""Pastes into a virtual console (CVE-2023-1523)."""
RWF_NOWAIT: Final = 0x8
"""Answers at once whether the page is cached."""
NETLINK_ROUTE: Final = 0
SOCKET_TYPE_BITS: Final = 0xF
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_STRICT_PROTOCOLS: Final = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)


_ALLOW: Final = outcome("SCMP_ACT_ALLOW")


def _error(number: int) -> int:
    return outcome("SCMP_ACT_ERRNO", number)


def _equals(index: int, value: int) -> Condition:
    """The low 32 bits of an argument are `value`.

    The kernel takes these arguments as 32-bit numbers and ignores the upper half of the register, so a
    comparison of all 64 bits can be evaded by setting one of those (CVE-2019-7303).
    """
    return Condition(index=index, op="SCMP_CMP_MASKED_EQ", value=0xFFFFFFFF, value_two=value)


def _masked(index: int, mask: int, value: int) -> Condition:
    return Condition(index=index, op="SCMP_CMP_MASKED_EQ", value=mask, value_two=value)


def _one_of(index: int, values: tuple[int, ...]) -> tuple[Clause, ...]:
    return tuple(Clause(_ALLOW, (_equals(index, value),)) for value in values)


# The type 0 is a regular file too.
_FILE_TYPES: Final = (0, stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)

_COMMON: Final[Mapping[str, tuple[Clause, ...]]] = MappingProxyType(
    {
        "clone": (Clause(_ALLOW, (_masked(0, CLONE_NAMESPACES, 0),)),),
        # A filter cannot look behind its pointer; C libraries fall back to clone.
        "clone3": (Clause(_error(errno.ENOSYS)),),
        "ioctl": (
            Clause(_error(errno.EPERM), (_equals(1, TIOCSTI),)),
            Clause(_error(errno.EPERM), (_equals(1, TIOCLINUX),)),
            Clause(_ALLOW),
        ),
        # The kernel gives the same answer for a file system that does not know the flag.
        "preadv2": (Clause(_error(errno.EOPNOTSUPP), (_masked(5, RWF_NOWAIT, RWF_NOWAIT),)), Clause(_ALLOW)),
        "socketpair": (*_one_of(0, (socket.AF_UNIX,)), Clause(_error(errno.EAFNOSUPPORT))),
    }
)
_DEFAULT_ONLY: Final[Mapping[str, tuple[Clause, ...]]] = MappingProxyType(
    {
        "personality": _one_of(0, HARMLESS_PERSONALITIES),
        "mknod": tuple(Clause(_ALLOW, (_masked(1, stat.S_IFMT(0xFFFF), kind),)) for kind in _FILE_TYPES),
        "mknodat": tuple(Clause(_ALLOW, (_masked(2, stat.S_IFMT(0xFFFF), kind),)) for kind in _FILE_TYPES),
        "socket": (
            *_one_of(0, (socket.AF_UNIX, *_INTERNET)),
            Clause(_ALLOW, (_equals(0, socket.AF_NETLINK), _equals(2, NETLINK_ROUTE))),
            # By this error libaudit, and with it PAM and shadow, sees that there is no audit; EPERM is
            # fatal to it.
            Clause(_error(errno.EPROTONOSUPPORT), (_equals(0, socket.AF_NETLINK),)),
            Clause(_error(errno.EAFNOSUPPORT)),
        ),
    }
)
_STRICT_ONLY: Final[Mapping[str, tuple[Clause, ...]]] = MappingProxyType(
    {
        **{name: (Clause(_error(errno.EPERM)),) for name in ("mknod", "mknodat", "personality")},
        "socket": (
            *_one_of(0, (socket.AF_UNIX,)),
            *(
                # A type of socket, whatever SOCK_CLOEXEC and SOCK_NONBLOCK say.
                Clause(_ALLOW, (_equals(0, family), _masked(1, SOCKET_TYPE_BITS, kind), _equals(2, protocol)))
                for family in _INTERNET
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                for protocol in _STRICT_PROTOCOLS
            ),
            *(Clause(_error(errno.EPERM), (_equals(0, family),)) for family in _INTERNET),
            Clause(_error(errno.EAFNOSUPPORT)),
        ),
    }
)


def _named(texts: Iterator[str], clause: Clause) -> dict[str, tuple[Clause, ...]]:
    return {name: (clause,) for text in texts for name in text.split()}


def _policy(not_when_strict: Clause, own: Mapping[str, tuple[Clause, ...]]) -> Policy:
    refused = Clause(_error(errno.EPERM))
    return Policy(
        _error(errno.EPERM),
        {
            **_named(iter(ALWAYS), Clause(_ALLOW)),
            **_named(iter(NOT_WHEN_STRICT.values()), not_when_strict),
            **_named(iter(DENIED.values()), refused),
            **_COMMON,
            **own,
        },
    )


DEFAULT: Final = _policy(Clause(_ALLOW), _DEFAULT_ONLY)
STRICT: Final = _policy(Clause(_error(errno.EPERM)), _STRICT_ONLY)
PROFILES: Final[Mapping[str, Policy | None]] = MappingProxyType(
    {"default": DEFAULT, "strict": STRICT, "privileged": None}
)


def with_listener(policy: Policy, names: frozenset[str]) -> Policy:
    """The same policy with these calls answered by a listener, such as `sysinfo`, which no mask can hide."""
    return _replacing(policy, names, Clause(outcome("SCMP_ACT_NOTIFY")))


def refusing(policy: Policy, names: frozenset[str]) -> Policy:
    """The same policy with these calls answering EPERM."""
    return _replacing(policy, names, Clause(_error(errno.EPERM)))


def _replacing(policy: Policy, names: frozenset[str], clause: Clause) -> Policy:
    return dataclasses.replace(policy, calls={**policy.calls, **dict.fromkeys(sorted(names), (clause,))})
