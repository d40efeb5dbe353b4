"""JPEG and PNG messages: what their pixels are, and that nothing incomplete or oversized gets through."""

import contextlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.decode import decode
from emo_llama_ros.images.headers import check
from emo_llama_ros.images.samples import SampleRange

LIMIT = 50.0


def scene(width=48, height=32):
    """A smooth RGB picture: red grows to the right, green downwards, blue is constant."""
    red = np.linspace(0, 250, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 250, height)[:, None].repeat(width, 1)
    return np.stack([red, green, np.full_like(red, 60)], axis=2).astype(np.uint8)


def encoded(extension, pixels, *parameters):
    done, data = cv2.imencode(extension, pixels, parameters)
    assert done
    return data.ravel()


def message(data, form="jpeg"):
    return RawFrame(5, "cam", np.asarray(data, np.uint8), form, compressed=True)


def rgb(data, form="jpeg"):
    return decode(message(data, form), LIMIT).rgb


BGR = np.ascontiguousarray(scene()[:, :, ::-1])
JPEG = encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 95)
PROGRESSIVE = encoded(".jpg", BGR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
PNG = encoded(".png", BGR)


@pytest.mark.parametrize("form", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8", ""])
def test_png_gives_the_exact_colours(form):
    assert np.array_equal(rgb(PNG, form), scene())


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE])
@pytest.mark.parametrize(
    "form",
    ["jpeg", "jpg", "JPEG", " Jpeg ", "image/jpeg", "png", "", "rgb8; jpeg compressed bgr8",
     "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed; bgr8", "bgr8;jpeg compressed", "; jpeg"],
)  # fmt: skip
def test_jpeg_gives_the_colours_within_its_own_loss(data, form):
    assert np.abs(rgb(data, form).astype(int) - scene()).max() <= 12


@pytest.mark.parametrize(("form", "swapped"), [
    ("rgb8; jpeg compressed rgb8", True),  # as compressed_image_transport's subscriber reads it
    ("bgr8; jpeg compressed rgb8", True),
    ("rgb8;jpeg compressed RGB8 ", True),
    ("rgb8; jpeg compressed bgr8", False),  # as its publisher writes it
    ("rgb8; jpeg compressed ", False),
    ("rgb8; jpeg", False),
    ("rgb8", False),
    ("jpeg rgb8", False),
])  # fmt: skip
def test_jpeg_holds_the_colours_of_a_picture_file_unless_its_format_says_compressed_rgb(form, swapped):
    stored = scene() if swapped else BGR  # imencode takes these bytes for BGR
    found = rgb(encoded(".jpg", stored, cv2.IMWRITE_JPEG_QUALITY, 95), form)
    assert np.abs(found.astype(int) - scene()).max() <= 12


def test_a_file_that_is_said_to_hold_rgb_is_swapped_back():
    stored_as_rgb = encoded(".png", scene())  # imencode takes these bytes for BGR
    assert np.array_equal(rgb(stored_as_rgb, "rgb8; png compressed rgb8"), scene())


def test_grey_files_become_three_equal_channels():
    grey = scene()[:, :, 0]
    assert np.array_equal(rgb(encoded(".png", grey), "mono8; png compressed "), np.dstack([grey] * 3))


def test_a_transparent_png_loses_its_alpha():
    bgra = np.dstack([BGR, np.full(BGR.shape[:2], 9, np.uint8)])
    assert np.array_equal(rgb(encoded(".png", bgra), "png"), scene())


def test_16_bit_png_is_scaled_to_8_bits():
    deep = BGR.astype(np.uint16) * 257 + 100
    assert np.array_equal(rgb(encoded(".png", deep), "bgr16; png compressed bgr16"), scene())
    assert np.array_equal(rgb(encoded(".png", deep[:, :, 0]), "mono16; png compressed ")[:, :, 0], BGR[:, :, 0])


MOSAIC = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (8, 8))


@pytest.mark.parametrize("target", ["", " ", " bgr8", " bayer_rggb8"])
def test_a_bayer_mosaic_is_demosaiced_out_of_png_and_jpeg(target):
    assert np.unique(
        rgb(encoded(".png", MOSAIC), f"bayer_rggb8; png compressed{target}").reshape(-1, 3), axis=0
    ).tolist() == [[200, 100, 50]]
    jpeg = encoded(".jpg", MOSAIC, cv2.IMWRITE_JPEG_QUALITY, 100)
    for form in (f"bayer_rggb8; jpeg compressed{target}", f"BAYER_RGGB8;jpeg  compressed{target}"):
        assert np.abs(rgb(jpeg, form).astype(int) - [200, 100, 50]).max() <= 4


def test_a_16_bit_bayer_mosaic_in_png_is_demosaiced_and_scaled():
    pixels = rgb(encoded(".png", MOSAIC.astype(np.uint16) * 257), "bayer_rggb16; png compressed ")
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


@pytest.mark.parametrize("form", ["bayer_rggb8; jpeg compressed bgr8", "bayer_rggb8; png compressed bgr8"])
def test_a_bayer_image_that_was_demosaiced_before_it_was_compressed_is_left_alone(form):
    assert np.array_equal(rgb(PNG, form), scene())
    grey = encoded(".png", MOSAIC)
    assert np.array_equal(rgb(grey, "bayer_rggb8; png compressed mono8"), np.dstack([MOSAIC] * 3))


def test_exif_orientation_is_ignored_because_calibration_knows_the_stored_pixels():
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff  # orientation 6: turn by 90°
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEG.tobytes()[2:]
    assert rgb(np.frombuffer(data, np.uint8)).shape == (32, 48, 3)


def test_a_jpeg_in_a_padded_buffer_is_accepted():
    assert np.array_equal(rgb(np.append(JPEG, np.zeros(64, np.uint8))), rgb(JPEG))


def test_a_cut_off_png_is_refused_wherever_it_was_cut():
    for end in [*range(1, len(PNG) - 12, 7), len(PNG) - 1]:
        with pytest.raises(BadImage):
            decode(message(PNG[:end]), LIMIT)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE], ids=["jpeg", "progressive"])
def test_a_cut_off_jpeg_is_refused_wherever_a_pixel_is_missing(data):
    whole = rgb(data)
    for end in [*range(1, len(data) - 12, 7), *range(len(data) - 12, len(data))]:
        try:
            shown = rgb(data[:end])
        except BadImage:
            assert end < len(data) - 2, "only the end marker is missing"
            continue
        assert np.array_equal(shown, whole)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE], ids=["jpeg", "progressive"])
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(64), b"\0\0\xff"], ids=["none", "half", "zeros", "padding"])
def test_a_jpeg_without_its_end_marker_is_shown(capfd, data, tail):
    assert np.array_equal(rgb(np.append(data[:-2], np.frombuffer(tail, np.uint8))), rgb(data))
    if not tail.strip(b"\xff"):
        assert capfd.readouterr().err == ""


def test_a_jpeg_that_lacks_its_last_rows_is_shown_and_half_a_picture_is_not():
    noise = np.random.default_rng(2).integers(0, 256, (480, 64, 3), np.uint8)
    data = encoded(".jpg", noise)
    shown = rgb(data[: round(0.98 * len(data))])
    assert np.array_equal(shown[:440], rgb(data)[:440])
    for share in (0.9, 0.5, 0.1):
        with pytest.raises(BadImage, match="cut off or damaged after"):
            rgb(data[: round(share * len(data))])


def inserted(data, at, more):
    return np.frombuffer(data.tobytes()[:at] + more + data.tobytes()[at:], np.uint8)


def boundaries(data):
    """Where a segment of the header begins, but for the first, which decoders know the file by."""
    raw = data.tobytes()
    at, found = 2, []
    while raw[at + 1] != 0xDA:
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
        found.append(at)
    return found


@pytest.mark.parametrize("stray", [b"\0\0", b"\xff\xff\xff", b"\0", b"\x12\xff\x00\x34", b"abc\xff"])
def test_stray_and_fill_bytes_between_the_segments_of_a_jpeg_change_nothing(capfd, stray):
    for data in (JPEG, PROGRESSIVE):
        for at in boundaries(data):
            assert np.array_equal(rgb(inserted(data, at, stray)), rgb(data))
    assert capfd.readouterr().err == ""  # a decoder would complain once for every frame


@pytest.mark.parametrize("tail", [b"\0" * 64, b"junk\xff\xda\0\0", JPEG.tobytes()[300:], b"\xff" * 9], ids=len)
def test_whatever_follows_the_end_marker_of_a_jpeg_is_ignored(tail):
    assert np.array_equal(rgb(inserted(JPEG, len(JPEG), tail)), rgb(JPEG))


def test_the_end_marker_of_an_embedded_preview_does_not_hide_a_cut():
    segment = b"JFXX\x00" + JPEG.tobytes()
    data = b"\xff\xd8\xff\xe0" + struct.pack(">H", len(segment) + 2) + segment + JPEG.tobytes()[2:]
    assert rgb(np.frombuffer(data, np.uint8)).shape == (32, 48, 3)
    with pytest.raises(BadImage, match="cut off"):
        rgb(np.frombuffer(data[: -len(JPEG) // 4], np.uint8))


def test_a_flipped_byte_in_a_png_is_seen_by_its_checksum():
    data = PNG.copy()
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BadImage, match="damaged"):
        rgb(data)


def jpeg_of_claimed_size(width, height):
    data = JPEG.copy()
    at = data.tobytes().index(b"\xff\xc0")
    data[at + 5 : at + 9] = np.frombuffer(struct.pack(">HH", height, width), np.uint8)
    return data


def png_of_claimed_size(width, height):
    data = bytearray(PNG.tobytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return np.frombuffer(bytes(data), np.uint8)


@pytest.mark.parametrize("build", [jpeg_of_claimed_size, png_of_claimed_size])
def test_a_claimed_size_is_refused_before_anything_is_decoded(monkeypatch, build):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder ran"))
    with pytest.raises(BadImage, match="20000×10000 has more than the allowed 50 megapixels"):
        rgb(build(20_000, 10_000))
    with pytest.raises(BadImage, match="no pixels"):
        rgb(build(0, 10))


@pytest.mark.parametrize(
    ("data", "form", "reason"),
    [
        (b"", "jpeg", "empty"),
        (b"\xff\xd8\xff", "jpeg", "no readable header"),
        (b"\xff\xd8\xff\xd9", "jpeg", "no readable header"),
        (b"\x89PNG\r\n\x1a\n", "png", "no readable header"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp", "no readable header"),
        (b"II*\0\x08\0\0\0", "tiff", "no readable header"),
        (b"GIF89a" + bytes(20), "gif", "format 'gif' is neither JPEG nor PNG, WebP or TIFF"),
        (b"not a picture", "jpeg", "neither JPEG nor PNG"),
    ],
)
def test_what_is_no_picture_is_refused_with_one_sentence(data, form, reason):
    with pytest.raises(BadImage, match=reason) as caught:
        rgb(np.frombuffer(data, np.uint8), form)
    assert "\n" not in str(caught.value)


def test_a_decoder_that_gives_up_is_bad_image(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(BadImage, match="damaged"):
        rgb(JPEG)


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from([JPEG, PROGRESSIVE, PNG]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 10**6),
    form=st.sampled_from(["jpeg", "png", "bayer_rggb8; png compressed ", "rgb8; jpeg compressed rgb8"]) | st.text(),
)
def test_a_damaged_file_gives_a_picture_or_bad_image(data, changes, end, form):
    damaged = data.copy()
    for where, value in changes:
        damaged[where % len(damaged)] = value
    if end < len(damaged):
        damaged = damaged[:end]
    try:
        pixels = decode(message(damaged, form), 1.0).rgb
    except BadImage:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("extension", "form"),
    [(".webp", "webp"), (".tiff", "tiff"), (".tiff", "bgr8; tiff compressed bgr8"), (".webp", "")],
)
def test_webp_and_tiff_give_the_colours(extension, form):
    lossless = (cv2.IMWRITE_WEBP_QUALITY, 101) if extension == ".webp" else ()
    assert np.array_equal(rgb(encoded(extension, BGR, *lossless), form), scene())


def test_a_lossy_webp_and_one_with_alpha_give_the_colours_within_their_loss():
    assert np.abs(rgb(encoded(".webp", BGR, cv2.IMWRITE_WEBP_QUALITY, 95)).astype(int) - scene()).max() <= 20
    bgra = np.dstack([BGR, np.full(BGR.shape[:2], 99, np.uint8)])
    assert np.abs(rgb(encoded(".webp", bgra, cv2.IMWRITE_WEBP_QUALITY, 95)).astype(int) - scene()).max() <= 20


def webp_of_claimed_size(width, height):
    head = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return np.frombuffer(b"RIFF\x00\x01\x00\x00WEBP" + head + size + bytes(200), np.uint8)


def tiff_of_claimed_size(width, height):
    data = encoded(".tiff", BGR).tobytes()
    for tag, value, old in ((256, width, 48), (257, height, 32)):
        for kind in (3, 4):
            form = "<HHIHH" if kind == 3 else "<HHII"
            entry = struct.pack(form, tag, kind, 1, *([old, 0] if kind == 3 else [old]))
            data = data.replace(entry, struct.pack("<HHII", tag, 4, 1, value))
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize(
    "build", [jpeg_of_claimed_size, png_of_claimed_size, webp_of_claimed_size, tiff_of_claimed_size]
)
@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (16_000, 16_000, "more than the allowed 50 megapixels"),
        (1, 10_000, "more than 32 times as long"),
        (9_900, 300, "32 times"),
    ],
)
def test_a_picture_that_is_too_large_or_too_long_is_refused_before_it_is_decoded(
    monkeypatch, build, width, height, reason
):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder ran"))
    for refuse in (decode, check):
        with pytest.raises(BadImage, match=reason):
            refuse(message(build(width, height)), LIMIT)


@pytest.mark.parametrize(("tag", "value"), [(322, 60_000), (259, 7), (259, 34712), (277, 60_000)])
def test_a_tiff_whose_form_could_cost_more_than_its_pixels_is_refused(tag, value):
    data = encoded(".tiff", BGR).tobytes()
    at = struct.unpack_from("<I", data, 4)[0] + 2
    tags = {struct.unpack_from("<H", data, entry)[0]: entry for entry in range(at, at + 120, 12)}
    entry = tags.get(tag, tags[max(t for t in tags if t < 400)])
    data = data[:entry] + struct.pack("<HHII", tag, 4, 1, value) + data[entry + 12 :]
    with pytest.raises(BadImage, match="rare form"):
        rgb(np.frombuffer(data, np.uint8), "tiff")


def test_a_small_picture_with_a_huge_payload_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder ran"))
    for data in (JPEG, PNG):
        with pytest.raises(BadImage, match="payload of 9 MB, far more than its pixels need"):
            check(message(np.append(data, np.zeros(9_000_000, np.uint8))), LIMIT)


def test_a_progressive_jpeg_of_absurdly_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    raw = PROGRESSIVE.tobytes()
    last = raw.rindex(b"\xff\xda")
    bomb = raw[:last] + raw[last:-2] * 12_000 + b"\xff\xd9"
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder ran"))
    with pytest.raises(BadImage, match="too many scans"):
        rgb(np.frombuffer(bomb[:3_000_000], np.uint8))


def test_a_large_picture_may_have_fewer_scans_than_a_small_one():
    raw = jpeg_of_claimed_size(8_000, 6_000).tobytes()
    last = raw.rindex(b"\xff\xda")
    with pytest.raises(BadImage, match="too many scans: 17"):
        rgb(np.frombuffer(raw[:last] + raw[last:-2] * 30 + raw[-2:], np.uint8))


@pytest.mark.parametrize("worth", [b"\xff\xfe\0\2", b"\xff\x01", b"\xff\xd0"])
def test_a_jpeg_of_endless_segments_is_refused_before_it_is_decoded(monkeypatch, worth):
    data = b"\xff\xd8" + b"\xff\xe0\0\2" + worth * 500_000
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder ran"))
    with pytest.raises(BadImage, match="segments"):
        rgb(np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"\x00" * 12 + PNG.tobytes(), "16UC1; compressedDepth png"),
        (b"\x00" * 12 + PNG.tobytes(), "32FC1; compressedDepth png"),
        (b"\x00" * 12 + PNG.tobytes(), ""),
        (b"\x00" * 90, "16UC1; compressedDepth rvl"),
        (b"\x00" * 90, "32FC1; compressedDepth"),
        (encoded(".png", BGR[:, :, 0].astype(np.uint16)).tobytes(), "16UC1; png compressed "),
        (encoded(".png", BGR[:, :, 0].astype(np.uint16)).tobytes(), " 16uc1 ;png compressed"),
        (encoded(".tiff", BGR[:, :, 0].astype(np.float32)).tobytes(), "32FC1; tiff compressed"),
    ],
)
def test_compressed_depth_is_refused_with_a_sentence_that_asks_for_a_colour_topic(data, form):
    with pytest.raises(BadImage, match=r"depth image; set image_topic to a colour or grey image topic"):
        check(message(np.frombuffer(data, np.uint8), form), LIMIT)


@pytest.mark.parametrize(
    ("data", "form", "codec"),
    [
        (b"\0\0\0\1\x67\x42", "h264", "H.264"),
        (b"\0\0\1\x65", "", "H.264 or H.265"),
        (b"\0\0\0\1\x40\1", "hevc", "H.265"),
        (b"\x12\0", "rgb8; libx264;av1", "AV1"),
        (b"\0\0\0\1\x67", "bgr8; h264 compressed bgr8", "H.264"),
    ],
)
def test_video_is_refused_with_a_sentence_that_says_what_to_do(data, form, codec):
    with pytest.raises(BadImage, match=f"carries {'.*' if 'av1' in form else codec} video.*republish"):
        check(message(np.frombuffer(data + bytes(50), np.uint8), form), LIMIT)


def test_a_compressed_image_of_a_10_bit_sensor_is_not_black():
    deep = BGR[:, :, 0].astype(np.uint16) * 4
    frame = message(encoded(".png", deep), "mono16; png compressed ")
    assert np.abs(decode(frame, LIMIT, SampleRange()).rgb[:, :, 0].astype(int) - BGR[:, :, 0]).max() <= 1


@settings(max_examples=100, deadline=None)
@given(
    data=st.sampled_from([encoded(".webp", BGR), encoded(".tiff", BGR), PROGRESSIVE]),
    cuts=st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6)), max_size=4),
    drop=st.integers(0, 30),
)
def test_a_file_with_bytes_put_in_gives_a_picture_or_bad_image(data, cuts, drop):
    raw = data.tobytes()
    for at, more in cuts:
        raw = raw[: at % len(raw)] + more + raw[at % len(raw) :]
    with contextlib.suppress(BadImage):
        assert decode(message(np.frombuffer(raw[: len(raw) - drop], np.uint8)), 1.0).rgb.ndim == 3
