"""What happens to a video on the internet, done to a face: all functions take and give uint8 RGB (h, w, 3)."""

from fractions import Fraction

import numpy as np

MAX_ROTATION_DEG = 10
ZOOM = (0.9, 1.15)
BRIGHTNESS = 30  # grey levels, either way
CONTRAST = (0.75, 1.3)
SATURATION = (0.6, 1.4)
JPEG_QUALITY = (30, 95)
SMALLEST_SCALE = 0.35  # downscale and back
BLUR_SIGMA_PX = (0.4, 1.6)
NOISE_SIGMA = (1.0, 8.0)  # grey levels
LIGHT = (0.15, 0.7)  # share of the light that is left
DARK_NOISE_SIGMA = (1.0, 6.0)  # grey levels, before the camera brightens the picture again
REBRIGHTENED = (0.0, 0.7)  # exponent: 0 leaves the picture dark, 1 would give all of the light back
MOTION_SHARE = (0.02, 0.08)  # of the width: how far something moves while the shutter is open
CRF = (22, 42)  # x264's quality; 23 is its default, phones and platforms are between 18 and 40
CHANCES = {
    "flip": 0.5, "rotate_zoom": 0.5, "colour": 0.5, "low_light": 0.2, "motion_blur": 0.15, "downscale": 0.3, "blur": 0.15,
    "noise": 0.15, "video": 0.25, "jpeg": 0.3,
}  # fmt: skip


def flip(face_rgb, rng):
    """Mirror left and right."""
    return face_rgb[:, ::-1]


def rotate_zoom(face_rgb, rng):
    """Rotate and zoom a little around the centre; the border is mirrored."""
    import cv2

    height, width = face_rgb.shape[:2]
    angle, zoom = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG), rng.uniform(*ZOOM)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    return cv2.warpAffine(face_rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def colour(face_rgb, rng):
    """Change brightness, contrast and saturation."""
    import cv2

    contrast, brightness = rng.uniform(*CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    levels = np.clip((np.arange(256) - 127.5) * contrast + 127.5 + brightness, 0, 255).astype(np.uint8)
    changed = cv2.LUT(face_rgb, levels)
    grey = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    saturation = rng.uniform(*SATURATION)
    return cv2.addWeighted(changed, saturation, grey, 1 - saturation, 0)


def low_light(face_rgb, rng):
    """Take most of the light away, add the sensor's noise, and brighten the picture again in part or not at all."""
    light = rng.uniform(*LIGHT)
    pixels = light * face_rgb + rng.uniform(*DARK_NOISE_SIGMA) * rng.standard_normal(face_rgb.shape, np.float32)
    pixels *= light ** -rng.uniform(*REBRIGHTENED)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def motion_blur(face_rgb, rng):
    """Smear along a random straight line."""
    import cv2

    half = max(1.0, rng.uniform(*MOTION_SHARE) * face_rgb.shape[1] / 2)
    angle, size = rng.uniform(0, np.pi), 2 * int(np.ceil(half)) + 1
    kernel, steps = np.zeros((size, size), np.float32), np.linspace(-half, half, 4 * size)
    across, down = size // 2 + steps * np.cos(angle), size // 2 + steps * np.sin(angle)
    np.add.at(kernel, (np.rint(down).astype(int), np.rint(across).astype(int)), np.float32(1 / len(steps)))
    return cv2.filter2D(face_rgb, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def downscale(face_rgb, rng):
    """Shrink and enlarge again, as when a small video is shown large."""
    import cv2

    height, width = face_rgb.shape[:2]
    scale = rng.uniform(SMALLEST_SCALE, 1.0)
    small = cv2.resize(
        face_rgb, (max(8, round(width * scale)), max(8, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=(cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)])


def blur(face_rgb, rng):
    """Blur as an unfocused lens does."""
    import cv2

    return cv2.GaussianBlur(face_rgb, (0, 0), rng.uniform(*BLUR_SIGMA_PX))


def noise(face_rgb, rng):
    """Add Gaussian sensor noise."""
    sigma = rng.uniform(*NOISE_SIGMA)
    added = face_rgb + sigma * rng.standard_normal(face_rgb.shape, np.float32)
    return np.clip(added + 0.5, 0, 255).astype(np.uint8)


def video(face_rgb, rng):
    """Compress and decompress as one H.264 frame; an odd last row or column stays as it is."""
    import av

    height, width = (side // 2 * 2 for side in face_rgb.shape[:2])  # H.264 halves the colour planes
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 25)
    crf = int(rng.integers(CRF[0], CRF[1] + 1))
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "x264-params": "keyint=1:ref=1"}
    decoder = av.CodecContext.create("h264", "r")
    encoder.thread_count = decoder.thread_count = 1
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(face_rgb[:height, :width]), format="rgb24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoded = [*(picture for packet in packets for picture in decoder.decode(packet)), *decoder.decode(None)]
    compressed = face_rgb.copy()
    compressed[:height, :width] = decoded[0].to_ndarray(format="rgb24")
    return compressed


def jpeg(face_rgb, rng):
    """Compress and decompress as JPEG."""
    import cv2

    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    # no flag to check: encoding to memory cannot fail, the JPEG format takes any 8-bit face up to 65,500 px
    data = cv2.imencode(".jpg", face_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


STEPS = {
    "flip": flip, "rotate_zoom": rotate_zoom, "colour": colour, "low_light": low_light, "motion_blur": motion_blur,
    "downscale": downscale, "blur": blur, "noise": noise, "video": video, "jpeg": jpeg,
}  # fmt: skip


def augment(face_rgb, rng):
    """Return a changed copy of a uint8 RGB face (h, w, 3): each step happens with its chance, in the order of STEPS."""
    face_rgb = face_rgb.copy()
    for name, step in STEPS.items():
        if rng.random() < CHANCES[name]:
            face_rgb = step(np.ascontiguousarray(face_rgb), rng)
    return np.ascontiguousarray(face_rgb)
