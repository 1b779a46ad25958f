"""Write the metadata.json that 02 needs for a data set in its published folder layout: labels, originals, people.

Reads   the names of the videos (and photos) below DIR
Writes  DIR/metadata.json, names relative to DIR
Rerun   writes it again; a metadata.json that this script did not write, or that was changed since, needs --force

faceforensics  original_sequences/<source>/<c>/videos/, manipulated_sequences/<method>/<c>/videos/: the two numbers of a fake
               (target_source, of videos or of actors) are one group. Videos of masks get no label.
celeb-df       Celeb-real/, Celeb-synthesis/, YouTube-real/: the two people of a fake are one group. That makes nearly all of them
               one: let the published list decide the test part (02 --test-list DIR/List_of_testing_videos.txt)
folders        real/ and fake/: files with one name (without its suffix) in both are one group
"""

import re
import sys
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, files, paths
from common.messages import say
from deepfake.dataset import splits
from deepfake.preprocessing import inputs

RECORD = ".make_metadata.json"  # beside metadata.json: the digest of what was written
FACEFORENSICS = re.compile(
    r"(?P<kind>original|manipulated)_sequences/(?P<source>[^/]+)/(?P<compression>[^/]+)/videos/(?P<name>[^/]+)\.mp4",
    re.I,
)
# target, source (fakes), scene (actors): 000, 000_003, 01__exit_phone_room, 01_02__exit_phone_room__YVGY8LOK
FACEFORENSICS_NAME = re.compile(r"(?P<target>\d+)(_(?P<source>\d+))?(__(?P<scene>.+?)(__[0-9A-Z]+)?)?")
ACTORS = "actors"
CELEB_REAL = re.compile(r"(Celeb-real/(?P<target>id\d+)_\d+|YouTube-real/\d+)\.mp4", re.I)
CELEB_FAKE = re.compile(r"Celeb-synthesis/(?P<target>id\d+)_(?P<source>id\d+)_(?P<clip>\d+)\.mp4", re.I)


def faceforensics(filename):
    """Return (label, original, names of the people) of a path in FaceForensics++'s layout, or None for another file.

    Roessler et al., ICCV 2019; actors: Dufour & Gully, "Contributing Data to Deepfake Detection Research", 2019.
    """
    path = FACEFORENSICS.fullmatch(filename)
    name = FACEFORENSICS_NAME.fullmatch(path["name"]) if path else None
    if not name or path["compression"] == "masks":
        return None
    collection = ACTORS if name["scene"] else "youtube"
    people = [f"{collection} {number}" for number in (name["target"], name["source"]) if number]
    if path["kind"].lower() == "original":
        return "REAL", None, people
    scene = f"__{name['scene']}" if name["scene"] else ""
    original = f"original_sequences/{collection}/{path['compression']}/videos/{name['target']}{scene}.mp4"
    return "FAKE", original, people


def celeb_df(filename):
    """Return (label, original, names of the people) of a path in Celeb-DF's layout, or None. Li et al., CVPR 2020."""
    if fake := CELEB_FAKE.fullmatch(filename):
        return "FAKE", f"Celeb-real/{fake['target']}_{fake['clip']}.mp4", [fake["target"], fake["source"]]
    if real := CELEB_REAL.fullmatch(filename):
        return "REAL", None, [real["target"]] if real["target"] else []
    return None


def folders(filename):
    """Return (label, original, names) of a path in real/ or fake/, or None; the name of the file stands for its people."""
    folder, _, rest = filename.partition("/")
    label = folder.upper()
    return (label, None, [str(PurePosixPath(rest).with_suffix(""))]) if label in ("REAL", "FAKE") and rest else None


LAYOUTS = {
    "faceforensics": (faceforensics, "original_sequences/ and manipulated_sequences/"),
    "celeb-df": (celeb_df, "Celeb-real/, Celeb-synthesis/ and YouTube-real/"),
    "folders": (folders, "real/ and fake/"),
}


def make_metadata(filenames, read):
    """Return {filename: {"label", "original", "group"}} of those that `read`, a function of LAYOUTS, knows."""
    known = {name: found for name in filenames if (found := read(name))}
    group_of = splits.connected(people for _, _, people in known.values())
    return {
        name: {"label": label, "original": original, **({"group": group_of[people[0]]} if people else {})}
        for name, (label, original, people) in known.items()
    }


def is_ours(path):
    """Tell whether a metadata.json is as this script wrote it; if it cannot be read, it is not."""
    try:
        return files.read_json(path.with_name(RECORD)).get("digest") == files.digest(path)
    except OSError:
        return False


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument("directory", metavar="DIR", help="the folder that holds those of the layout")
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--force", action="store_true", help="replace a metadata.json that this script did not write")
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    directory, (read, expected) = Path(args.directory), LAYOUTS[args.layout]
    if not directory.is_dir():
        cli.stop(f"{directory} is not a folder")
    path = directory / paths.METADATA
    filenames = [source.filename for source in inputs.list_sources(directory)[0]]
    items = make_metadata(filenames, read)
    if not items:
        cli.stop(f"{directory} holds no video in the layout {args.layout}: expected are {expected}")
    if path.exists() and not args.force and not is_ours(path):
        cli.stop(f"{path} exists and is not as this script wrote it; --force replaces it")
    files.write_json(path, items)
    files.write_json(path.with_name(RECORD), {"layout": args.layout, "digest": files.digest(path)})
    labels, groups = zip(*((item["label"], item.get("group", name)) for name, item in items.items()), strict=True)
    others = sorted(set(filenames) - set(items))
    example = f", such as {others[0]}" if others else ""
    counts = f"{labels.count('REAL')} real, {labels.count('FAKE')} fake, {len(set(groups))} groups"
    say(f"make_metadata: {path}: {counts}; {len(others)} other files without a label{example}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
