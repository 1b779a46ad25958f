"""Make fakes from portraits, to train base weights on: photos with another person's face blended in, and synthetic clips.

Reads   portraits (photos, with `group` in metadata.json for each person), their frames and faces   (00, 01a); with --train-of
        also the split of them   (02_prepare_dataset.py --real-only)
Writes  <out>/a_photos/ and <out>/clips/: reals, their fakes, and metadata.json
Rerun   refuses a folder that is there; what it writes appears complete or not at all

Faces are exchanged and mixed only between two neighbours of the alphabet. All that is made of both is one group, which 02 never
divides. The clips are made as in tools/make_sample_videos.py, but of these people, and only as long as a few frames need.
"""

import sys
from bisect import bisect_right
from collections import defaultdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli, files, paths
from common.constants import REAL
from common.errors import InputError, OutputError
from common.messages import progress
from deepfake.augmentation import self_blending
from deepfake.dataset import table
from deepfake.dataset.videos import load_videos
from deepfake.parallel import pool
from tools import drawing

PHOTOS, CLIPS = "a_photos", "clips"  # sorted: where there are too many reals, 02 leaves out the last
CLIP_FRAMES = 44  # 1.8 s: enough for the 4 frames of each clip that are trained on
LEAST_EYES_PX = 24  # between the eyes of a portrait that clips are made of; on the canvas it is 60
HALF_CROP = 1.6  # half a side of a mask's square, in distances between the eyes or from eyes to mouth
COLOUR_MATCH = (0.7, 1.0)  # share of the difference in colour and contrast that is taken away before blending
OPACITIES = (0.75, 1.0, 1.0, 1.0)  # less would hardly show the other person
HEAD_AND_SHOULDERS = ((320, 250), (150, 170)), ((320, 560), (280, 215))  # ellipses (centre, radii) on the canvas, px


class Portrait(NamedTuple):
    """A photo in which one face was found."""

    picture: Path
    landmarks: np.ndarray  # (5, 2), px
    group: str

    @property
    def eyes_px(self):
        return float(np.hypot(*(self.landmarks[1] - self.landmarks[0])))

    def read(self):
        """Return the photo, uint8 BGR. Raises InputError."""
        photo = cv2.imread(str(self.picture))
        if photo is None:
            raise InputError(f"{self.picture} is missing or damaged: run 00_convert_video_to_image.py --force")
        return photo


class Pair(NamedTuple):
    """Two neighbours of the alphabet."""

    number: int
    portraits: list  # of both, and of the people up to the next pair
    actors: tuple  # the two portraits that clips are made of


def find_portraits(videos):
    """Return the Portraits among the Videos of `load_videos`. Raises InputError if one has no `group`, its person."""
    found = []
    for video in videos:
        if video.label == REAL and len(video.faces) == 1:
            if video.entry.group is None:
                raise InputError(f"{video.filename}: {paths.METADATA} gives no group, so who is on it is not known")
            landmarks = files.read_json(video.folder / "faces" / paths.FACES_RECORD)["faces"][0]["landmarks"]
            picture = video.folder / f"{video.video_id}-{video.faces[0].frame:03d}.png"
            found.append(Portrait(picture, np.array(landmarks, np.float64), video.group))
    return found


def videos_of_training(videos, split_dir):
    """Return the Videos that are in the training set of a split. Raises InputError."""
    _, parts = table.read_dataset(split_dir)
    training = {row["video_id"] for row in parts["train"]}
    return [video for video in videos if video.video_id in training]


def make_pairs(portraits):
    """Return the Pairs: neighbours among the groups with a portrait large enough for clips."""
    largest = {}
    for portrait in portraits:
        if portrait.eyes_px >= max(LEAST_EYES_PX, largest[portrait.group].eyes_px if portrait.group in largest else 0):
            largest[portrait.group] = portrait
    groups = sorted(largest)
    firsts = groups[:-1:2]
    members = defaultdict(list)
    for portrait in sorted(portraits, key=lambda portrait: (portrait.group, portrait.picture)):
        members[max(0, bisect_right(firsts, portrait.group) - 1)].append(portrait)
    return [Pair(n, members[n], tuple(largest[g] for g in groups[2 * n : 2 * n + 2])) for n in range(len(firsts))]


def exchange_face(target, source, rng):
    """Return the target's photo with the source's face blended in, in most of the target's colour: uint8 BGR."""
    photo, landmarks = target.read(), target.landmarks
    height, width = photo.shape[:2]
    face = self_blending.lay_over(source.read(), source.landmarks, landmarks, (width, height))
    half = HALF_CROP * max(target.eyes_px, np.hypot(*(landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0))))
    corner, side = landmarks.mean(axis=0) - half, int(2 * half)
    region = rng.choice(list(self_blending.REGIONS), p=list(self_blending.REGIONS.values()))
    mask = self_blending.deform(self_blending.region_mask(landmarks - corner, side, region), rng)
    mask = self_blending.soften(mask, rng)
    mask = cv2.warpAffine(mask, np.float32([(1, 0, corner[0]), (0, 1, corner[1])]), (width, height))
    below, above = (cv2.cvtColor(np.float32(picture) / 255, cv2.COLOR_BGR2Lab) for picture in (photo, face))
    inside, share = mask > 0.5, rng.uniform(*COLOUR_MATCH)
    if inside.any():  # else the face is outside the picture
        (tone, spread), (own_tone, own_spread) = ((lab[inside].mean(0), lab[inside].std(0)) for lab in (below, above))
        above = (above - own_tone) * (1 + share * (spread / (own_spread + 1e-3) - 1)) + own_tone
        above = np.float32(above + share * (tone - own_tone))
    opacity = (mask * np.float32(rng.choice(OPACITIES)))[..., None]
    face = np.clip(cv2.cvtColor(above, cv2.COLOR_Lab2BGR), 0, 1) * 255
    return drawing.to_uint8(photo + opacity * (face - photo))


def lay_on_canvas(portrait):
    """Return a portrait as `drawing.lay_on_canvas` does, cut out roughly with ellipses for head and body."""
    padded = cv2.copyMakeBorder(portrait.read(), *[drawing.MARGIN_PX] * 4, cv2.BORDER_REFLECT_101)
    to_portrait = drawing.warp_to_canvas(portrait.landmarks)
    bgr = cv2.remap(padded, to_portrait, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    head, shoulders = (drawing.soft_ellipse(*place, 12, 3) for place in HEAD_AND_SHOULDERS)
    return drawing.with_skin(np.float32(bgr) / 255, np.clip(head + shoulders, 0, 1))


def entries_of(real, fake, **facts):
    """Return the items of metadata.json for a real and its fake; `facts`: more of both."""
    return {real.name: {"label": "REAL", **facts}, fake.name: {"label": "FAKE", "original": real.name, **facts}}


def make_photos(out_dir, pair, group, seed):
    """Write each photo of a pair and its fake, both as PNG; return their items of metadata.json. Raises OutputError."""
    entries = {}
    for place, target in enumerate(pair.portraits):
        rng = np.random.default_rng([seed, pair.number, place])
        others = [portrait for portrait in pair.portraits if portrait.group != target.group]
        real, fake = (out_dir / f"{group}_{place}_{kind}.png" for kind in ("real", "fake"))
        altered = exchange_face(target, others[rng.integers(len(others))], rng)
        if not (cv2.imwrite(str(real), target.read()) and cv2.imwrite(str(fake), altered)):
            raise OutputError(f"{fake} could not be written: is the disk full?")
        entries |= entries_of(real, fake, group=group)
    return entries


def make_clips(out_dir, pair, group, seed, actors):
    """Write the clips of `actors` people mixed of a pair; return their items of metadata.json."""
    entries, portraits = {}, tuple(map(lay_on_canvas, pair.actors))
    for number in range(actors):
        facts, frames = drawing.actor_frames(seed, pair.number * actors + number, portraits)
        real, fake = (out_dir / f"{group}_{number}_{kind}.mp4" for kind in ("real", "fake"))
        drawing.write_clips([real, fake], (moment[:2] for moment in islice(frames, CLIP_FRAMES)), CLIP_FRAMES)
        entries |= entries_of(real, fake, group=group, drawn=True)
        if facts["altered_person"] != "":
            entries[fake.name]["altered_person"] = facts["altered_person"]
    return entries


def make_pair(out_dir, pair, seed, actors):
    """Write everything of one pair; return {folder: items of its metadata.json}."""
    group = f"p{pair.number:04d}"  # sorts as the pairs do; file names, and so 02's groups, begin with it
    return {
        PHOTOS: make_photos(out_dir / PHOTOS, pair, group, seed),
        CLIPS: make_clips(out_dir / CLIPS, pair, group, seed, actors),
    }


def make_all(out_dir, pairs, seed, actors):
    """Write all pairs, one per CPU at a time, and metadata.json; return the number of files."""
    entries = {PHOTOS: {}, CLIPS: {}}
    for name in entries:
        (out_dir / name).mkdir()
    tasks = [partial(make_pair, out_dir, pair, seed, actors) for pair in pairs]
    for found in progress(drawing.run_all(tasks, len(pool.usable_cpus())), len(tasks), "portraits", "pairs"):
        for name, items in found.items():
            entries[name] |= items
    for name, items in entries.items():
        files.write_json(out_dir / name / paths.METADATA, dict(sorted(items.items())))
    return sum(map(len, entries.values()))


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    drawn = "people drawn of each pair (default: %(default)s)"
    parser.add_argument("--actors", type=cli.positive, default=3, metavar="N", help=drawn)
    people = parser.add_mutually_exclusive_group(required=True)
    training = "a split_dataset/: take the people of its training set only, so that the others stay unseen"
    people.add_argument("--train-of", type=Path, metavar="DIR", help=training)
    people.add_argument("--everyone", action="store_true", help="take all: nobody stays unseen")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.out.exists():
        cli.stop(f"{args.out} is there already: choose a new folder")
    videos_dir, frames_dir = cli.require_videos_dir(args), cli.frames_dir_of(args)
    cli.require(frames_dir, "the faces of the portraits", "00_convert_video_to_image.py, then 01a_crop_faces_mtcnn.py,")
    videos, problems = load_videos(videos_dir, frames_dir, cli.data_root(args))
    if problems:
        cli.stop("{}: {}".format(*problems[0]))
    if args.train_of:
        videos = videos_of_training(videos, args.train_of)
    pairs = make_pairs(find_portraits(videos))
    if not pairs:
        cli.stop(f"fewer than two people with a photo of one face and {LEAST_EYES_PX} px between the eyes")
    with files.new_directory(args.out) as folder:
        number_of_files = make_all(folder, pairs, args.seed, args.actors)
    print(f"{number_of_files} photos and clips of {len(pairs)} pairs of people")
    return 0


if __name__ == "__main__":
    sys.exit(main())
