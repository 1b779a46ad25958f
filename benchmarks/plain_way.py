"""Take frames and faces the plain way, as a short script of one's own would: for pipeline.py.

Reads every frame, saves 11 at full size, builds the detector once and gives it one frame after the other.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

FRAMES, MIN_CONFIDENCE, MARGIN = 11, 0.95, 0.3


def main(videos_dir, out_dir):
    from mtcnn import MTCNN

    detector = MTCNN()
    for path in sorted(Path(videos_dir).glob("*.mp4")):
        folder = Path(out_dir) / path.stem
        (folder / "faces").mkdir(parents=True, exist_ok=True)
        video, frames, index = cv2.VideoCapture(str(path)), [], 0
        wanted = set(np.linspace(0, video.get(cv2.CAP_PROP_FRAME_COUNT) - 1, FRAMES).round().astype(int).tolist())
        while True:
            there, frame = video.read()
            if not there:
                break
            if index in wanted:
                frames.append(frame)
            index += 1
        if len(frames) != FRAMES:
            sys.exit(f"{path}: {len(frames)} frames")
        for number, frame in enumerate(frames):
            cv2.imwrite(str(folder / f"{path.stem}-{number:03d}.png"), frame)
            for person, face in enumerate(detector.detect_faces(frame[..., ::-1])):
                if face["confidence"] >= MIN_CONFIDENCE:
                    x, y, w, h = face["box"]
                    top, left = max(0, int(y - MARGIN * h)), max(0, int(x - MARGIN * w))
                    crop = frame[top : int(y + (1 + MARGIN) * h), left : int(x + (1 + MARGIN) * w)]
                    cv2.imwrite(str(folder / "faces" / f"{path.stem}-{number:03d}-{person:02d}.png"), crop)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
