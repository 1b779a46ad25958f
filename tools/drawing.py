"""Draw the clips of the sample: people, cameras, alterations."""

import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from common.errors import InputError, OutputError
from deepfake.parallel import pool

RECIPE_VERSION = 1  # raise it when the frames change, so that old samples are made again
WIDTH_PX, HEIGHT_PX, FRAMES_PER_S, FRAMES = 480, 360, 25, 125  # 5 s; small, with room for a face of 100-150 px
STRENGTHS = ("subtle", "medium", "strong")  # actor i has strength i % 3
DIFFERENCE_RANGES = {"subtle": (4.0, 7.0), "medium": (8.0, 12.0), "strong": (14.0, 22.0)}  # mean grey levels of 0-255
RANGE_MARGIN = 0.15  # share of a range that the target keeps from its ends: motion changes the difference a little
GIVEAWAYS = ("colour", "resolution", "sharpness")  # every fake has one of these: the two others by themselves ...
ALTERATIONS = (*GIVEAWAYS, "geometry", "identity")  # ... only make another face, which could just as well be real
TWO_PEOPLE_EVERY, TWO_PEOPLE_REST = 8, 3  # actor i has a companion if i % 8 == 3

# The common picture of a person ("canvas") before motion: 60 px between the eyes, which makes a face some 118 px wide.
CANVAS_W, CANVAS_H, FACE_CENTRE = 640, 560, np.float32([320, 245])
CANVAS_XY = np.dstack(np.meshgrid(np.arange(CANVAS_W), np.arange(CANVAS_H))).astype(np.float32)
CANVAS_LANDMARKS = np.float32([(290, 210), (350, 210), (320, 245), (292.5, 268), (347.5, 268)])
FACE_BOX = (slice(140, 350), slice(225, 415))  # rows, columns of the canvas that an alteration may change
GRID_PX = 6  # motion is computed for every 6th pixel and interpolated: as smooth, and much faster
MARGIN_PX = 200  # mirrored margin round a portrait: shoulders that the photographer cut off go on in it
# Left eye, right eye, nose, left and right mouth corner (x, y), portrait pixels, as MTCNN 1.0.0 finds them.
HOPPER_LANDMARKS = ((220, 190), (308, 186), (268, 237), (232, 277), (304, 273))
ASTRONAUT_LANDMARKS = ((204, 100), (245, 102), (224, 126), (202, 139), (244, 140))
# Outlines of the two people (x,y), portrait pixels, traced by hand.
HOPPER_OUTLINE = """
    227,29 219,37 217,44 200,51 184,70 179,87 156,113 153,128 157,208 165,231 166,270 174,284 199,299 200,316
    187,333 131,360 94,369 66,385 48,405 25,492 12,599 5,790 560,790 530,500 511,436 504,431 491,395 461,378 422,368
    365,344 336,320 334,311 352,293 359,278 371,194 367,162 367,101 361,91 352,88 347,74 332,56 306,44 302,36 294,29
    256,25
"""
ASTRONAUT_OUTLINE = """
    205,22 157,59 154,68 157,103 170,115 175,127 183,131 186,149 165,152 140,163 120,189 116,204 63,251 45,283
    27,342 20,410 25,432 25,469 46,511 46,700 500,700 500,511 493,445 480,400 464,375 436,353 406,344 362,346
    355,302 337,260 303,229 282,196 254,175 264,140 274,134 293,111 299,92 295,58 285,41 259,23 237,17
"""


def blur(picture, sigma_px):
    return cv2.GaussianBlur(picture, (0, 0), sigma_px)


def smooth_field(rng, width, height, cells):
    """Return a random float32 field (height, width), standard deviation about 1, with about `cells` bumps a side."""
    return cv2.resize(rng.standard_normal((cells, cells), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def smooth_signal(rng, amplitude, slowest_hz=0.08, fastest_hz=0.5):
    """Return a random signal, one value per frame: a sum of three sines, within +-`amplitude`."""
    seconds = np.arange(FRAMES) / FRAMES_PER_S
    waves = [np.sin(2 * np.pi * (rng.uniform(slowest_hz, fastest_hz) * seconds + rng.uniform())) for _ in range(3)]
    return amplitude * np.sum(waves, axis=0) / 3


def soft_ellipse(centre, radii, softness_px, power=2.0):
    """Return a float32 mask of the canvas, 1 inside a superellipse and 0 outside, its edge blurred."""
    inside = (np.abs((CANVAS_XY - centre) / radii) ** power).sum(axis=2) < 1
    return blur(inside.astype(np.float32), softness_px)


def warp_to_canvas(landmarks):
    """Return where each canvas pixel lies in a portrait with a margin of MARGIN_PX: float32 (h, w, 2).

    An affine map, and bumps 30 px wide that carry each landmark the rest of its way.
    """
    from scipy.interpolate import RBFInterpolator

    goals = np.float64(landmarks) + MARGIN_PX
    warp = RBFInterpolator(CANVAS_LANDMARKS, goals, kernel="gaussian", epsilon=1 / 42, degree=1)
    return warp(CANVAS_XY.reshape(-1, 2)).reshape(CANVAS_H, CANVAS_W, 2).astype(np.float32)


def lay_on_canvas(portrait_bgr, landmarks, outline):
    """Return a portrait, cut out along its outline (text as above), as `with_skin` does."""
    to_portrait = warp_to_canvas(landmarks)
    padded = cv2.copyMakeBorder(portrait_bgr, *[MARGIN_PX] * 4, cv2.BORDER_REFLECT_101)
    corners = np.array([point.split(",") for point in outline.split()], np.int32) + MARGIN_PX
    alpha = cv2.fillPoly(np.zeros(padded.shape[:2], np.float32), [corners], 1)
    alpha = cv2.remap(alpha, to_portrait, None, cv2.INTER_LINEAR)
    bgr = cv2.remap(padded, to_portrait, None, cv2.INTER_CUBIC).astype(np.float32) / 255
    inner = blur(cv2.erode(alpha, np.ones((5, 5))), 1)[..., None]
    beside = sum(share * blur(bgr * inner, sigma) for share, sigma in ((1, 3), (1e-3, 25)))
    beside /= sum(share * blur(inner, sigma) for share, sigma in ((1, 3), (1e-3, 25)))[..., None] + 1e-6
    return with_skin(bgr * inner + beside * (1 - inner), alpha)  # the old background would show as a halo


def with_skin(bgr, alpha):
    """Return a portrait on the canvas, landmarks on CANVAS_LANDMARKS: (Lab (h, w, 3), alpha, skin) float32, masks 0-1.

    `bgr`: float32, 0-1; `alpha`: float32, how opaque the person is.
    """
    lab = cv2.cvtColor(np.clip(bgr, 0, 1), cv2.COLOR_BGR2Lab)
    unlike = ((lab[..., 1:] - np.median(lab[245:265, 285:355, 1:], axis=(0, 1))) ** 2).sum(axis=2)
    skin = np.exp(-unlike / (2 * 14**2)) * soft_ellipse((320, 262), (84, 105), 6)
    inside = soft_ellipse(FACE_CENTRE, (46, 60), 5)  # eyes, teeth and glasses change with the skin round them
    return lab, blur(alpha, 1.5), blur(np.maximum(skin, inside), 1.5)


@lru_cache(maxsize=1)
def load_portraits():
    """Return `lay_on_canvas` of both portraits."""
    import matplotlib
    from skimage import data

    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    hopper, astronaut = cv2.imread(str(path)), cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    if hopper is None:
        raise OSError(f"{path} is missing or damaged: install matplotlib again")
    return (
        lay_on_canvas(hopper, HOPPER_LANDMARKS, HOPPER_OUTLINE),
        lay_on_canvas(astronaut, ASTRONAUT_LANDMARKS, ASTRONAUT_OUTLINE),
    )


def recolour(lab, gain, lift, chroma, degrees, offset):
    """Return Lab with lightness * gain + lift, (a, b) turned by `degrees`, scaled by `chroma` and moved by `offset`."""
    cos, sin = np.cos(np.radians(degrees)) * chroma, np.sin(np.radians(degrees)) * chroma
    ab = lab[..., 1:] @ np.float32([(cos, sin), (-sin, cos)]) + np.float32(offset)
    return np.dstack([np.clip(lab[..., 0] * gain + lift, 0, 100), ab]).astype(np.float32)


def coarser(bgr, factor):
    """Return a float32 picture scaled down by `factor` and back up."""
    height, width = bgr.shape[:2]
    small = cv2.resize(bgr, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height))


def crisper(bgr, amount):
    """Return a float32 picture with its detail finer than 1.5 px raised by `amount`, or blurred if it is negative."""
    return bgr + amount * (bgr - blur(bgr, 1.5)) if amount > 0 else blur(bgr, 0.1 - 0.8 * amount)


def to_uint8(picture):
    return np.clip(picture, 0, 255).round().astype(np.uint8)


def make_person(rng, portraits):
    """Return a random person: `bgra`, and `other_bgra` with another face on the same head, both uint8 on the canvas.

    `portraits`: the two that are mixed, as `with_skin` gives them. Also `eyes` and `mouth`: where they lie on the canvas, (x, y).
    """
    body, flip, share = int(rng.integers(2)), bool(rng.integers(2)), rng.uniform(0.05, 0.95)
    (base, alpha, skin), (donor, _, _) = portraits[body], portraits[1 - body]
    oval = soft_ellipse((320, 244), (47, 58), 7, power=2.3)
    (tone, spread), (donor_tone, donor_spread) = (
        (lab[oval > 0.5].mean(axis=0), lab[oval > 0.5].std(axis=0)) for lab in (base, donor)
    )
    donor = (donor - donor_tone) * (spread / donor_spread) + tone  # no seam of colour
    uneven = smooth_field(rng, CANVAS_W, CANVAS_H, 24) * rng.uniform(0.1, 0.3)
    new_tone = rng.uniform((36, 6, 9), (76, 19, 26))  # Lab: from dark to light, from pale to ruddy or tanned
    chroma = rng.uniform(0.6, 1.1)
    skin_colour = (new_tone[0] / tone[0], 0, chroma, 0, new_tone[1:] - chroma * tone[1:])
    hair_colour = (rng.uniform(0.6, 1.2), rng.uniform(0, 14), rng.uniform(0.2, 0.9), 0, rng.uniform((-1, -4), (8, 12)))
    cloth_colour = (
        rng.uniform(0.6, 1.2),
        rng.uniform(0, 22),
        rng.uniform(0.15, 0.9),
        rng.uniform(0, 360),
        rng.uniform(-16, 16, 2),
    )
    shoulders = soft_ellipse((320, 560), (640, 245), 8)[..., None]  # above are hair and hat
    side_light = np.clip(1 + rng.uniform(-1, 1) * np.linspace(-1, 1, CANVAS_W) ** 3, 0.8, 1.2)[:, None]
    gamma, warmth = rng.uniform(0.85, 1.2), rng.uniform(-0.06, 0.06)
    fuzz, amount = rng.choice(["coarse", "crisp"]), rng.uniform(-1, 1)  # reals differ in sharpness as the fakes do
    bend = np.dstack([smooth_field(rng, CANVAS_W, CANVAS_H, 12) * 3.5 for _ in range(2)])
    bend += (CANVAS_XY - FACE_CENTRE) * rng.uniform(-0.06, 0.06, 2).astype(np.float32)  # longer or broader heads
    alpha = cv2.remap(alpha, CANVAS_XY + bend, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def picture(donor_share):
        weight = (np.clip(donor_share + uneven, 0, 1) * oval)[..., None]
        lab = base + weight * (donor - base)
        rest = shoulders * recolour(lab, *cloth_colour) + (1 - shoulders) * recolour(lab, *hair_colour)
        lab = (rest + skin[..., None] * (recolour(lab, *skin_colour) - rest)).astype(np.float32)
        bgr = np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2BGR), 0, 1) ** gamma * side_light * 255
        bgr = (bgr * (1 - warmth, 1, 1 + warmth)).astype(np.float32)
        bgr = cv2.remap(bgr, CANVAS_XY + bend, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        bgr = coarser(bgr, 1 + 1.2 * abs(amount)) if fuzz == "coarse" else crisper(bgr, amount)
        bgra = to_uint8(np.dstack([bgr, alpha * 255]))
        return cv2.flip(bgra, 1) if flip else bgra

    points = np.array([(x, y) - bend[int(y), int(x)] for x, y in CANVAS_LANDMARKS])
    if flip:
        points[:, 0] = CANVAS_W - 1 - points[:, 0]
    other_share = share + rng.uniform(0.5, 0.9) * (1 if share < 0.5 else -1)
    return {"bgra": picture(share), "other_bgra": picture(other_share), "eyes": points[:2], "mouth": points[3:].mean(0)}


def make_camera(rng):
    """Return what both clips of an actor share: `background` (60 px larger on every side), its motion, light, noise."""
    width, height = WIDTH_PX + 120, HEIGHT_PX + 120
    wall = rng.uniform(50, 210) + rng.uniform(-18, 18, 3)
    background = np.full((height, width, 3), wall, np.float32)
    for sigma in rng.uniform(4, 14, 2):  # a room out of focus: things far away, then nearer and less blurred ones
        for _ in range(int(rng.integers(3, 8))):
            colour = np.clip(wall + rng.normal(0, 40) + rng.normal(0, 13, 3), 5, 250).tolist()
            x, y, w, h = (rng.uniform((-0.1, -0.1, 0, 0), (1, 1, 0.5, 0.5)) * ([width, height] * 2)).astype(int)
            cv2.rectangle(background, (x, y), (x + w, y + h), colour, -1)
        background = blur(background, sigma)
    for cells, amplitude in ((6, 18), (15, 4), (60, 2), (200, 1.5)):  # light and wall texture
        background += smooth_field(rng, width, height, cells)[..., None] * amplitude * rng.uniform(0.3, 1)
    noise = blur(rng.standard_normal((HEIGHT_PX + 64, WIDTH_PX + 64, 3), np.float32), rng.uniform(0.3, 0.7))
    noise = (noise + 0.7 * noise.mean(axis=2, keepdims=True)) * (rng.uniform(1, 3.5) / noise.std())
    return {
        "background": to_uint8(background),
        "x": 60 + smooth_signal(rng, 12),
        "y": 60 + smooth_signal(rng, 8),
        "light": 1 + smooth_signal(rng, 0.07),
        "noise": noise.round().astype(np.int16),
        "noise_at": rng.integers(0, 64, (FRAMES, 2)),
    }


def background_frame(camera, index):
    """Return the background at frame `index`, uint8 BGR."""
    shift = np.float32([(1, 0, camera["x"][index]), (0, 1, camera["y"][index])])
    size = (WIDTH_PX, HEIGHT_PX)
    return cv2.warpAffine(camera["background"], shift, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)


def expose(frame, camera, index):
    """Return the frame, uint8 BGR, with this moment's light and sensor noise."""
    x, y = camera["noise_at"][index]
    noise = camera["noise"][y : y + HEIGHT_PX, x : x + WIDTH_PX]
    return cv2.addWeighted(frame, float(camera["light"][index]), noise, 1.0, 0.0, dtype=cv2.CV_8U)


def make_motion(rng, centre_xy, scale, reach_px):
    """Return how a person moves: one value per frame for each part; `centre_xy` is where the face is, frame px."""
    blinks_at = rng.uniform(5, FRAMES - 5, (int(rng.integers(1, 4)), 1))
    blink = np.exp(-((np.arange(FRAMES) - blinks_at) ** 2) / 8).max(axis=0)
    return {
        "x": centre_xy[0] + smooth_signal(rng, reach_px),
        "y": centre_xy[1] + smooth_signal(rng, reach_px / 2),
        "scale": scale * (1 + smooth_signal(rng, 0.04)),
        "lean": smooth_signal(rng, 4, 0.1, 0.4),
        "turn": np.radians(rng.uniform(-3, 3) + smooth_signal(rng, 5)),
        "blink": blink,
        "jaw": smooth_signal(rng, rng.uniform(1, 4), 0.5, 2.5),
        "smile": smooth_signal(rng, 0.06, 0.1, 0.6),
    }


def frame_to_canvas(person, motion, index, box, jitter_px):
    """Return where each frame pixel of `box` (x, y, w, h) lies on the canvas at frame `index`: float32 (h, w, 2)."""
    left, top, width, height = box
    now = {part: float(values[index]) for part, values in motion.items()}
    x = (np.arange(-(-width // GRID_PX) + 4, dtype=np.float32) - 1.5) * GRID_PX - 0.5 + left - now["x"]
    y = (np.arange(-(-height // GRID_PX) + 4, dtype=np.float32)[:, None] - 1.5) * GRID_PX - 0.5 + top - now["y"]
    cos, sin = np.float32(np.cos(now["turn"]) / now["scale"]), np.float32(np.sin(now["turn"]) / now["scale"])
    u, v = x * cos + y * sin + FACE_CENTRE[0], y * cos - x * sin + FACE_CENTRE[1]
    mouth_u, mouth_v = u - np.float32(person["mouth"][0]), v - np.float32(person["mouth"][1])
    du = now["lean"] * np.tanh((v - FACE_CENTRE[1]) / 150)
    du = du - now["smile"] * mouth_u * np.exp(-((mouth_u / 36) ** 2) - (mouth_v / 26) ** 2)
    dv = -now["jaw"] * np.exp(-((mouth_u / 40) ** 2) - ((mouth_v - 16) / 22) ** 2)
    for eye_u, eye_v in person["eyes"].astype(np.float32):  # a blink squeezes the eye to about half its height
        dv += 1.1 * now["blink"] * (v - eye_v) * np.exp(-(((u - eye_u) / 16) ** 2) - ((v - eye_v) / 9) ** 2)
    coarse = np.dstack([u + du + jitter_px[0], v + dv + jitter_px[1]]).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=GRID_PX, fy=GRID_PX, interpolation=cv2.INTER_CUBIC)
    return fine[2 * GRID_PX : 2 * GRID_PX + height, 2 * GRID_PX : 2 * GRID_PX + width]


def draw(frame, bgra, person, motion, index, box=(0, 0, WIDTH_PX, HEIGHT_PX), jitter_px=(0, 0)):
    """Return the frame's `box` (x, y, w, h) with a picture of the person over it, uint8 BGR, and its opacity, 0-1."""
    x, y, width, height = box
    to_canvas = frame_to_canvas(person, motion, index, box, jitter_px)
    drawn = cv2.remap(bgra, to_canvas, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    opacity = cv2.multiply(cv2.extractChannel(drawn, 3), 1 / 255, dtype=cv2.CV_32F)
    below = np.ascontiguousarray(frame[y : y + height, x : x + width])
    return cv2.blendLinear(cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR), below, opacity, 1 - opacity), opacity


def draw_fake(real, altered, person, motion, jitter_px, index):
    """Return (fake frame, rows and columns of the box that may differ, the alteration's opacity in it, 0-1)."""
    reach = 160 * motion["scale"][index]  # half the diagonal of FACE_BOX, and a little motion
    left, top = (max(0, int(motion[axis][index] - reach)) for axis in "xy")
    right, bottom = (min(size, int(motion[axis][index] + reach)) for axis, size in (("x", WIDTH_PX), ("y", HEIGHT_PX)))
    fake, box = real.copy(), (slice(top, bottom), slice(left, right))
    box_xywh = (left, top, right - left, bottom - top)
    fake[box], opacity = draw(real, altered, person, motion, index, box_xywh, jitter_px[index])
    return fake, box, opacity


def make_alteration(rng, region, strength):
    """Return a random recipe for one fake: which alterations, how much of each, where (`mask`, uint8 on the canvas)."""
    names = {"colour" if strength == "strong" else str(rng.choice(GIVEAWAYS))}
    others = sorted(set(ALTERATIONS) - names)
    names.update(str(name) for name in rng.choice(others, int(rng.integers(1, 3)), replace=False))
    centre, radii = ((320, 247), (48, 60)) if region == "face" else ((320, 271), (40, 25))
    mask = soft_ellipse(
        centre + rng.uniform(-3, 3, 2), radii * rng.uniform(0.88, 1.12, 2), rng.uniform(4, 8), rng.uniform(1.7, 3.2)
    )
    direction = rng.choice([-1, 1]) + rng.normal(0, 0.7, 3)  # mostly lighter or darker, as real mismatches are
    move = rng.uniform(-1.5, 1.5, 2) + rng.uniform(-0.03, 0.03) * (CANVAS_XY - centre)
    move = move + np.dstack([smooth_field(rng, CANVAS_W, CANVAS_H, 14) for _ in range(2)])
    return {
        "names": names,
        "shares": {name: rng.uniform(0.6, 1.0) for name in ALTERATIONS},
        "mask": to_uint8(mask * 255),
        "move": move[FACE_BOX].astype(np.float32),
        "crisp": rng.choice([-1, 1]),
        "colour": direction / np.abs(direction).mean(),
        "jitter_px": np.column_stack([smooth_signal(rng, 0.5, 0.3, 6) for _ in range(2)]),
    }


def alter(person, recipe, amount):
    """Return the altered person, uint8 BGRA on the canvas, opaque in the mask; `amount` scales every alteration."""
    part = {name: amount * recipe["shares"][name] for name in recipe["names"]}
    face, other = (person[name][FACE_BOX][..., :3].astype(np.float32) for name in ("bgra", "other_bgra"))
    if "identity" in part:
        face += min(1.0, part["identity"] / 3) * (other - face)
    if "geometry" in part:  # limits here and below: past them a face falls apart
        grid = CANVAS_XY[FACE_BOX] - CANVAS_XY[FACE_BOX][0, 0] + min(2.5, part["geometry"]) * recipe["move"]
        face = cv2.remap(face, grid, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if "resolution" in part:
        face = coarser(face, 1 + min(2.5, part["resolution"]))
    if "sharpness" in part:
        face = crisper(face, recipe["crisp"] * min(2.5, part["sharpness"]))
    if "colour" in part:
        face = face + 6 * part["colour"] * recipe["colour"]
    altered = np.dstack([person["bgra"][..., :3], recipe["mask"]])
    altered[FACE_BOX][..., :3] = to_uint8(face)
    return altered


def difference_in_mask(real, fake, opacity):
    """Return the mean absolute difference, grey levels, of two uint8 BGR pictures where the opacity is above 0.5."""
    return float(cv2.absdiff(real, fake)[opacity > 0.5].mean())


def fit_alteration(person, motion, recipe, wanted):
    """Return the altered person whose frames differ from the real ones by `wanted` grey levels, found by bisection."""
    black = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    reals = {index: draw(black, person["bgra"], person, motion, index)[0] for index in (10, 60, 110)}

    def measure(altered):
        fakes = {i: draw_fake(real, altered, person, motion, recipe["jitter_px"], i) for i, real in reals.items()}
        return np.mean(
            [difference_in_mask(reals[i][box], fake[box], opacity) for i, (fake, box, opacity) in fakes.items()]
        )

    low, high = 0.0, 8.0
    if measure(alter(person, recipe, high)) < wanted:
        recipe["names"].add("colour")  # the only alteration without a limit
    for _ in range(10):
        altered = alter(person, recipe, (low + high) / 2)
        low, high = ((low + high) / 2, high) if measure(altered) < wanted else (low, (low + high) / 2)
    return altered


def actor_frames(seed, actor, portraits=None):
    """Return (facts for sample.csv, generator of (real, fake, difference) frames) of one actor.

    `portraits`: as in `make_person`; without them, those of `load_portraits`. Frames are uint8 BGR before
    compression; `difference` is `difference_in_mask` in the altered region.
    """
    rng = np.random.default_rng([seed, actor])
    two_people, side = actor % TWO_PEOPLE_EVERY == TWO_PEOPLE_REST, int(rng.integers(2))
    portraits = portraits or load_portraits()
    person, companions = make_person(rng, portraits), []
    if two_people:
        place, other_place = (
            (WIDTH_PX * (0.25 + 0.5 * at) + rng.uniform(-8, 8), rng.uniform(185, 200)) for at in (side, 1 - side)
        )
        motion = make_motion(rng, place, rng.uniform(0.64, 0.74), 10)
        companions = [(make_person(rng, portraits), make_motion(rng, other_place, rng.uniform(0.64, 0.74), 10))]
    else:
        motion = make_motion(rng, rng.uniform((195, 165), (285, 190)), rng.uniform(0.85, 1.08), 25)
    camera = make_camera(rng)
    strength, region = STRENGTHS[actor % len(STRENGTHS)], "mouth" if rng.random() < 0.3 else "face"
    recipe = make_alteration(rng, region, strength)
    least, most = DIFFERENCE_RANGES[strength]
    wanted = least + (most - least) * rng.uniform(RANGE_MARGIN, 1 - RANGE_MARGIN)
    altered = fit_alteration(person, motion, recipe, wanted)

    def frames():
        for index in range(FRAMES):
            scene = background_frame(camera, index)
            for companion, companion_motion in companions:
                scene, _ = draw(scene, companion["bgra"], companion, companion_motion, index)
            real, _ = draw(scene, person["bgra"], person, motion, index)
            fake, box, opacity = draw_fake(real, altered, person, motion, recipe["jitter_px"], index)
            real, fake = expose(real, camera, index), expose(fake, camera, index)
            yield real, fake, difference_in_mask(real[box], fake[box], opacity)

    return {
        "actor": f"actor_{actor:03d}",
        "strength": strength,
        "region": region,
        "people": 1 + len(companions),
        "alterations": "+".join(sorted(recipe["names"])),
        "altered_person": side if two_people else "",
    }, frames()


def write_clips(paths, frames, length=FRAMES):
    """Write one mp4v clip for each path from `length` tuples of uint8 BGR frames; all appear when all are complete."""
    temporary = [path.with_name("." + path.name) for path in paths]
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writers = [cv2.VideoWriter(str(path), codec, FRAMES_PER_S, (WIDTH_PX, HEIGHT_PX)) for path in temporary]
    if not all(writer.isOpened() for writer in writers):
        raise OutputError(f"cannot write {paths[0]}: is the folder writable, and does this OpenCV have mp4v?")
    for moment in frames:
        for writer, frame in zip(writers, moment, strict=True):
            writer.write(frame)
    for writer, hidden, path in zip(writers, temporary, paths, strict=True):
        writer.release()
        if cv2.VideoCapture(str(hidden)).get(cv2.CAP_PROP_FRAME_COUNT) != length:
            raise OutputError(f"{path} could not be written whole: is the disk full?")
    for hidden, path in zip(temporary, paths, strict=True):
        os.replace(hidden, path)


def run_all(tasks, workers):
    """Yield what each task (a function without arguments) returns, as they finish, from processes that share the CPUs.

    The first error ends them all: raises InputError, OutputError.
    """
    for _, result in pool.run_in_workers(
        _run, tasks, workers, timeout_s=None, initializer=cv2.setNumThreads, initargs=(1,)
    ):
        if isinstance(result, InputError):
            raise result
        yield result


def _run(task):
    return task()
