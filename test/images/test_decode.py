"""What every raw encoding looks like in RGB, and which images are refused."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_llama_ros.errors import BadImage, MissingDependency
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.converter import make_converter
from emo_llama_ros.images.decode import decode
from emo_llama_ros.images.headers import check
from emo_llama_ros.images.layouts import LAYOUTS, Layout
from emo_llama_ros.images.samples import SampleRange
from emo_llama_ros.options import Options

LIMIT = 50.0

# ITU-R BT.601, limited range: R = 1.164 (Y-16) + 1.596 (V-128), G = 1.164 (Y-16) - 0.813 (V-128) - 0.391 (U-128),
# B = 1.164 (Y-16) + 2.018 (U-128), rounded and clipped.
YUV_TO_RGB = {
    (16, 128, 128): (0, 0, 0),
    (235, 128, 128): (255, 255, 255),
    (81, 90, 240): (254, 0, 0),  # 1.164·65 + 1.596·112 = 254.4; 75.7 - 91.1 + 14.9 = -0.5
    (145, 54, 34): (0, 255, 1),  # 150.2 - 150.0 = 0.1; 150.2 + 76.4 + 28.9 = 255.5 → clipped; 150.2 - 149.3 = 0.8
    (41, 240, 110): (0, 0, 255),  # 29.1 - 28.7 = 0.4; 29.1 + 14.6 - 43.8 = -0.1; 29.1 + 226.0 = 255.1
    (100, 100, 150): (133, 91, 41),  # 97.8 + 35.1 = 132.9; 97.8 - 17.9 + 10.9 = 90.9; 97.8 - 56.5 = 41.3
}


def frame(encoding, pixels, width, height, step=0, **rest):
    data = np.frombuffer(bytes(pixels), np.uint8)
    return RawFrame(7, "cam", data, encoding, width, height, step or len(data) // height, **rest)


def rgb(*arguments, **rest):
    return decode(frame(*arguments, **rest), LIMIT).rgb.tolist()


def test_a_frame_keeps_stamp_and_frame_id():
    decoded = decode(frame("mono8", [0], 1, 1), LIMIT)
    assert (decoded.stamp_ns, decoded.frame_id) == (7, "cam")
    assert decoded.rgb.dtype == np.uint8


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [
        ("rgb8", [1, 2, 3]),
        ("bgr8", [3, 2, 1]),
        ("rgba8", [1, 2, 3, 99]),
        ("bgra8", [3, 2, 1, 99]),
        ("8UC3", [3, 2, 1]),
        ("8UC4", [3, 2, 1, 99]),
        ("rgb16", [1, 1, 2, 2, 3, 3]),
        ("bgr16", [3, 3, 2, 2, 1, 1]),
    ],
)
def test_colour_channels_are_put_in_order(encoding, pixel):
    assert rgb(encoding, pixel * 2, 2, 1) == [[[1, 2, 3], [1, 2, 3]]]


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding):
    assert rgb(encoding, [0, 77, 255], 3, 1) == [[[0] * 3, [77] * 3, [255] * 3]]


@pytest.mark.parametrize(("bigendian", "order"), [(0, "<u2"), (1, ">u2")])
def test_mono16_is_scaled_by_its_full_range_in_either_byte_order(bigendian, order):
    values = np.arange(65536)
    image = frame("mono16", values.astype(order).tobytes(), 256, 256, is_bigendian=bigendian)
    expected = (values + 128) // 257  # 65535 / 255 = 257
    assert np.array_equal(decode(image, LIMIT).rgb[:, :, 1].ravel(), expected)


@pytest.mark.parametrize("encoding", ["bgr8", "bayer_rggb8", "nv12"])
def test_the_endianness_flag_means_nothing_for_bytes(encoding):
    image = frame(encoding, range(72), 8, 6, 8) if encoding == "nv12" else frame(encoding, range(72), 3, 3, 24)
    assert np.array_equal(decode(image, LIMIT).rgb, decode(replace(image, is_bigendian=True), LIMIT).rgb)


@pytest.mark.parametrize(("yuv", "expected"), YUV_TO_RGB.items())
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_is_converted_with_limited_range_bt601(encoding, yuv, expected):
    y, u, v = yuv
    pair = {
        "yuv422": [u, y, v, y],  # ROS calls UYVY "yuv422"
        "uyvy": [u, y, v, y],
        "yuv422_yuy2": [y, u, y, v],
        "yuyv": [y, u, y, v],
        "nv12": [y, y, y, y, u, v],
        "nv21": [y, y, y, y, v, u],
    }[encoding]
    height = 2 if encoding.startswith("nv") else 1
    step = 2 if encoding.startswith("nv") else 4
    assert rgb(encoding, pair, 2, height, step) == [[list(expected)] * 2] * height


def test_nv12_takes_its_chroma_from_blocks_of_two_by_two():
    colours = [[(81, 90, 240), (41, 240, 110)], [(145, 54, 34), (235, 128, 128)]]
    luma = [[colours[r // 2][c // 2][0] for c in range(4)] for r in range(4)]
    chroma = [[v for c in row for v in c[1:]] for row in colours]
    expected = [[list(YUV_TO_RGB[colours[r // 2][c // 2]]) for c in range(4)] for r in range(4)]
    padded = [value for row in luma + chroma for value in [*row, 9, 9, 9]]
    assert rgb("nv12", [value for row in luma + chroma for value in row], 4, 4, 4) == expected
    assert rgb("nv12", padded, 4, 4, 7) == expected


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_pattern_is_named_by_its_first_two_rows(pattern, depth):
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array([colour[c] for c in pattern], np.uint16).reshape(2, 2)
    mosaic = np.tile(tile, (3, 4)) if depth == 8 else np.tile(tile * 257, (3, 4))
    data = mosaic.astype("u1" if depth == 8 else "<u2").tobytes()
    assert rgb(f"bayer_{pattern}{depth}", data, 8, 6) == [[[200, 100, 50]] * 8] * 6


@pytest.mark.parametrize("encoding", [name for name, layout in LAYOUTS.items() if layout.chroma in ("", "nv12")])
def test_padded_rows_change_nothing(encoding):
    layout = LAYOUTS[encoding]
    rows, row_bytes = layout.rows(8), 8 * layout.channels * layout.depth
    packed = np.random.default_rng(1).integers(0, 256, (rows, row_bytes), np.uint8)
    padded = np.pad(packed, ((0, 0), (0, 10)), constant_values=99)
    expected = decode(frame(encoding, packed.tobytes(), 8, 8, row_bytes), LIMIT).rgb
    assert expected.shape == (8, 8, 3)
    assert np.array_equal(decode(frame(encoding, padded.tobytes(), 8, 8, row_bytes + 10), LIMIT).rgb, expected)


@pytest.mark.parametrize("step", [6, 11])
def test_rgb8_is_a_view_of_the_message(step):
    image = frame("rgb8", range(3 * step), 2, 3, step)
    decoded = decode(image, LIMIT).rgb
    assert np.shares_memory(decoded, image.data)
    assert decoded.tolist() == [[[r * step + c * 3 + k for k in range(3)] for c in range(2)] for r in range(3)]


PLANAR = {
    (81, 90, 240): (254, 0, 0),
    (145, 54, 34): (0, 255, 1),
    (41, 240, 110): (0, 0, 255),
    (235, 128, 128): (255,) * 3,
}


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv420", "I420", "yv12"])
def test_three_planes_give_their_colours_whatever_the_row_step(encoding, padding):
    colours = np.array(list(PLANAR)).reshape(2, 2, 3)
    luma = np.pad(colours[:, :, 0].repeat(2, 0).repeat(2, 1), ((0, 0), (0, padding)), constant_values=9)
    planes = [np.pad(colours[:, :, k], ((0, 0), (0, padding // 2)), constant_values=9) for k in (1, 2)]
    planes = planes[::-1] if encoding == "yv12" else planes
    data = np.concatenate([luma.ravel(), *[p.ravel() for p in planes]]).astype(np.uint8).tobytes()
    expected = np.array(list(PLANAR.values())).reshape(2, 2, 3).repeat(2, 0).repeat(2, 1)
    assert rgb(encoding, data, 4, 4, 4 + padding) == expected.tolist()


@pytest.mark.parametrize("padding", [0, 5])
def test_nv24_has_its_own_chroma_for_every_pixel(padding):
    colours = np.array(list(YUV_TO_RGB)).reshape(2, 3, 3)
    luma = np.pad(colours[:, :, 0], ((0, 0), (0, padding)), constant_values=9)
    chroma = np.pad(colours[:, :, 1:].reshape(2, 6), ((0, 0), (0, 2 * padding)), constant_values=9)
    data = np.concatenate([luma.ravel(), chroma.ravel()]).astype(np.uint8).tobytes()
    shown = np.array(rgb("nv24", data, 3, 2, 3 + padding)).reshape(-1, 3)
    assert np.abs(shown - list(YUV_TO_RGB.values())).max() <= 1


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [
        ("rgba16", [1, 1, 2, 2, 3, 3, 9, 9]),
        ("bgra16", [3, 3, 2, 2, 1, 1, 9, 9]),
        ("16UC3", [3, 3, 2, 2, 1, 1]),
        ("16UC4", [3, 3, 2, 2, 1, 1, 9, 9]),
        ("RGB8", [1, 2, 3]),
        (" Bgr8 ", [3, 2, 1]),
    ],
)
def test_names_that_drivers_write_otherwise_are_read_as_they_are_meant(encoding, pixel):
    assert rgb(encoding, pixel * 2, 2, 1) == [[[1, 2, 3], [1, 2, 3]]]


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "bayer_rggb16", "rgb16", "MONO16"])
def test_a_sensor_of_fewer_bits_is_scaled_by_its_own_range(encoding, bits):
    channels = 3 if encoding == "rgb16" else 1
    values = np.linspace(0, 2**bits - 1, 64 * 64 * channels).astype("<u2")
    image = frame(encoding, values.tobytes(), 64, 64)
    bright = decode(image, LIMIT, SampleRange()).rgb
    assert bright.max() > 250
    full = decode(
        replace(image, data=(values.astype(np.uint32) * 65535 // (2**bits - 1)).astype("<u2").view(np.uint8)), LIMIT
    )
    assert np.abs(bright.astype(int) - full.rgb).max() <= 1


def test_the_range_of_a_camera_only_grows_so_brightness_cannot_flicker():
    sample_range = SampleRange()
    levels = [900, 4000, 900, 4000, 100, 60_000, 100, 900]
    images = [frame("mono16", np.full(400, level, "<u2").tobytes(), 20, 20) for level in levels]
    shown = [int(decode(image, LIMIT, sample_range).rgb[0, 0, 0]) for image in images]
    assert shown == [224, 249, 56, 249, 6, 233, 0, 4]


def test_a_few_damaged_samples_do_not_change_the_range_of_a_camera():
    samples = np.full(4000, 1000, "<u2")
    samples[:3] = 65535
    assert decode(frame("mono16", samples.tobytes(), 100, 40), LIMIT, SampleRange()).rgb[39, 99, 0] == 249


def test_every_converter_has_a_range_of_its_own():
    one, other = make_converter(Options()), make_converter(Options())
    one.decode(frame("mono16", np.full(400, 60_000, "<u2").tobytes(), 20, 20))
    dark = frame("mono16", np.full(400, 900, "<u2").tobytes(), 20, 20)
    assert (one.decode(dark).rgb[0, 0, 0], other.decode(dark).rgb[0, 0, 0]) == (4, 224)


def test_jpeg_bytes_under_the_name_of_a_raw_encoding_are_refused_with_the_remedy():
    jpeg = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    image = frame("yuv422", jpeg + bytes(64 * 48 * 2 - len(jpeg)), 64, 48)
    with pytest.raises(BadImage, match=r"called yuv422 but holds JPEG data; .*mjpeg2rgb"):
        check(image, LIMIT)
    pixels = frame("mono8", b"\xff\xd8\xff\xe0" + bytes(12), 4, 4)
    assert decode(pixels, LIMIT).rgb[0, 0].tolist() == [255] * 3


def test_a_read_only_message_buffer_is_enough():
    image = frame("bgr8", [3, 2, 1], 1, 1)
    assert not image.data.flags.writeable
    assert decode(image, LIMIT).rgb.tolist() == [[[1, 2, 3]]]


GOOD = frame("bgr8", range(12), 2, 2, 6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "no pixels"),
        ({"height": 0}, "no pixels"),
        ({"width": 0, "height": 0, "step": 0, "data": np.zeros(0, np.uint8)}, "no pixels"),
        ({"width": -2}, "no pixels"),
        ({"step": 5}, "needs 6 bytes per row, but its step is 5"),
        ({"step": 0}, "needs 6 bytes per row"),
        ({"step": 7}, "needs 14 bytes, but has 12"),
        ({"height": 3}, "needs 18 bytes, but has 12"),
        ({"data": np.zeros(11, np.uint8)}, "needs 12 bytes, but has 11"),
        ({"data": np.zeros(13, np.uint8)}, "needs 12 bytes, but has 13"),
        ({"data": np.zeros(0, np.uint8)}, "empty"),
        ({"data": np.zeros((2, 6), np.uint8)}, "not a sequence of bytes"),
        ({"data": np.zeros(12, np.float32)}, "not a sequence of bytes"),
        ({"width": 10_000, "height": 10_000, "step": 30_000}, "more than the allowed 50 megapixels"),
        ({"is_bigendian": 2}, "endianness flag 2"),
        ({"encoding": "bgr9"}, "'bgr9' is not supported; supported are rgb8"),
        ({"encoding": ""}, "'' is not supported"),
        ({"encoding": "16UC1"}, "depth image; set image_topic to a colour or grey image topic"),
        ({"encoding": "32FC1"}, "depth image"),
        ({"encoding": " 16uc1"}, "depth image"),
        ({"encoding": "h264"}, "carries H.264 video, which is not decoded here; republish it"),
        ({"encoding": "HEVC"}, "carries H.265 video"),
        ({"encoding": "jpeg"}, "raw image holds 'jpeg' data; let the camera driver publish raw pixels"),
        ({"encoding": "8UC2"}, "does not say what its two samples per pixel are"),
        ({"encoding": "32FC3"}, "'32FC3' is not supported; supported are rgb8"),
        ({"encoding": "mono8", "width": 1, "height": 10_000, "step": 1}, "more than 32 times as long"),
        ({"encoding": "yuv420", "step": 7}, "not a whole number of samples"),
        ({"encoding": "nv24", "step": 3}, "needs 18 bytes, but has 12"),
        ({"encoding": "mono16", "step": 5}, "not a whole number of samples"),
        ({"encoding": "yuv422", "width": 3}, "odd size"),
        ({"encoding": "nv12", "height": 3}, "odd size"),
        ({"encoding": "bayer_rggb8"}, "too small for a Bayer pattern"),
    ],
)
def test_a_wrong_image_is_refused_with_one_sentence(change, reason):
    with pytest.raises(BadImage, match=reason):
        check(replace(GOOD, **change), LIMIT)
    with pytest.raises(BadImage, match=reason) as caught:
        decode(replace(GOOD, **change), LIMIT)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_limit_is_the_one_that_is_asked_for():
    image = frame("mono8", bytes(200 * 100), 200, 100)
    assert decode(image, 0.02).rgb.shape == (100, 200, 3)
    with pytest.raises(BadImage, match=r"allowed 0\.0199 megapixels"):
        decode(image, 0.0199)


def _bytes(limit):
    return st.binary(max_size=limit).map(lambda raw: np.frombuffer(raw, np.uint8))


@settings(max_examples=250, deadline=None)
@given(
    encoding=st.sampled_from(sorted(LAYOUTS)) | st.text(max_size=12),
    width=st.integers(0, 12) | st.integers(-1, 2**32 - 1),
    height=st.integers(0, 12) | st.integers(-1, 2**32 - 1),
    padding=st.integers(-3, 3),
    flag=st.integers(0, 255) | st.booleans(),
    data=_bytes(400) | st.just(None),
    compressed=st.booleans(),
)
def test_whatever_a_message_holds_gives_a_picture_or_bad_image(
    encoding, width, height, padding, flag, data, compressed
):
    layout = LAYOUTS.get(encoding, Layout(1))
    step = width * layout.channels * layout.depth + padding
    if data is None:  # a payload of the right size, so that the conversions are reached too
        size = step * layout.rows(height)
        data = np.resize(np.arange(7, dtype=np.uint8), size if 0 <= size < 10_000 else 3)
    message = RawFrame(0, "", data, encoding, width, height, step, flag, compressed)
    try:
        pixels = decode(message, LIMIT).rgb
    except BadImage:
        return
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8


def test_an_opencv_error_becomes_bad_image(monkeypatch):
    def fail(*_):
        raise cv2.error("conversion exploded")

    monkeypatch.setattr(cv2, "cvtColor", fail)
    with pytest.raises(BadImage, match="OpenCV cannot convert a 'bgr8' image"):
        decode(GOOD, LIMIT)


def test_the_builtin_converter_says_why_it_was_chosen():
    converter = make_converter(Options(image_converter="builtin"))
    assert (converter.name, converter.reason[-1]) == ("builtin", ".")
    assert converter.decode(GOOD).rgb.tolist() == decode(GOOD, LIMIT).rgb.tolist()


def test_a_converter_obeys_the_size_limit_of_the_options():
    with pytest.raises(BadImage, match=r"allowed 0\.01 megapixels"):
        make_converter(Options(max_image_megapixels=0.01)).decode(frame("mono8", bytes(200 * 100), 200, 100))


def test_without_cv_bridge_auto_is_the_builtin_converter(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    converter = make_converter(Options(image_converter="auto"))
    assert converter.name == "builtin"
    assert "cv_bridge is not installed" in converter.reason


def test_a_demanded_cv_bridge_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="not installed"):
        make_converter(Options(image_converter="cv_bridge"))
