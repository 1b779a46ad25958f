"""The videos of a folder, with their faces, labels and groups."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from common import files, paths
from common.errors import InputError
from common.messages import progress
from deepfake.dataset import metadata, splits
from deepfake.parallel import failures
from deepfake.preprocessing import crops, inputs, quality


@dataclass
class Video:
    """One video and what is known of it. `reason` says why there are no faces."""

    video_id: str
    filename: str
    folder: Path
    faces: list[crops.Face] = field(default_factory=list)
    reason: str | None = None
    entry: metadata.Entry | None = None
    named: bool = False  # a metadata.json has an item for its id, used or refused
    group: str | None = None
    frame_px: int | None = None  # longer side of the source
    video_frames: int | None = None  # how many frames 00 took

    @property
    def label(self):
        return self.entry.label if self.entry else None


def load_videos(videos_dir, frames_dir, data_dir, stage="reading", strict=False):
    """Gather every video that is an input or has a folder of frames, with its faces, label and group.

    Returns (videos sorted by video_id, problems of metadata.json as (path, reason)). `stage` names the progress bar. If `strict`,
    a metadata.json that cannot be used as a whole raises InputError.
    """
    videos_dir, frames_dir = Path(videos_dir), Path(frames_dir)
    (entries, problems, refused), sources, videos = ({}, [], set()), [], {}
    if videos_dir.exists():
        entries, problems, refused = metadata.read_metadata(videos_dir, strict)
        sources = inputs.list_sources(videos_dir, data_dir)[0]
    failed = {record["path"]: record["reason"] for record in failures.failures(data_dir)}
    for source in sources:
        folder = frames_dir / source.video_id
        reason = failed.get(os.path.abspath(source.path), f"{quality.NO_FRAMES}; run 00_convert_video_to_image.py")
        videos[source.video_id] = Video(source.video_id, source.filename, folder, reason=reason)
    folders = inputs.list_frame_dirs(frames_dir) if frames_dir.is_dir() else []
    if videos_dir.is_file():
        folders = [folder for folder in folders if folder.name in videos]
    ids = {*videos, *(folder.name for folder in folders)}
    groups = splits.find_groups(entries, ids)  # before the faces need memory
    for folder in progress(folders, len(folders), stage, "videos"):
        frames_record = files.read_json(folder / paths.FRAMES_RECORD)
        if not frames_record:  # broken
            continue
        video = videos.setdefault(folder.name, Video(folder.name, frames_record["made_from"]["filename"], folder))
        video.frame_px = max(frames_record.get("width", 0), frames_record.get("height", 0)) or None
        video.video_frames = len(frames_record.get("frames", ())) or None
        faces_record = files.read_json(folder / "faces" / paths.FACES_RECORD)
        if "faces" in faces_record:
            try:
                video.reason = faces_record["reason"]
                video.faces = [crops.read_face(face) for face in faces_record["faces"]]
            except (TypeError, KeyError, ValueError):
                video.reason = f"its {paths.FACES_RECORD} is damaged; run 01a_crop_faces_mtcnn.py --force"
        else:
            failure = failed.get(os.path.abspath(folder))
            video.reason = failure or f"{quality.NO_FACES}; run 01a_crop_faces_mtcnn.py"
    for video_id, video in videos.items():
        entry, video.group = entries.get(video_id), groups[video_id]
        video.named = entry is not None or video_id in refused
        if entry and inputs.normal_name(entry.filename) == inputs.normal_name(video.filename):  # x.mov is not x.mp4
            video.entry = entry
    if not videos_dir.is_file():
        found = {inputs.normal_name(video.filename) for video in videos.values()}
        missing = [entry for entry in entries.values() if inputs.normal_name(entry.filename) not in found]
        problems += [(entry.metadata, f'"{entry.filename}" is no video in {videos_dir}') for entry in missing]
    return [videos[video_id] for video_id in sorted(videos)], problems


def check_steps(videos, videos_dir, frames_dir, data_dir):
    """Raise InputError if 00 or 01a has not run on these videos. A step that failed on them has run."""
    folders = [Path(os.path.abspath(video.folder)) for video in videos]
    framed = [folder for folder in folders if (folder / paths.FRAMES_RECORD).is_file()]
    faced = [folder for folder in framed if (folder / "faces" / paths.FACES_RECORD).is_file()]
    failed = [(record["stage"], Path(record["path"])) for record in failures.failures(data_dir)]
    root = os.path.abspath(videos_dir)
    if not framed and not any(stage == "00" and path.is_relative_to(root) for stage, path in failed):
        raise InputError(f"{frames_dir} holds no frames of these videos. Run 00_convert_video_to_image.py first.")
    if framed and not faced and not any(stage == "01a" and path in framed for stage, path in failed):
        raise InputError(f"{frames_dir} holds no faces of these videos. Run 01a_crop_faces_mtcnn.py first.")
