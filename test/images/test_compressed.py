"""JPEG and PNG messages: what their pixels are, and that nothing incomplete or oversized gets through."""

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
@pytest.mark.parametrize("form", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8"])
def test_jpeg_gives_the_colours_within_its_own_loss(data, form):
    assert np.abs(rgb(data, form).astype(int) - scene()).max() <= 12


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


def test_a_bayer_mosaic_in_png_is_demosaiced():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (4, 5))
    pixels = rgb(encoded(".png", mosaic), "bayer_rggb8; png compressed ")
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


def test_exif_orientation_is_ignored_because_calibration_knows_the_stored_pixels():
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff  # orientation 6: turn by 90°
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEG.tobytes()[2:]
    assert rgb(np.frombuffer(data, np.uint8)).shape == (32, 48, 3)


def test_a_jpeg_in_a_padded_buffer_is_accepted():
    assert np.array_equal(rgb(np.append(JPEG, np.zeros(64, np.uint8))), rgb(JPEG))


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG], ids=["jpeg", "progressive", "png"])
def test_a_cut_off_file_is_refused_wherever_it_was_cut(data):
    for end in [*range(1, len(data) - 12, 7), len(data) - 1]:
        with pytest.raises(BadImage):
            decode(message(data[:end]), LIMIT)


def test_the_end_marker_of_an_embedded_preview_does_not_hide_a_cut():
    preview = JPEG.tobytes()
    segment = b"JFXX\x00" + preview
    data = b"\xff\xd8\xff\xe0" + struct.pack(">H", len(segment) + 2) + segment + JPEG.tobytes()[2:]
    assert rgb(np.frombuffer(data, np.uint8)).shape == (32, 48, 3)
    with pytest.raises(BadImage, match="cut off"):
        rgb(np.frombuffer(data[:-40], np.uint8))


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
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp", "format 'webp' is neither JPEG nor PNG"),
        (b"\x00" * 12 + PNG.tobytes(), "16UC1; compressedDepth png", "neither JPEG nor PNG"),
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


@settings(max_examples=300, deadline=None)
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
