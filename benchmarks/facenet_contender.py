"""Detect faces with facenet-pytorch's MTCNN, 11 frames at a time; for faces.py, in a virtual environment of its own."""

import json
import sys
import time

import numpy as np
from PIL import Image

MIN_CONFIDENCE, BATCH = 0.95, 11


def main(names):
    from facenet_pytorch import MTCNN

    started = time.perf_counter()
    detector = MTCNN(keep_all=True, device="cpu")

    def detect(part):
        pictures = [np.asarray(Image.open(name).convert("RGB")) for name in part]
        for boxes, confidences in zip(*detector.detect(pictures), strict=True):
            kept = [] if boxes is None else boxes[np.array(confidences) >= MIN_CONFIDENCE]
            yield [
                [float(left), float(top), float(right - left), float(bottom - top)] for left, top, right, bottom in kept
            ]

    list(detect(names[:BATCH]))
    ready = time.perf_counter()
    boxes = [found for start in range(0, len(names), BATCH) for found in detect(names[start : start + BATCH])]
    seconds = (time.perf_counter() - ready) / len(names)
    print(json.dumps({"seconds": seconds, "start_s": ready - started, "boxes": boxes}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
