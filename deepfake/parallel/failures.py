"""Inputs that failed: a record for each, and failed.csv made of these."""

import os
from pathlib import Path

from common import files, paths
from common.errors import writing

FAILURES_DIR = ".failed"  # below the data root: one small file per failed video, so that shards never share one


def _failure_path(data_dir, stage, path):
    return Path(data_dir) / FAILURES_DIR / stage / f"{files.digest(os.fsencode(os.path.abspath(path)))}.json"


def note_failure(data_dir, stage, path, error):
    """Remember that `path` failed in `stage` (`00`, `01a`). `error`: an InputError, or words."""
    record = {"stage": stage, "path": os.path.abspath(path), "video": Path(path).name, "reason": str(error)}
    files.write_json(_failure_path(data_dir, stage, path), record | {"code": getattr(error, "code", None)})


def forget_failure(data_dir, stage, path):
    """Remove the failure of `path`, which works now."""
    with writing():
        _failure_path(data_dir, stage, path).unlink(missing_ok=True)


def _is_readable_folder(path):
    try:
        os.scandir(path).close()
    except OSError:
        return False
    return True


def failures(data_dir):
    """Return the failures of inputs that still exist, sorted by stage and path; older records have no `code`."""
    names = (Path(data_dir) / FAILURES_DIR).glob("*/*.json")
    records = [files.read_json(name, stage="", path="", video="", reason="") for name in names]
    kept = [record for record in records if os.path.lexists(record["path"])]
    # 00 also notes folders that it could not list. A folder never becomes a job, whose success would remove the failure.
    kept = [record for record in kept if record["stage"] != "00" or not _is_readable_folder(record["path"])]
    return sorted(kept, key=lambda record: (record["stage"], record["path"]))


def write_failed_table(data_dir):
    """Rebuild failed.csv (stage, video, reason) from the records.

    After writing they are listed again, as another shard may have added one meanwhile.
    """
    written = None
    while (rows := failures(data_dir)) != written:
        files.write_csv(Path(data_dir) / paths.FAILED_TABLE, ("stage", "video", "reason"), rows)
        written = rows


def codes_of_reasons(data_dir):
    """Return {reason: code} of the failures: other files hold the reason only."""
    return {record["reason"]: record["code"] for record in failures(data_dir) if record.get("code")}


def failed_inputs(data_dir, videos_dir, frames_dir, verdicts):
    """Return the failures {"stage", "filename", "reason"} of inputs in `videos_dir` (or of that file) without a verdict.

    `verdicts`: rows of video_preds.csv. Failures of other folders with the same data root are left out.
    """
    videos_dir, frames_dir = os.path.abspath(videos_dir), os.path.abspath(frames_dir)
    root = os.path.dirname(videos_dir) if os.path.isfile(videos_dir) else videos_dir
    judged = {os.path.join(root, row["filename"]) for row in verdicts if row["filename"]}
    judged |= {os.path.join(frames_dir, row["video_id"]) for row in verdicts}  # where 01a failed
    found = []
    for record in failures(data_dir):
        path, is_input = Path(record["path"]), record["stage"] == "00"  # else the path is a video's folder of frames
        if path.is_relative_to(videos_dir if is_input else frames_dir) and str(path) not in judged:
            made_from = files.read_json(path / paths.FRAMES_RECORD, made_from={})["made_from"]
            name = os.path.relpath(path, root) if is_input else made_from.get("filename") or path.name
            found.append({"stage": record["stage"], "filename": name, "reason": record["reason"]})
    return found
