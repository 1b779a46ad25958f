"""What stops a script, or one input of it, in words."""

import errno
from contextlib import contextmanager

NO_ROOM, NOT_ALLOWED = {errno.ENOSPC, errno.EDQUOT}, {errno.EROFS, errno.EACCES, errno.EPERM}
IN_THE_WAY = {errno.EIO, errno.ENOTDIR, errno.EEXIST}


class InputError(Exception):
    """One input cannot be used; the message says why. The others go on.

    `code` stands for the reason where the report has plain words for it (deepfake/report/words.py).
    """

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class OutputError(Exception):
    """Nothing can go on: the disk is full or read-only, or no worker can start. Exit status 2."""


@contextmanager
def writing():
    """Turn an OSError into OutputError if the disk takes nothing (full, read-only), else into InputError."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        raise (OutputError if error.errno in NO_ROOM | NOT_ALLOWED | IN_THE_WAY else InputError)(reason) from error
