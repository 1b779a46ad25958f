"""What stops a script, or one input of it, in words."""

import errno
from contextlib import contextmanager

NO_ROOM, NOT_ALLOWED = {errno.ENOSPC, errno.EDQUOT}, {errno.EROFS, errno.EACCES, errno.EPERM}
IN_THE_WAY = {errno.EIO, errno.ENOTDIR, errno.EEXIST}


class InputError(Exception):
    """One input cannot be used; the message says why. The others go on.

    `code` names the kind of reason where the report has plain words for it (deepfake/report/words.py).
    """

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class OutputError(Exception):
    """Nothing can work: the output is full or read-only, or the workers cannot start. Exit status 2."""


@contextmanager
def writing():
    """Turn a disk that takes nothing (full, read-only) into OutputError, any other failure to write into InputError."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        raise (OutputError if error.errno in NO_ROOM | NOT_ALLOWED | IN_THE_WAY else InputError)(reason) from error
