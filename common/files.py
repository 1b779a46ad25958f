"""Files and folders that appear complete or not at all; JSON records, CSV tables and digests."""

import csv
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import InputError, writing

SURROGATES = "backslashreplace"  # how the bytes of names that are not UTF-8 are written


def temporary_name(path):
    """Return a hidden name beside `path`. The process id alone would not do: another node may have the same one."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


@contextmanager
def replacing(path):
    """Give a path to write to, which becomes `path` in one step at the end. Raises OutputError, InputError."""
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

    File names that are not UTF-8 hold surrogates. These are written as \\udcXX, which JSON reads back.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode(errors=SURROGATES) if isinstance(content, str) else content)


def check_writable(folder):
    """Raise OutputError or InputError if nothing can be written into `folder`: before hours of training, not after."""
    with writing():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def write_json(path, value):
    """Write `value` as indented JSON in one step."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_csv(path, columns, rows):
    """Write an iterable of dicts as a CSV table in one step; None becomes an empty field."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", errors=SURROGATES, newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path, types):
    """Return the rows of a CSV table as dicts, None for an empty field.

    `types`: {column: pandas type}, object for text. Other columns are text. Raises OSError, and ValueError if a column of `types`
    is missing or of another type.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], index_col=False, encoding="utf-8-sig")
    if missing := [column for column in types if column not in table]:
        raise ValueError(f"it has no column {missing[0]}")
    return as_rows(table.astype(types))


def as_rows(table):
    """Return the rows of a pandas DataFrame as dicts of plain Python values, None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def read_json(path, /, **defaults):
    """Return the JSON object in a file of ours, {} if it is missing or broken.

    `defaults` gives entries that are missing or not of the type that they have there.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        record = None
    record = record if isinstance(record, dict) else {}
    return record | {name: value for name, value in defaults.items() if type(record.get(name)) is not type(value)}


def read_needed(path, made_by):
    """Return the JSON object in `path`. Raises InputError that names the script to run if there is none."""
    if not (record := read_json(path)):
        raise InputError(f"{path.name} is not readable; run {made_by} again")
    return record


def is_our_folder(folder: Path, record_name: str) -> bool:
    """Tell whether these scripts made `folder`: its record says what it was made from, or is broken. Any other is the user's."""
    try:
        record = json.loads((folder / record_name).read_text(encoding="utf-8"))
        return isinstance(record, dict) and isinstance(record.get("made_from"), dict)
    except (ValueError, RecursionError):
        return True
    except OSError:  # not there, or not readable: then it must not be replaced
        return False


@contextmanager
def new_directory(path):
    """Give an empty temporary folder that becomes `path` when the block ends without an error.

    An older `path` stays until the new one is complete. What a killed run left beside it is put back or removed. Another process
    may do the same work, such as a node that was given up for lost: each has a temporary folder of its own, so that files never
    mix, and the one whose folder is removed fails. Raises OutputError, InputError.
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
        with suppress(OSError):  # another process still works in it
            attempts.rmdir()


def source_stamp(path):
    """Return what identifies a file's content without reading it: size in bytes, modification time in ns."""
    status = path.stat()
    return {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def digest(data):
    """Return the BLAKE2b digest of bytes or of a file's content, 32 hexadecimal digits."""
    if isinstance(data, Path):
        data = data.read_bytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_list(items):
    """Return the digest of a JSON list from an iterable of its items as JSON."""
    whole = hashlib.blake2b(b"[", digest_size=16)
    for number, item in enumerate(items):
        whole.update(f"{', ' if number else ''}{item}".encode())
    whole.update(b"]")
    return whole.hexdigest()
