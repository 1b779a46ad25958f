"""Draw the five facial landmarks of every face as red points.

Reads   <frames>/<video_id>/faces/: faces.json and the crops beside it   (01a_crop_faces_mtcnn.py)
Writes  <frames>/<video_id>/marked_faces/, the same file names, and marked_faces.json
Rerun   skips videos whose marks are complete and of the same faces
"""

import sys

import cv2

from common import cli, files, paths
from deepfake.parallel import loop
from deepfake.preprocessing import crops, inputs

STAGE = "01b"
TIMEOUT_S = 120  # per video
RADIUS_PER_WIDTH = 40  # a point's radius is the crop's width over this
RED_BGR = (0, 0, 255)


def mark(face_bgr, landmarks):
    """Return a copy of the uint8 face (h, w, 3) with a red disc on each (x, y) of `landmarks`, in crop pixels."""
    radius = max(1, face_bgr.shape[1] // RADIUS_PER_WIDTH)
    marked = face_bgr.copy()
    for x, y in landmarks:
        cv2.circle(marked, (round(x), round(y)), radius, RED_BGR, thickness=-1)
    return marked


def origin(job):
    """Return what identifies the faces of a Job."""
    return {"faces_digest": files.digest(job.path / "faces" / paths.FACES_RECORD)}


def mark_faces(job):
    """Write the marked faces of one video; return the record. Raises InputError, OutputError."""
    faces_dir = job.path / "faces"
    faces_record = files.read_needed(faces_dir / paths.FACES_RECORD, "01a_crop_faces_mtcnn.py")
    images, unreadable = {}, []
    for face in faces_record["faces"]:
        face_bgr = crops.read_image(faces_dir / face["file"])
        if face_bgr is None:
            unreadable.append(face["file"])
        else:
            images[face["file"]] = crops.as_png(mark(face_bgr, crops.landmarks_in_crop(face)))
    record = {
        "made_from": job.made_from(),
        "digests": {name: files.digest(data) for name, data in images.items()},
        "unreadable": unreadable,
        "warnings": [f"{name} is not readable; run 01a_crop_faces_mtcnn.py --force" for name in unreadable],
        "counts": {"faces marked": len(images)},
    }
    return job.write(images, record)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_work_options(parser, TIMEOUT_S)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    frames_dir = cli.frames_dir_of(args)
    cli.require(frames_dir, "it would hold a folder of faces per video", "01a_crop_faces_mtcnn.py")
    folders = [x for x in inputs.list_frame_dirs(frames_dir) if (x / "faces" / paths.FACES_RECORD).is_file()]
    if not folders:
        cli.stop(f"no folder below {frames_dir} holds faces/{paths.FACES_RECORD}. Run 01a_crop_faces_mtcnn.py first.")
    folders = loop.share_of(folders, [1] * len(folders), args.shard)[: args.limit]
    settings = {"radius_per_width": RADIUS_PER_WIDTH}
    jobs = [loop.Job(folder, folder / "marked_faces", paths.MARKS_RECORD, origin, settings) for folder in folders]
    return loop.work_through(STAGE, mark_faces, jobs, args, cli.data_root(args))


if __name__ == "__main__":
    sys.exit(main())
