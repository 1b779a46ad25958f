"""00: a bad input costs itself and nothing else; names that need care; outputs that cannot be written."""

import csv
import errno
import hashlib
import importlib
import os
import shutil
import socket
import struct
import sys
import threading
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image

from common import files
from tests.videos import mtimes, numbered_picture, run_script, tree, write_avi, write_numbered

step = importlib.import_module("00_convert_video_to_image")


def failed_rows(data_dir):
    """Return {file name: reason} of failed.csv."""
    with open(data_dir / "failed.csv", newline="", encoding="utf-8") as file:
        return {row["video"]: row["reason"] for row in csv.DictReader(file)}


def png_header(width, height):
    """Return a PNG that claims this size and holds 10 bytes of it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


def huge_jpeg_frames(path):
    """Write an AVI whose JPEG frames claim 20,000 x 20,000 pixels."""
    data = bytearray(write_avi(path, 15, fourcc="MJPG").read_bytes())
    place = 0
    while (place := data.find(b"\xff\xc0\x00\x11\x08", place)) >= 0:
        data[place + 5 : place + 9] = struct.pack(">HH", 20000, 20000)
        place += 9
    path.write_bytes(data)


class Listener:
    """A local TCP port that counts who connects."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.connections = self.socket.getsockname()[1], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            self.connections += 1
            connection.close()


BAD = {  # name -> what the message says of it
    "empty.mp4": "is empty",
    "empty.jpg": "is empty",
    "text.mp4": "not a readable video",
    "noise.webm": "not a readable video",
    "playlist.mp4": "not a readable video",
    "playlist http.mov": "not a readable video",
    "playlist web.mkv": "not a readable video",
    "concat.mp4": "not a readable video",
    "concat web.avi": "not a readable video",
    "session.mp4": "not a readable video",
    "stream.mp4": "not a readable video",
    "moving picture.mov": "not a readable video",
    "cut before its index.mp4": "not a readable video",
    "text.jpg": "not a readable photo",
    "huge.png": "100000x100000",
    "large.png": "17000x17000",
    "huge frames.avi": "no readable frame",
    "cut.png": "cannot be read",
    "gone.mp4": "cannot be read",
    "IMG_9.HEIC": ".heic files are not supported",
    "mine.mp4": "a file or folder of your own",
    "a__b.mp4": "would share the id a__b",
    "b.mp4": "would share the id a__b",
    "twice.mp4": '"twice.mov" and "twice.mp4" would share the id twice',
    "twice.mov": '"twice.mov" and "twice.mp4" would share the id twice',
    f"{'n' * 251}.mp4": "File name too long",
    f"{'d' * 60}.mp4": "File name too long",
    "hangs.mp4": "took longer than 5 s (--timeout)",
    "dies.mp4": "process that read it died",
    "raises.mp4": "ZeroDivisionError: a bug in a library",
}
GOOD = ["good 1.mp4", "good 2.jpg"]
DRIVER = """
import importlib, os, sys, time
sys.path.insert(0, {repository!r})
step = importlib.import_module("00_convert_video_to_image")
read_video = step.read_video

def read_strangely(path, *arguments):
    if path.name == "hangs.mp4":
        time.sleep(3600)
    if path.name == "dies.mp4":
        os._exit(11)
    if path.name == "raises.mp4":
        raise ZeroDivisionError("a bug in a library")
    return read_video(path, *arguments)

step.read_video = read_strangely
if __name__ == "__main__":
    sys.exit(step.main())
"""


def make_bad_inputs(folder, port):
    for name in ("hangs.mp4", "dies.mp4", "raises.mp4", "mine.mp4", "a__b.mp4", "twice.mov"):
        write_numbered(folder / name, 12)
    write_numbered(folder / "good 1.mp4", 12)
    Image.fromarray(numbered_picture(0)).save(folder / "good 2.jpg")
    for name in ("twice.mp4", f"{'n' * 251}.mp4"):
        (folder / name).write_bytes((folder / "good 1.mp4").read_bytes())
    (folder / "a").mkdir()
    for name in ("a/half.mp4.part", "take 1", "notes.txt"):
        (folder / name).write_bytes(b"by its name no video")
    write_numbered(folder / "a" / "b.mp4", 12)
    deep = folder.joinpath(*["d" * 60] * 4)
    deep.mkdir(parents=True)
    write_numbered(deep / f"{'d' * 60}.mp4", 12)
    (folder / "mine").mkdir()
    (folder / "mine" / "diary.txt").write_text("do not touch")
    (folder / "mine" / "frames.json").write_text('{"fps": 30}')  # a record of somebody else's program
    for name in ("empty.mp4", "empty.jpg"):
        (folder / name).touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 100)
    (folder / "text.jpg").write_text("this is not a photo\n" * 100)
    (folder / "noise.webm").write_bytes(hashlib.shake_256(b"noise").digest(20_000))
    local, remote = folder / "good 1.mp4", f"http://127.0.0.1:{port}/x.mp4"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    (folder / "playlist.mp4").write_text(playlist.format(local))
    (folder / "playlist http.mov").write_text(playlist.format(remote))
    (folder / "playlist web.mkv").write_text(playlist.format(remote))
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile hangs.mp4\n")  # FFmpeg alone would open it
    (folder / "session.mp4").write_text(
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    )
    write_numbered(folder / "stream.mp4", 12, container="mpegts")
    Image.fromarray(numbered_picture(0)).save(folder / "moving picture.mov", format="GIF")
    (folder / "concat web.avi").write_text(f"ffconcat version 1.0\nfile '{remote}'\n")
    (folder / "cut before its index.mp4").write_bytes(local.read_bytes()[:-2000])
    (folder / "huge.png").write_bytes(png_header(100_000, 100_000))
    (folder / "large.png").write_bytes(png_header(17_000, 17_000))
    huge_jpeg_frames(folder / "huge frames.avi")
    Image.fromarray(numbered_picture(0)).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:3000])
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "IMG_9.HEIC").write_bytes(b"\0\0\0\x18ftypheic")


def digests(folder):
    """Return what must not change about the inputs: content, size and time."""
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns, path.read_bytes() if path.exists() else None)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory):
    """One run of 00 over all bad inputs and two good ones, its decoder hanging, dying and raising on three of them."""
    data_dir = tmp_path_factory.mktemp("bad")
    videos_dir, listener = data_dir / "train_sample_videos", Listener()
    videos_dir.mkdir()
    make_bad_inputs(videos_dir, listener.port)
    before = digests(videos_dir)
    driver = data_dir / "driver.py"
    driver.write_text(DRIVER.format(repository=str(Path(step.__file__).parent)))
    done = run_script(driver, "--data-dir", data_dir, "--workers", 2, "--timeout", 5, cwd=data_dir)
    return data_dir, videos_dir, done, before, listener


def test_bad_run_ends_with_1_and_a_summary(bad_run):
    _, _, done, _, _ = bad_run
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"00: {len(BAD) + len(GOOD)} videos, 12 frames, {len(BAD)} failed, ")


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_reported_by_name(bad_run, name):
    data_dir, videos_dir, _, _, _ = bad_run
    assert BAD[name] in failed_rows(data_dir)[name]
    assert not list((videos_dir / Path(name).stem).glob("*.png"))


def test_only_the_bad_inputs_are_listed(bad_run):
    assert set(failed_rows(bad_run[0])) == set(BAD)


def test_first_failures_are_printed_with_their_path(bad_run):
    _, videos_dir, done, _, _ = bad_run
    lines = [line for line in done.stderr.splitlines() if line.startswith("00: failed: ")]
    assert len(lines) == 21 and lines[-1] == f"00: failed: … and {len(BAD) - 20} more"
    assert f"00: failed: {videos_dir / 'concat.mp4'}: is not a readable video" in done.stderr


def test_what_is_no_video_by_its_name_is_named_once(bad_run):
    _, _, done, _, _ = bad_run
    (line,) = [line for line in done.stderr.splitlines() if "ignored" in line]
    assert line == "00: ignored, no videos or photos by their names: a/half.mp4.part, take 1"


def test_good_inputs_are_done_beside_the_bad(bad_run):
    _, videos_dir, _, _, _ = bad_run
    assert len(list((videos_dir / "good 1").glob("*.png"))) == 11
    assert (videos_dir / "good 2-jpg" / "good 2-jpg-000.png").is_file()


def test_nothing_was_fetched_and_no_input_changed(bad_run):
    _, videos_dir, _, before, listener = bad_run
    assert listener.connections == 0
    assert {path: value for path, value in digests(videos_dir).items() if path in before} == before
    assert tree(videos_dir / "mine") == {"diary.txt": b"do not touch", "frames.json": b'{"fps": 30}'}
    assert not [path for path in videos_dir.iterdir() if path.name.startswith(".")]


def test_listener_notices_connections():
    listener = Listener()
    socket.create_connection(("127.0.0.1", listener.port)).close()
    for _ in range(100):
        if listener.connections:
            break
        threading.Event().wait(0.02)
    assert listener.connections == 1


def test_mended_inputs_leave_the_list(bad_run):
    data_dir, videos_dir, _, _, _ = bad_run
    good = (videos_dir / "good 1.mp4").read_bytes()
    for path in sorted(videos_dir.rglob("*")):
        if path.suffix.lower() in (".heic", ".png", ".jpg") and path.name in BAD:
            path.unlink()
    for name in ("twice.mov", "a__b.mp4", f"{'n' * 251}.mp4", "gone.mp4"):
        (videos_dir / name).unlink()
    shutil.rmtree(videos_dir / ("d" * 60))
    (videos_dir / "mine").rename(videos_dir / "diary")
    for name in BAD:
        if (videos_dir / name).exists():
            (videos_dir / name).write_bytes(good)
    assert step.main(["--data-dir", str(data_dir), "--workers", "2"]) == 0
    assert failed_rows(data_dir) == {}
    assert len(list((videos_dir / "mine").glob("*.png"))) == 11


def run(data_dir, *arguments):
    return step.main(["--data-dir", str(data_dir), "--workers", "1", *map(str, arguments)])


@pytest.fixture
def videos_dir(tmp_path):
    folder = tmp_path / "train_sample_videos"
    folder.mkdir()
    return folder


def test_a_faststart_video_cut_short_is_used_with_a_warning(tmp_path, videos_dir, capfd):
    write_numbered(videos_dir / "x.mp4", 75, container_options={"movflags": "faststart"})
    data = (videos_dir / "x.mp4").read_bytes()
    (videos_dir / "x.mp4").write_bytes(data[: len(data) // 2])
    assert run(tmp_path) == 0
    message = capfd.readouterr().err
    assert f"00: warning: {videos_dir / 'x.mp4'}: is damaged or cut off" in message and ", 0 failed" in message
    assert len(list((videos_dir / "x").glob("*.png"))) == 11
    assert failed_rows(tmp_path) == {}


def test_the_result_of_an_input_that_became_unreadable_is_gone(tmp_path, videos_dir):
    write_numbered(videos_dir / "x.mp4", 12)
    assert run(tmp_path) == 0 and (videos_dir / "x").is_dir()
    (videos_dir / "x.mp4").write_bytes(b"broken")
    assert run(tmp_path) == 1
    assert not (videos_dir / "x").exists() and list(failed_rows(tmp_path)) == ["x.mp4"]
    (videos_dir / "x.mp4").unlink()
    write_numbered(videos_dir / "y.mp4", 12)
    assert run(tmp_path) == 0
    assert failed_rows(tmp_path) == {}, "a removed input is no failure any more"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_permission(tmp_path, videos_dir):
    write_numbered(videos_dir / "x.mp4", 12).chmod(0)
    write_numbered(videos_dir / "y.mp4", 12)
    assert run(tmp_path) == 1
    assert "Permission denied" in failed_rows(tmp_path)["x.mp4"] and (videos_dir / "y").is_dir()


NAMES = [
    "with space.mp4",
    'quote\'s "double".mp4',
    "dot.dot..mp4",
    "-rf.mp4",
    "--help.mp4",
    "#%&*?[x]$HOME;.mp4",
    "back\\slash.mp4",
    unicodedata.normalize("NFC", "Zoë é.mp4"),
    unicodedata.normalize("NFD", "Ångström.mp4"),
    "视频 🎬.mp4",
    "UPPER.MP4",
    "new\nline.mp4",
    "clip.mp4",
    "clip.1.mp4",
    "clip.partial.mp4",
    "IMG_1.MOV",
    "n" * 230 + ".mp4",
    "frames.json.mp4",
]


def test_names_that_need_care(tmp_path, videos_dir):
    first = write_numbered(videos_dir / NAMES[0], 12)
    for name in NAMES[1:]:
        (videos_dir / name).write_bytes(first.read_bytes())
    raw = os.fsencode(videos_dir) + b"/not utf-8 \xff.mp4"
    with open(raw, "wb") as file:
        file.write(first.read_bytes())
    Image.fromarray(numbered_picture(0)).save(videos_dir / "IMG_1.JPG")
    assert step.main(["--data-dir", str(tmp_path), "--workers", "2"]) == 0
    ids = [unicodedata.normalize("NFC", name.rsplit(".", 1)[0]) for name in NAMES]
    ids.append("not utf-8 \udcff")
    for video_id in ids:
        record = files.read_json(videos_dir / video_id / "frames.json")
        assert record["video_id"] == video_id
        for frame in record["frames"]:
            assert (videos_dir / video_id / frame["file"]).is_file()
    assert (videos_dir / "IMG_1-jpg" / "IMG_1-jpg-000.png").is_file()
    before = mtimes(videos_dir)
    assert step.main(["--data-dir", str(tmp_path), "--workers", "2"]) == 0
    assert mtimes(videos_dir) == before


def test_one_name_in_two_unicode_forms_is_one_id(tmp_path, videos_dir):
    for form in ("NFC", "NFD"):
        write_numbered(videos_dir / unicodedata.normalize(form, "é.mp4"), 12)
    assert run(tmp_path) == 1
    assert len(failed_rows(tmp_path)) == 2


def test_a_bad_name_that_is_not_utf8_is_reported(tmp_path, videos_dir, capfd):
    with open(os.fsencode(videos_dir) + b"/\xff.mp4", "wb") as file:
        file.write(b"not a video")
    assert run(tmp_path) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert "\\udcff.mp4" in failed_rows(tmp_path)


# could not run: one line, status 2, no traceback


def assert_refused(status, message, *words):
    assert status == 2
    assert "Traceback" not in message and all(word in message for word in words), message
    assert len([line for line in message.splitlines() if "error" in line]) == 1


def test_no_videos(tmp_path, videos_dir):
    done = run_script("00_convert_video_to_image.py", "--data-dir", tmp_path, cwd=tmp_path)
    assert_refused(done.returncode, done.stderr, str(videos_dir), "holds no videos")
    videos_dir.rmdir()
    done = run_script("00_convert_video_to_image.py", "--data-dir", tmp_path, cwd=tmp_path)
    assert_refused(done.returncode, done.stderr, str(videos_dir), "does not exist", "--videos-dir")


def test_bad_options_are_refused(tmp_path, capsys):
    for options in (
        ["--workers", "0"],
        ["--shard", "3/2"],
        ["--frames", "x"],
        ["--max-side", "-1"],
        ["--timeout", "0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path, *options)
        assert stopped.value.code == 2 and options[0] in capsys.readouterr().err


def test_output_below_a_regular_file(tmp_path, videos_dir, capfd):
    for name in ("x.mp4", "y.mp4"):
        write_numbered(videos_dir / name, 12)
    (tmp_path / "file").touch()
    assert_refused(run(tmp_path, "--frames-dir", tmp_path / "file" / "frames"), capfd.readouterr().err, "cannot write")
    status = run(tmp_path / "file", "--videos-dir", videos_dir, "--frames-dir", tmp_path / "frames")
    assert_refused(status, capfd.readouterr().err, "cannot write")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_directory_that_is_read_only(tmp_path, videos_dir, capfd):
    write_numbered(videos_dir / "x.mp4", 12)
    (tmp_path / "frames").mkdir(mode=0o500)
    assert_refused(run(tmp_path, "--frames-dir", tmp_path / "frames"), capfd.readouterr().err, "cannot write")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full_while_frames_are_written(tmp_path, videos_dir):
    """The second picture of every video meets a full disk, in the worker, as /dev/full reports it."""
    for name in ("x.mp4", "y.mp4"):
        write_numbered(videos_dir / name, 12)
    driver = tmp_path / "driver.py"
    driver.write_text(
        f"import importlib, sys, pathlib\nsys.path.insert(0, {str(Path(step.__file__).parent)!r})\n"
        "step = importlib.import_module('00_convert_video_to_image')\n"
        "write_bytes = pathlib.Path.write_bytes\n"
        "def full(path, data):\n"
        "    return write_bytes(pathlib.Path('/dev/full') if path.name.endswith('-001.png') else path, data)\n"
        "pathlib.Path.write_bytes = full\n"
        "if __name__ == '__main__':\n    sys.exit(step.main())\n"
    )
    done = run_script(driver, "--data-dir", tmp_path)
    assert_refused(done.returncode, done.stderr, "No space left on device")
    assert sorted(path.name for path in videos_dir.iterdir() if path.name[0] != ".") == ["x.mp4", "y.mp4"]
    done = run_script("00_convert_video_to_image.py", "--data-dir", tmp_path)
    assert done.returncode == 0
    assert sorted(path.name for path in videos_dir.iterdir()) == ["x", "x.mp4", "y", "y.mp4"]


def test_disk_full_when_the_failures_are_written(tmp_path, videos_dir, monkeypatch, capfd):
    (videos_dir / "x.mp4").touch()

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert_refused(run(tmp_path), capfd.readouterr().err, "No space left on device")


def test_folder_that_cannot_be_listed_is_reported(tmp_path, videos_dir, monkeypatch):
    write_numbered(videos_dir / "x.mp4", 12)
    (videos_dir / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run(tmp_path) == 1
    assert failed_rows(tmp_path) == {"closed": "the folder cannot be read: Permission denied"}


if sys.platform != "linux":
    del test_names_that_need_care  # other systems refuse some of these names themselves
