"""Draw the verdicts of a run as one picture: a row per video, its faces in time order with their scores.

Reads   <data root>/video_preds.csv, cnn_preds_values.json and the faces in <videos>   (04_mapreduce_video_preds.py)
Writes  the PNG given as --out
Rerun   draws it again
"""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, paths
from common.constants import CANNOT_JUDGE, CLASS_NAMES, FACE_KINDS, FRAMES_PER_VIDEO
from common.messages import say
from deepfake.evaluation import predictions, verdicts
from deepfake.preprocessing import crops
from deepfake.report import plots

ROW_HEIGHT_IN, WIDTH_IN, NAME_WIDTH = 0.95, 11.5, 4.2  # NAME_WIDTH in face widths
FACE_HEIGHT = 1.2  # a crop's usual height over its width


def read_rows(data_dir, predictions_path):
    """Return (rows of video_preds.csv, {video_id: its scored faces in time order})."""
    faces, (lines, broken) = {}, predictions.read_predictions(predictions_path)
    if broken:
        say(f"{predictions_path}: {broken} lines are no predictions")
    for line in lines:
        if line["score"] is not None and line["file"]:
            faces.setdefault(line["video_id"], []).append(line)
    return verdicts.read_table(data_dir / paths.VERDICTS_TABLE, verdicts.VERDICTS_COLUMNS), faces


def draw(videos, faces, frames_dir, face_kind):
    """Return a figure with one row per video: name, label, verdict, and its first faces, each above its P(fake)."""
    figure, axes = plots.new_figure(WIDTH_IN, 0.5 + ROW_HEIGHT_IN * len(videos))
    for row, video in enumerate(videos):
        top = row * (FACE_HEIGHT + 0.5)
        label = "unknown" if video["label"] is None else CLASS_NAMES[video["label"]].upper()
        colour = {"REAL": plots.BLUE, "FAKE": plots.ORANGE}.get(video["verdict"], "0.3")
        p_fake = "" if video["p_fake"] is None else f", P(fake) {video['p_fake']:.3f}"
        text = functools.partial(axes.text, fontsize=9, va="center")
        text(0, top + 0.35, video["filename"])
        text(0, top + 0.70, f"verdict {video['verdict']}{p_fake}", color=colour, weight="bold")
        text(0, top + 1.05, f"label {label}", color="0.3")
        if video["verdict"] == CANNOT_JUDGE:
            text(NAME_WIDTH, top + 0.6, video["reason"])
        for place, face in enumerate(faces.get(video["video_id"], [])[:FRAMES_PER_VIDEO]):
            face_bgr = crops.read_image(frames_dir / video["video_id"] / face_kind / face["file"])
            left = NAME_WIDTH + place * 1.05
            if face_bgr is not None:
                axes.imshow(face_bgr[..., ::-1], extent=(left, left + 1, top + FACE_HEIGHT, top))
            text(left + 0.5, top + FACE_HEIGHT + 0.17, f"{1 - face['score']:.3f}", fontsize=7, ha="center")
    axes.set(xlim=(0, NAME_WIDTH + 1.05 * FRAMES_PER_VIDEO), ylim=(len(videos) * (FACE_HEIGHT + 0.5), 0), aspect="auto")
    axes.set_title("Faces in time order; the number under each is its P(fake)", fontsize=10)
    axes.axis("off")
    return figure


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    cli.add_path(parser, "predictions")
    parser.add_argument("--out", required=True, metavar="PNG")
    parser.add_argument("--videos", type=cli.positive, default=5, metavar="N", help="the last N (default: %(default)s)")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="which crops (default: %(default)s)")
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    cli.require(cli.data_root(args) / paths.VERDICTS_TABLE, "it would hold the verdicts", "04_mapreduce_video_preds.py")
    videos, faces = read_rows(cli.data_root(args), cli.locate(args, "predictions"))
    plots.save_figure(draw(videos[-args.videos :], faces, cli.frames_dir_of(args), args.faces), Path(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
