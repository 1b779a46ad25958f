"""00: which frames are taken, and that their pixels, orientation and record are right."""

import gc
import importlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from deepfake.preprocessing import crops, decoding
from deepfake.preprocessing.decoding import MAX_PIXELS, shown_frames
from tests import videos
from tests.videos import number_of, set_matrix, write_avi, write_numbered, write_streamed, write_video

step = importlib.import_module("00_convert_video_to_image")
FAST_VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
HIDDEN_VP9 = {  # with frames that are never shown, only referred to
    "codec": "libvpx-vp9",
    "options": {"deadline": "good", "cpu-used": "4", "lag-in-frames": "25", "auto-alt-ref": "1", "b": "200k"},
}


# choose_frames


@pytest.mark.parametrize("total", [12, 13, 21, 22, 30, 50, 299, 300, 301, 1000])
def test_chosen_frames_are_distinct_and_near_their_moments(total):
    chosen = step.choose_frames([index / 30 for index in range(total)])
    assert len(chosen) == len(set(chosen)) == 11
    assert chosen == sorted(chosen)
    ideal = np.linspace(0, total - 1, 11)
    assert np.abs(np.array(chosen) - ideal).max() <= 0.5 + 1e-6
    assert (chosen[0], chosen[-1]) == (0, total - 1)


@pytest.mark.parametrize("total", [0, 1, 5, 10, 11])
def test_short_videos_give_all_their_frames(total):
    assert step.choose_frames(np.arange(total) / 25) == list(range(total))


def test_other_counts():
    assert step.choose_frames(range(9), 1) == [4]
    assert step.choose_frames(range(9), 3) == [0, 4, 8]


def test_a_long_freeze_still_gives_distinct_frames_from_both_sides_of_it():
    times_s = [0.04 * index for index in range(7)] + [5.24 + 0.04 * index for index in range(23)]
    chosen = step.choose_frames(times_s)
    assert len(set(chosen)) == 11 and chosen == sorted(chosen)
    assert {0, 6, 7, 29} <= set(chosen)
    assert sum(index < 7 for index in chosen) >= 4
    assert all(isinstance(index, int) for index in chosen)


def test_chosen_by_time_not_by_number():
    slow, fast = [0.5 * index for index in range(20)], [9.5 + 0.01 * index for index in range(1, 60)]
    chosen = step.choose_frames(slow + fast)
    moments = np.linspace(0, fast[-1], 11)
    assert np.abs(np.array(slow + fast)[chosen] - moments).max() <= 0.25 + 1e-6


# plan_decoding

CLOSED = [(0, True), (3, False), (1, False), (2, False), (4, True), (7, False), (5, False), (6, False), (8, True)]
OPEN = [(0, True), (3, False), (1, False), (2, False), (6, True), (4, False), (5, False), (9, True), (7, False)]


def test_plan_decodes_from_the_keyframe_to_the_wanted_packet():
    assert decoding.plan_decoding(CLOSED, [1]) == [(0, 2)]
    assert decoding.plan_decoding(CLOSED, [0, 8]) == [(0, 0), (8, 8)]
    assert decoding.plan_decoding(CLOSED, [2, 5]) == [(0, 3), (4, 6)]
    assert decoding.plan_decoding(CLOSED, [5, 6]) == [(4, 7)]


def test_plan_starts_a_group_earlier_for_leading_frames():
    assert decoding.plan_decoding(OPEN, [4]) == [(0, 5)]
    assert decoding.plan_decoding(OPEN, [6]) == [(4, 4)]
    assert decoding.plan_decoding(OPEN, [7]) == [(4, 8)]
    assert decoding.plan_decoding(OPEN, [1, 4, 9]) == [(0, 7)] or decoding.plan_decoding(OPEN, [1, 4, 9]) == [
        (0, 5),
        (7, 7),
    ]


def test_plan_without_keyframes_starts_at_the_beginning():
    assert decoding.plan_decoding([(0, False), (1, False), (2, False)], [1]) == [(0, 1)]


# sizes


def test_saved_size_shrinks_and_never_enlarges():
    assert crops.saved_size(1920, 1080, 960) == (960, 540, 0.5)
    assert crops.saved_size(1080, 1920, 960) == (540, 960, 0.5)
    assert crops.saved_size(960, 540, 960) == (960, 540, 1.0)
    assert crops.saved_size(100, 50, 960) == (100, 50, 1.0)
    assert crops.saved_size(9600, 3, 960)[:2] == (960, 1)


def test_check_size():
    decoding.check_size(7680, 4320)
    for width, height in ((0, 10), (10, 0), (MAX_PIXELS, 2), (100_000, 100_000)):
        with pytest.raises(InputError, match=f"{width}x{height}"):
            decoding.check_size(width, height)


# pixels: what 00 writes is what a complete decode gives

VIDEOS = {
    "b_pyramid.mp4": lambda path: write_numbered(path, 60, options=videos.B_PYRAMID),
    "no_b_frames.mp4": lambda path: write_numbered(path, 60, options={"bf": "0"}),
    "short_groups.mov": lambda path: write_numbered(path, 60, options={"x264-params": "keyint=4:bframes=2:b-adapt=0"}),
    "intra_refresh.mkv": lambda path: write_numbered(path, 60, options={"x264-params": "intra-refresh=1:keyint=20"}),
    "open_group.mp4": lambda path: write_numbered(path, 90, options=videos.OPEN_GOP),
    "open_group.mkv": lambda path: write_numbered(path, 90, options=videos.OPEN_GOP),
    "large.m4v": lambda path: write_numbered(path, 24, size=(1280, 720), options=videos.B_PYRAMID),
    "vp9.webm": lambda path: write_numbered(path, 60, **FAST_VP9),
    "vp9_hidden_frames.webm": lambda path: write_numbered(path, 60, **HIDDEN_VP9),
    "hevc.mp4": lambda path: write_numbered(path, 60, codec="libx265"),
    "hevc_open_group.mkv": lambda path: write_numbered(
        path, 60, codec="libx265", options={"x265-params": "log-level=none:pools=1:keyint=12:open-gop=1:bframes=4"}
    ),
    "mpeg4.avi": write_avi,
    "mjpeg.avi": lambda path: write_avi(path, fourcc="MJPG"),
    "b_frames_without_times.avi": lambda path: write_numbered(path, 60, options=videos.B_PYRAMID),
    "streamed.mkv": lambda path: write_streamed(path, container="matroska"),
    "streamed.webm": lambda path: write_streamed(path, container="webm", **FAST_VP9),
    "one_frame.mp4": lambda path: write_numbered(path, 1),
    "seven_frames.mp4": lambda path: write_numbered(path, 7),
    "eleven_frames.mp4": lambda path: write_numbered(path, 11),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_equal_those_of_a_complete_decode(name, tmp_path):
    path = VIDEOS[name](tmp_path / name)
    pictures, times_s, shown, facts = step.read_video(path, 11, 960)
    everything = videos.decode_all(path)
    assert facts["frames_total"] == len(everything) and facts["warnings"] == []
    assert len(pictures) == len(times_s) == min(11, len(everything))
    numbers = [number_of(picture) for picture in pictures]
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)
    ideal = np.linspace(0, len(everything) - 1, len(pictures))
    assert np.abs(np.array(numbers) - ideal).max() <= 2
    assert np.allclose(times_s, np.array(numbers) / 25, atol=1e-3)
    width, height, _ = crops.saved_size(*shown, 960)
    for number, picture in zip(numbers, pictures, strict=True):
        frame = everything[number].reformat(width=width, height=height, format="bgr24", interpolation="AREA")
        assert np.array_equal(frame.to_ndarray(), picture), number


def test_frames_nobody_needs_are_not_decoded(tmp_path, monkeypatch):
    path = write_numbered(tmp_path / "x.mp4", 120, options={"x264-params": "keyint=10:bframes=3:b-adapt=0:scenecut=0"})
    decoded, decode = [], decoding.decode

    def counted(*arguments):
        frames = decode(*arguments)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(decoding, "decode", counted)
    packets, wanted_pts = plan_input(path)
    assert set(decoding.read_planned(path, packets, wanted_pts)) == set(wanted_pts)
    assert 11 <= len(decoded) < 60


def frames_alive():
    return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())


@pytest.mark.parametrize("read", [lambda path: step.read_video(path, 11, 960), lambda path: [*shown_frames(path)]])
def test_decoded_frames_do_not_pile_up(tmp_path, monkeypatch, read):
    """Those of the last video may still be there, not those of all before it."""
    path = tmp_path / "a.mp4"
    write_numbered(path, 50)
    gc.collect()
    gc.disable()  # it would come some time later: a frame of 1080p is 3 MB
    before = frames_alive()  # of other tests
    try:
        found = []
        for _ in range(4):
            read(path)
            found.append(frames_alive() - before)
    finally:
        gc.enable()
        gc.collect()
    assert max(found) <= 25 and found[-1] <= found[0] + 10


def plan_input(path):
    container, stream = decoding.open_video(path)
    with container:
        packets = [(packet.pts, packet.is_keyframe) for packet in decoding.demux(container, stream)]
    times = sorted(pts for pts, _ in packets)
    return packets, [times[index] for index in step.choose_frames(times)]


def test_red_is_red(tmp_path):
    red = np.zeros((120, 160, 3), np.uint8)
    red[..., 0] = 255
    path = write_video(tmp_path / "red.mp4", [red] * 3)
    blue, green, red = step.read_video(path, 11, 960)[0][1].mean((0, 1))
    assert red > 240 and green < 15 and blue < 15


# time


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate(tmp_path, suffix):
    pts = [0, 40, 80, 120, 160, 200, 240, *range(5240, 6140, 40)]
    path = write_numbered(tmp_path / f"x.{suffix}", len(pts), pts=pts)
    pictures, times_s, _, facts = step.read_video(path, 11, 960)
    numbers = [number_of(picture) for picture in pictures]
    assert len(set(numbers)) == 11
    assert np.allclose(times_s, np.array(pts)[numbers] / 1000, atol=2e-3)
    assert facts["length_s"] == pytest.approx(6.12, abs=0.1) and facts["warnings"] == []


def test_a_trimmed_video_shows_only_what_is_left_of_it(tmp_path):
    """Phones trim with an edit list: the packets before the cut are still in the file, to be decoded but not shown."""
    path = write_numbered(tmp_path / "x.mp4", 60, options=videos.B_PYRAMID)
    videos.patch(path, b"elst", 8, [1000, 1024 + 30 * 512], ">Ii")  # 1 s, from frame 30 on
    kept = [number_of(frame.to_ndarray(format="rgb24")) for frame in videos.decode_all(path)]
    assert kept == list(range(30, 55))
    pictures, times_s, _, facts = step.read_video(path, 11, 960)
    assert [number_of(picture) for picture in pictures] == [kept[index] for index in step.choose_frames(range(25))]
    assert times_s[0] == 0 and facts["frames_total"] == 25 and facts["warnings"] == []


def test_a_wrong_frame_count_in_the_header_misleads_nobody(tmp_path):
    for count in (0, 7, 100_000):
        path = write_avi(tmp_path / f"{count}.avi")
        videos.patch(path, b"avih", 4 + 16, [count], "<I")
        videos.patch(path, b"strh", 4 + 32, [count], "<I")
        pictures, _, _, facts = step.read_video(path, 11, 960)
        assert [number_of(picture) for picture in pictures] == step.choose_frames(range(30))
        assert facts["frames_total"] == 30


def test_cut_files_are_used_as_far_as_they_go_with_a_warning(tmp_path):
    for suffix, options in (("mkv", {}), ("webm", FAST_VP9), ("avi", {})):
        path = write_numbered(tmp_path / f"x.{suffix}", 75, **options)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.5)])
        pictures, _, _, facts = step.read_video(path, 11, 960)
        numbers = [number_of(picture) for picture in pictures]
        assert len(set(numbers)) == 11 and numbers[-1] < 50
        assert "cut off" in facts["warnings"][-1]


def test_garbage_in_the_middle_costs_only_the_frames_it_hit(tmp_path):
    path = write_numbered(tmp_path / "x.mp4", 60, options={"x264-params": "keyint=6"})
    data = bytearray(path.read_bytes())
    start, length = len(data) // 3, len(data) // 4
    data[start : start + length] = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    path.write_bytes(data)
    pictures, _, _, facts = step.read_video(path, 11, 960)
    assert len(pictures) == 11
    assert number_of(pictures[0]) == 0 and number_of(pictures[-1]) == 59
    assert "read only in part" in facts["warnings"][0]


# shape and orientation

# display matrix (a b c d x y) of a 160x120 picture; ISO/IEC 14496-12, 8.3.2: (u, v) is shown at (au + cv + x, bu + dv + y)
MATRICES = {
    "as it is": (1, 0, 0, 1, 0, 0),
    "90 clockwise": (0, 1, -1, 0, 120, 0),
    "180": (-1, 0, 0, -1, 160, 120),
    "270 clockwise": (0, -1, 1, 0, 0, 160),
    "mirrored": (-1, 0, 0, 1, 160, 0),
    "mirrored and turned": (0, 1, 1, 0, 0, 0),
}
CORNERS = {(40, 30): "red", (120, 30): "green", (40, 90): "blue", (120, 90): "white"}  # centres of the quarters
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def four_colours():
    picture = np.zeros((120, 160, 3), np.uint8)
    for (x, y), name in CORNERS.items():
        picture[y - 30 : y + 30, x - 40 : x + 40] = COLOURS[name]
    return picture


@pytest.mark.parametrize("name", MATRICES)
def test_phone_videos_are_turned_upright(tmp_path, name):
    a, b, c, d, x, y = MATRICES[name]
    path = set_matrix(write_video(tmp_path / "x.mp4", [four_colours()] * 12), a, b, c, d, x, y)
    pictures, _, shown, _ = step.read_video(path, 11, 960)
    assert shown == ((120, 160) if b else (160, 120))
    for picture in pictures:
        assert picture.shape == (shown[1], shown[0], 3) and picture.flags.c_contiguous
        for (u, v), colour in CORNERS.items():
            blue_green_red = picture[b * u + d * v + y, a * u + c * v + x].astype(int)
            assert np.abs(blue_green_red[::-1] - COLOURS[colour]).max() < 40, (name, colour)


def test_turned_and_shrunk(tmp_path):
    path = set_matrix(write_numbered(tmp_path / "x.mp4", 3, size=(320, 240)), 0, 1, -1, 0, 240, 0)
    pictures, _, shown, _ = step.read_video(path, 11, 160)
    assert shown == (240, 320) and pictures[0].shape == (160, 120, 3)


def test_non_square_pixels(tmp_path):
    path = write_video(tmp_path / "x.mp4", [four_colours()] * 2, sar=Fraction(2, 1))
    pictures, _, shown, _ = step.read_video(path, 11, 960)
    assert shown == (320, 120) and pictures[0].shape == (120, 320, 3)
    path = write_video(tmp_path / "y.mp4", [four_colours()] * 2)
    videos.patch(path, b"tkhd", 76, [320 << 16, 120 << 16], ">ii")  # only the container knows
    assert step.read_video(path, 11, 960)[2] == (320, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_photos_are_turned_as_exif_says(tmp_path, form, orientation):
    """EXIF 2.3, 4.6.4 A: which side of the stored picture is shown on top, and which on the left."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(four_colours()).save(tmp_path / f"x.{form}", exif=exif, quality=95)
    (picture,), times_s, shown, facts = step.read_photo(tmp_path / f"x.{form}", 960)
    upright = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p),
    }[orientation]
    expected = upright(four_colours())[..., ::-1]
    assert picture.shape == expected.shape and shown == expected.shape[1::-1]
    height, width = expected.shape[:2]
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        place = y * height // 4, x * width // 4
        assert np.abs(picture[place].astype(int) - expected[place]).max() < 40, place
    assert times_s == [0.0] and facts["frames_total"] == 1


def test_photos_of_every_kind(tmp_path):
    rgb = np.dstack([four_colours(), np.full((120, 160), 128, np.uint8)])
    Image.fromarray(rgb).save(tmp_path / "alpha.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(rgb[..., :3]).quantize(8).save(tmp_path / "palette.png")
    Image.fromarray(rgb[..., :3]).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(rgb[..., :3]).resize((2000, 1500)).save(tmp_path / "large.webp")
    other = [Image.fromarray(rgb[..., :3])]
    Image.fromarray(rgb[..., :3]).save(tmp_path / "iphone.jpg", format="MPO", save_all=True, append_images=other)
    for path in sorted(tmp_path.iterdir()):
        (picture,), _, shown, _ = step.read_photo(path, 960)
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and max(picture.shape) <= 960
        if path.name not in ("large.webp", "grey.png"):
            assert np.abs(picture[30, 40].astype(int) - (0, 0, 255)).max() < 40, path.name
        if path.name == "large.webp":
            assert shown == (2000, 1500) and picture.shape == (720, 960, 3)


def test_the_picture_stream_is_taken_not_the_cover(tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("mjpeg", rate=25), output.add_stream("libx264", rate=25)]
        for stream, size in zip(streams, ((64, 48), (160, 120)), strict=True):
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if size == (64, 48) else "yuv420p"
        cover = av.VideoFrame.from_ndarray(cv2.resize(four_colours(), (64, 48)), format="rgb24")
        output.mux(streams[0].encode(cover))
        for index in range(12):
            output.mux(streams[1].encode(av.VideoFrame.from_ndarray(videos.numbered_picture(index), format="rgb24")))
        for stream in streams:
            output.mux(stream.encode())
    assert step.read_video(path, 11, 960)[2] == (160, 120)


def test_a_file_without_pictures(tmp_path):
    with av.open(str(tmp_path / "x.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(InputError, match="no video stream"):
        step.read_video(tmp_path / "x.mp4", 11, 960)
