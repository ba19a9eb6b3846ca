"""What an export in C is called: a C identifier that means nothing to compilers, libraries and build systems."""

from __future__ import annotations

import re

from sen_exporters.base import ExportError

#: What the files, their header, and a CMake target cannot be called, in lower case.
RESERVED = frozenset(
    re.findall(
        r"\w+",
        """
        alignas alignof and asm auto bitand bitor bool break case catch char class compl const consteval constexpr
        continue default delete do double else enum explicit export extern false float for friend goto if inline int
        long main mutable namespace new not nullptr operator or private protected public register requires restrict
        return short signed sizeof static struct switch template this throw true try typedef typeid typename typeof
        union unsigned using virtual void volatile wchar_t while xor

        assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic
        stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype

        aio aliases alloca ar argp argz byteswap conio cpio crypt devctl direct dirent dlfcn elf endian envlock envz
        err error execinfo fastmath fcntl features float fmtmsg fnmatch fstab fts ftw gcov gconv getopt glob grp
        gshadow iconv ieee754 ieeefp ifaddrs intrin io langinfo lastlog libgen libintl link malloc mcheck memory
        mntent monetary mqueue ndbm netdb newlib nl_types nss obstack omp openacc paths picolibc poll printf process
        pthread pty pwd quadmath re_comp reent regdef regex regexp resolv sched search semaphore sgtty shadow spawn
        stab stdfix stdint_gcc stdio_ext strings stropts syscall sysexits syslimits syslog tar term termcap termio
        termios tic trace ttyent ucontext ulimit unctrl unistd unwind utime utmp utmpx vadefs values varargs wait
        windows wordexp arm_acle arm_cde arm_cmse arm_fp16 arm_mve arm_neon arm_sve riscv_vector immintrin x86intrin
        arduino zephyr

        all all_build clean codegen depend edit_cache help install install_local install_strip list_install_components
        package package_source preinstall rebuild_cache run_tests test uninstall zero_check continuous experimental
        nightly cmake project c dl g gcc m nosys pthread rt stdc util

        aux con nul prn com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9
        """,
    )
)


def identifier(stem: str) -> str:
    """The stem of a file as a C identifier: letters, digits, and `_` for all else.

    Raises:
        ExportError: nothing is left, or what is left has a meaning of its own.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")
    if re.match(r"[0-9]", name):
        name = f"net_{name}"
    hint = "give another with --name"
    if not name:
        raise ExportError(f"the name {stem!r} has no letters or digits that C takes", hint)
    if name.lower() in RESERVED or re.match(r"sen(_|$)", name.lower()):
        raise ExportError(
            f"the name {stem!r} becomes {name!r} in C, which has a meaning of its own there or in CMake", hint
        )
    return name
