"""What stops a script, or one input of it, in words."""

import errno
from contextlib import contextmanager

FATAL_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EEXIST,
}


class InputError(Exception):
    """One input cannot be used; the message says why. The others go on."""


class OutputError(Exception):
    """Nothing can work: the output is full or read-only, or the workers cannot start. Exit status 2."""


@contextmanager
def writing():
    """Turn a disk that takes nothing (full, read-only) into OutputError, any other failure to write into InputError."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        raise (OutputError if error.errno in FATAL_ERRNOS else InputError)(reason) from error
