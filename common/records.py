"""Outputs that appear complete or not at all, and the records that say what they were made from."""

import csv
import errno
import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from common.paths import FAILED_TABLE, digest

FAILURES_DIR = ".failed"  # below the data root: one small file per failed video, so that shards never share one
SURROGATES = "backslashreplace"  # what becomes of the bytes of names that are not UTF-8
FATAL_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST
}  # fmt: skip


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


def temporary_name(path):
    """Return a hidden name beside `path` to write to before the rename; processes on other nodes may have this one's number."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def replacing(path):
    """Give a path to write to, which becomes `path` in one step once all is written. Raises OutputError, InputError."""
    temporary = temporary_name(path)
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomic(path, content):
    """Write text or bytes to `path` in one step. Raises OutputError, InputError.

    File names that are not UTF-8 reach us with surrogates in them; those become \\udcXX, which JSON reads back.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode(errors=SURROGATES) if isinstance(content, str) else content)


def check_writable(folder):
    """Raise OutputError or InputError if nothing can be written into `folder`: now, not after hours of training."""
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write_json(path, value):
    """Write `value` as indented JSON in one step."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_csv(path, columns, rows):
    """Write dicts, of which there may be too many for memory, as a CSV table in one step; None becomes an empty field."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors=SURROGATES, newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path):
    """Return the parsed JSON of `path`, or None where there is none or it is broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def is_our_record(record):
    """Tell whether parsed JSON is a record of these scripts: it says what the output was made from."""
    return isinstance(record, dict) and isinstance(record.get("made_from"), dict)


def is_our_folder(folder: Path, record_name: str) -> bool:
    """Tell whether these scripts made `folder`: its record is ours or is damaged. Any other JSON of that name is the user's."""
    try:
        return is_our_record(json.loads((folder / record_name).read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        return True
    except OSError:  # not there, or nobody can tell: what cannot be read is never replaced
        return False


@contextmanager
def new_directory(path):
    """Give an empty temporary folder that becomes `path` when the block ends without an error.

    What an earlier, killed run left beside it is put back or removed. An older `path` stays until the new one is complete.
    Another process may do the same work (a node that was given up for lost still runs): their files never get mixed, because
    each has a folder of its own, and who loses it fails.
    """
    attempts, replaced = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.replaced")
    temporary = attempts / secrets.token_hex(4)
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        if replaced.exists() and not path.exists():  # killed between the two renames below
            os.rename(replaced, path)
        for leftover in (attempts, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        with writing():
            yield temporary
            if path.exists():
                os.rename(path, replaced)
            os.rename(temporary, path)
            shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        if replaced.exists() and not path.exists():
            os.rename(replaced, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        with suppress(OSError):  # not empty: another process is at it
            attempts.rmdir()


def source_stamp(path):
    """Return what identifies an input file's content cheaply: its size in bytes and modification time in ns."""
    status = path.stat()
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _failure_path(data_dir, stage, path):
    return Path(data_dir) / FAILURES_DIR / stage / f"{digest(os.fsencode(os.path.abspath(path)))}.json"


def note_failure(data_dir, stage, path, reason):
    """Remember that `path` failed in `stage` (`00`, `01a`)."""
    record = {"stage": stage, "path": os.path.abspath(path), "video": Path(path).name, "reason": reason}
    write_json(_failure_path(data_dir, stage, path), record)


def forget_failure(data_dir, stage, path):
    """`path` works now: take its failure back."""
    with writing():
        _failure_path(data_dir, stage, path).unlink(missing_ok=True)


def _is_readable_folder(path):
    try:
        os.scandir(path).close()
    except OSError:
        return False
    return True


def failures(data_dir):
    """Return the failure records of inputs that still exist, sorted by stage and path."""
    records = [read_json(path) for path in sorted((Path(data_dir) / FAILURES_DIR).glob("*/*.json"))]
    kept = [record for record in records if record and os.path.lexists(record["path"])]
    # stage 00 notes a folder that it could not list; mended, it never becomes a job that would take the failure back
    kept = [record for record in kept if record["stage"] != "00" or not _is_readable_folder(record["path"])]
    return sorted(kept, key=lambda record: (record["stage"], record["path"]))


def write_failed_table(data_dir):
    """Rebuild failed.csv (stage, video, reason) from the per-video records.

    They are listed again after writing: another shard may have noted one, and written its table, in between.
    """
    written = None
    while (rows := failures(data_dir)) != written:
        write_csv(Path(data_dir) / FAILED_TABLE, ("stage", "video", "reason"), rows)
        written = rows
