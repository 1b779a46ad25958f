"""Find the faces in every frame with MTCNN and cut them out.

Reads   <frames>/<video_id>/ and its frames.json   (00_convert_video_to_image.py)
Writes  <frames>/<video_id>/faces/<video_id>-000-00.png (frame, person) and faces.json; failed.csv
Rerun   skips videos whose faces are complete and were found in the same frames with the same settings

A face is kept at confidence >= 0.95. Its box grows by 30 % on every side. People are numbered from left to right and keep
their number through the video; those seen in fewer than 3 frames come last.
"""

import sys

import cv2
import numpy as np

from common import cli, files, paths
from common.constants import LANDMARK_NAMES, MARGIN, MIN_CONFIDENCE, PERSON_MIN_FRAMES
from common.errors import InputError
from deepfake.parallel import loop
from deepfake.preprocessing import crops, inputs, mtcnn, quality

STAGE = "01a"
TIMEOUT_S = 600  # per video
DETECT_SIDE_PX = 640  # longer side of the copy that MTCNN sees: finds 98 % of the faces of 60 px and more
SETTINGS = {"detector": f"mtcnn, longer side {DETECT_SIDE_PX} px", "min_confidence": MIN_CONFIDENCE, "margin": MARGIN}
SAME_PERSON_COST = 1.5  # of `match_cost`; above it a face is somebody new
COLOUR_BINS = 4  # per channel, of the histogram that tells people apart

detector = None  # one per worker process, built by `set_up`


def grown_box(box_xywh, margin, width, height):
    """Return the integer (x, y, w, h) of a box grown by `margin` of its size on every side, clipped to the frame."""
    x, y, w, h = box_xywh
    left, top = max(0, round(x - margin * w)), max(0, round(y - margin * h))
    right, bottom = min(width, round(x + w + margin * w)), min(height, round(y + h + margin * h))
    return left, top, right - left, bottom - top


def match_cost(last, face):
    """Return how much a face differs from a person's last one: 0 for the same place, size and colours.

    Half the distance in face widths, plus the log of the size ratio, plus three times the difference of the colour histograms
    (0..1).
    """
    (x0, y0, w0, h0), (x1, y1, w1, h1) = last["box_xywh"], face["box_xywh"]
    size_0, size_1 = (w0 + h0) / 2, (w1 + h1) / 2
    distance = np.hypot(x1 + w1 / 2 - x0 - w0 / 2, y1 + h1 / 2 - y0 - h0 / 2) / ((size_0 + size_1) / 2)
    colour = 0.5 * np.abs(last["colours"] - face["colours"]).sum()
    return 0.5 * distance + abs(np.log(size_1 / size_0)) + 3 * colour


def number_people(faces_by_frame):
    """Return, for each frame's list of faces, the list of person numbers.

    A face has `box_xywh` and `colours`, a histogram that sums to 1. The faces of a frame are matched to the people seen before,
    so that the total cost is lowest (Hungarian method). People may be missing in some frames. Numbers go from left to right.
    """
    from scipy.optimize import linear_sum_assignment

    tracks = []  # each a list of (frame, position in the frame, face)
    for frame, faces in enumerate(faces_by_frame):
        assigned = {}
        if tracks and faces:
            costs = np.array([[match_cost(track[-1][2], face) for face in faces] for track in tracks])
            pairs = zip(*linear_sum_assignment(np.minimum(costs, SAME_PERSON_COST)), strict=True)
            assigned = {position: tracks[row] for row, position in pairs if costs[row, position] < SAME_PERSON_COST}
        for position, face in enumerate(faces):
            if position not in assigned:
                tracks.append([])
                assigned[position] = tracks[-1]
            assigned[position].append((frame, position, face))
    often = min(PERSON_MIN_FRAMES, max(map(len, tracks), default=0))

    def left_to_right(track):
        return len(track) < often, np.median([face["box_xywh"][0] + face["box_xywh"][2] / 2 for *_, face in track])

    numbers = [[0] * len(faces) for faces in faces_by_frame]
    for person, track in enumerate(sorted(tracks, key=left_to_right)):
        for frame, position, _ in track:
            numbers[frame][position] = person
    return numbers


def set_up(threads):
    """Build this worker's MTCNN on `threads` CPU threads."""
    global detector
    cv2.setNumThreads(threads)
    detector = mtcnn.build_detector(threads)


def shrunk_for_detection(frame_bgr):
    """Return (uint8 RGB copy with a longer side of at most DETECT_SIDE_PX, its scale)."""
    scale = min(1.0, DETECT_SIDE_PX / max(frame_bgr.shape[:2]))
    if scale < 1:
        frame_bgr = cv2.resize(frame_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(frame_bgr[..., ::-1]), scale


def detect(frame_bgr):
    """Return the faces of a uint8 BGR frame: box_xywh, landmarks (5 x 2), confidence, crop_xywh (frame pixels), crop, colours."""
    height, width = frame_bgr.shape[:2]
    small_rgb, scale = shrunk_for_detection(frame_bgr)
    faces = [as_face(row, scale, width, height) for row in mtcnn.find_faces(detector, small_rgb)]
    faces = [face for face in faces if face and face["confidence"] >= MIN_CONFIDENCE]
    for face in faces:
        x, y, w, h = face["crop_xywh"] = grown_box(face["box_xywh"], MARGIN, width, height)
        face["crop"] = frame_bgr[y : y + h, x : x + w]
        face["colours"] = colour_histogram(face["crop"])
    return faces


def as_face(row, scale, width, height):
    """Return one detector row as a face in pixels of the saved frame; None if nothing of it lies inside."""
    left, top, right, bottom = row[:4] / scale
    if min(right, width) - max(left, 0) < 1 or min(bottom, height) - max(top, 0) < 1:
        return None
    return {
        "box_xywh": [round(float(value), 2) for value in (left, top, right - left, bottom - top)],
        "landmarks": (row[5:15].reshape(2, 5).T / scale).round(2).tolist(),
        "confidence": round(float(row[4]), 6),
    }


def colour_histogram(crop_bgr):
    """Return the joint BGR histogram of a crop, flattened, sum 1."""
    bins = [COLOUR_BINS] * 3
    return cv2.calcHist([crop_bgr], [0, 1, 2], None, bins, [0, 256] * 3).ravel() / crop_bgr[..., 0].size


def origin(job):
    """Return what identifies the frames of a Job."""
    return {"frames_digest": files.digest(job.path / paths.FRAMES_RECORD)}


def job_of(folder):
    """Return the Job of finding the faces in one video's folder of frames."""
    return loop.Job(folder, folder / "faces", paths.FACES_RECORD, origin, SETTINGS)


def crop_faces(job):
    """Write the faces of one video and its faces.json; return that record. Raises InputError, OutputError."""
    frames_record = files.read_needed(job.path / paths.FRAMES_RECORD, "00_convert_video_to_image.py")
    video_id, made_from = frames_record["video_id"], job.made_from()
    frames = list(enumerate(frames_record["frames"]))
    pictures = {number: crops.read_image(job.path / frame["file"]) for number, frame in frames}
    unreadable = [frame["file"] for number, frame in frames if pictures[number] is None]
    frames = [(number, frame) for number, frame in frames if pictures[number] is not None]
    if not frames:
        raise InputError("none of its frames is readable; delete the folder and run 00_convert_video_to_image.py")
    found = [detect(pictures[number]) for number, _ in frames]
    rows, images = [], {}
    for (number, frame), faces, people in zip(frames, found, number_people(found), strict=True):
        for person, face in sorted(zip(people, faces, strict=True), key=lambda pair: pair[0]):
            name = f"{video_id}-{number:03d}-{person:02d}.png"
            images[name] = crops.as_png(face["crop"])
            row = {"file": name, "frame": number, "frame_s": frame["time_s"], "person": person}
            row |= {key: face[key] for key in ("confidence", "box_xywh", "crop_xywh", "landmarks")}
            row["face_px"] = round(max(face["box_xywh"][2:]) / frames_record["scale"], 1)
            rows.append(row | {"digest": files.digest(images[name])})
    record = {
        "video_id": video_id,
        "made_from": made_from,
        "frames_read": len(frames),
        "unreadable": unreadable,
        "warnings": [f"{name} is not readable; run 00_convert_video_to_image.py --force" for name in unreadable],
        "reason": None if rows else f"{quality.NO_FACE} in {len(frames)} frames",
        "landmark_names": LANDMARK_NAMES,
        "faces": rows,
        "counts": {"frames": len(frames), "faces": len(rows), "without a face": 0 if rows else 1},
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
    cli.require(frames_dir, "it would hold a folder of frames per video", "00_convert_video_to_image.py")
    folders = inputs.list_frame_dirs(frames_dir)
    if not folders:
        cli.stop(f"{frames_dir} holds no folder with a {paths.FRAMES_RECORD}. Run 00_convert_video_to_image.py first.")
    sizes = [(folder / paths.FRAMES_RECORD).stat().st_size for folder in folders]  # grows with the number of frames
    jobs = [job_of(folder) for folder in loop.share_of(folders, sizes, args.shard)[: args.limit]]
    return loop.work_through(STAGE, crop_faces, jobs, args, cli.data_root(args), set_up=set_up)


if __name__ == "__main__":
    sys.exit(main())
