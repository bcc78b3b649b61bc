"""How many files a process may hold open; a set of thousands of reads files needs more than usual."""

from __future__ import annotations

import resource

from metagene_train.errors import InputError

OTHERS = 512
"""What Python, torch and its workers have open besides."""


def allow(reads_files: int, each: int) -> None:
    """Raise this process's limit for so many reads files, each of which takes ``each`` descriptors.

    Child processes inherit it. Raises InputError where the system does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = reads_files * each + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{reads_files:,} reads files need {needed:,} open files, the limit is {hard:,} (ulimit -Hn); "
            "join some of them with cat"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
