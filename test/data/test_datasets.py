"""Every official layout is read, and a wrong one is answered with the right one."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from emo_llama_ros.data.datasets import DATASETS, LeftOut, open_dataset, read_frames
from emo_llama_ros.data.datasets.media import segment_centres
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import MAFW

sys.path.insert(0, str(Path(__file__).parent))
import dataset_trees
from dataset_trees import TREES, picture, text, video


def labels(root, name, split, fold=0):
    return [(s.id, s.label) for s in DATASETS[name].read(root, split, fold)]


@pytest.mark.parametrize("name", TREES)
def test_a_dataset_is_recognized_by_its_files_and_its_samples_exist(name, tmp_path):
    TREES[name](tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.name == name
    for split in dataset.splits:
        samples = list(dataset.read(tmp_path, split, 1))
        assert samples, split
        assert all(s.path.exists() and s.label in dataset.label_set.labels and s.split == split for s in samples)
        assert len({s.id for s in samples}) == len(samples)
        assert all(s.fold == (1 if dataset.folds else 0) for s in samples)


def test_raf_db_counts_labels_from_one(tmp_path):
    dataset_trees.raf_db(tmp_path)
    assert labels(tmp_path, "raf-db", "train") == [("train_00001", "sadness"), ("train_00002", "surprise")]
    assert labels(tmp_path / "basic", "raf-db", "test") == [("test_0001", "neutral")]


def test_affectnet_leaves_out_what_is_no_expression_and_reads_lists_without_header(tmp_path):
    dataset_trees.affectnet_lists(tmp_path)
    assert labels(tmp_path, "affectnet", "train") == [("1/a.jpg", "contempt")]
    assert labels(tmp_path, "affectnet", "validation") == [("2/c.jpg", "happiness"), ("2/d.jpg", "contempt")]
    assert labels(tmp_path, "affectnet-7", "validation") == [("2/c.jpg", "happiness")]


def test_affectnet_reads_the_release_with_one_array_per_image(tmp_path):
    dataset_trees.affectnet_arrays(tmp_path)
    assert open_dataset(tmp_path).name == "affectnet"
    assert labels(tmp_path, "affectnet", "validation") == [("0", "surprise"), ("2", "neutral"), ("10", "contempt")]


def test_ferplus_keeps_faces_on_which_the_taggers_agree(tmp_path):
    dataset_trees.ferplus(tmp_path)
    assert labels(tmp_path, "ferplus", "train") == [("fer0000001", "happiness")]
    assert labels(tmp_path, "ferplus", "validation") == [("fer0028638", "fear")]
    assert labels(tmp_path, "ferplus", "test") == [("fer0032221", "sadness")]


def test_dfew_has_five_folds(tmp_path):
    dataset_trees.dfew(tmp_path)
    found = [labels(tmp_path, "dfew", "test", fold)[0][1] for fold in range(1, 6)]
    assert found == ["happiness", "sadness", "neutral", "anger", "surprise"]
    assert labels(tmp_path, "dfew", "train", 1) == [("00002", "anger"), ("00003", "fear")]
    with pytest.raises(BadData, match="folds 1 to 5, not 0"):
        list(DATASETS["dfew"].read(tmp_path, "test"))


def test_dfew_reads_original_videos_where_no_frames_were_cut(tmp_path):
    dataset_trees.dfew(tmp_path)
    shutil.rmtree(tmp_path / "Clip/clip_224x224")
    for part, number in ((1, 1), (2, 2), (2, 3)):
        video(tmp_path / f"Clip/original/part_{part}/{number}.mp4", frames=2)
    assert [s.path.name for s in DATASETS["dfew"].read(tmp_path, "train", 5)] == ["2.mp4", "3.mp4"]


def test_ferv39k_scene_names_may_have_spaces(tmp_path):
    dataset_trees.ferv39k(tmp_path)
    assert labels(tmp_path, "ferv39k", "train") == [
        ("Action/Happy/0267", "happiness"),
        ("Daily Life/Angry/0010", "anger"),
    ]


def test_mafw_has_eleven_expressions(tmp_path):
    dataset_trees.mafw(tmp_path)
    assert labels(tmp_path, "mafw", "train", 3) == [("00001", "anger"), ("00002", "helplessness")]
    assert labels(tmp_path, "mafw", "test", 3) == [("00003", "disappointment")]


@pytest.mark.parametrize("name", TREES)
def test_a_wrong_layout_is_answered_with_the_right_one(name, tmp_path):
    dataset = DATASETS[name]
    with pytest.raises(BadData) as error:
        list(dataset.read(tmp_path, dataset.test_split, 1))
    assert f"not laid out as {name}" in str(error.value)
    assert dataset.tree in str(error.value)


def test_a_listed_picture_that_is_missing_is_named(tmp_path):
    dataset_trees.raf_db(tmp_path)
    (tmp_path / "basic/Image/aligned/test_0001_aligned.jpg").unlink()
    with pytest.raises(BadData, match=r"lists basic/Image/aligned/test_0001_aligned\.jpg, which is not there"):
        labels(tmp_path, "raf-db", "test")


@pytest.mark.parametrize(
    ("name", "file", "content", "complaint"),
    [
        ("raf-db", "basic/EmoLabel/list_patition_label.txt", "test_0001.jpg 12\n", "label from 1 to 7"),
        ("affectnet", "Manually_Annotated_file_lists/validation.csv", "2/c.jpg\n", "line 1 has no number from 0 to 10"),
        ("ferplus", "fer2013new.csv", "emotion,pixels,Usage\n", "fer2013new.csv, line 1: the usage is"),
        ("dfew", "EmoLabel_DataSplit/test(single-labeled)/set_1.csv", "a,b\n1,1\n", "no columns video_name"),
        ("ferv39k", "4_setups/All_scenes/test_All.csv", "Action/Sad/0001 Bored\n", "is not 'clip label'"),
        ("mafw", "Train & Test Set/single/no_caption/set_1/test.txt", "00003.mp4\n", "is not 'clip label'"),
    ],
)  # fmt: skip
def test_a_damaged_list_is_named_with_its_fault(name, file, content, complaint, tmp_path):
    TREES[name](tmp_path)
    text(tmp_path / file, content)
    with pytest.raises(BadData, match=complaint):
        labels(tmp_path, name, DATASETS[name].test_split, 1)


def test_unknown_splits_and_names_are_refused(tmp_path):
    with pytest.raises(BadData, match="no split 'test'; choose one of train, validation"):
        list(DATASETS["affectnet"].read(tmp_path, "test"))
    with pytest.raises(BadData, match="no dataset 'imagenet'"):
        open_dataset(tmp_path, "imagenet")
    with pytest.raises(BadData, match="none of the known datasets"):
        open_dataset(tmp_path)


def test_reading_is_lazy(tmp_path):
    dataset_trees.raf_db(tmp_path)
    samples = DATASETS["raf-db"].read(tmp_path, "train")
    first = next(samples)
    (tmp_path / "basic/Image/aligned/train_00002_aligned.jpg").unlink()
    assert first.id == "train_00001"
    with pytest.raises(BadData):
        next(samples)


def test_a_folder_per_label_is_a_dataset(tmp_path):
    picture(tmp_path / "Happy/1.jpg")
    picture(tmp_path / "sadness/clip/1.jpg")
    (tmp_path / "notes").mkdir()
    dataset = open_dataset(tmp_path)
    assert dataset.label_set.name == "raf-db"
    assert [(s.id, s.label) for s in dataset.read(tmp_path, "test")] == [
        ("Happy/1.jpg", "happiness"),
        ("sadness/clip", "sadness"),
    ]


def test_a_list_of_paths_and_labels_is_a_dataset(tmp_path):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "mine.csv", "path,label,split\na.jpg,Joy,test\n")
    text(tmp_path / "mine.jsonl", '{"image": "a.jpg", "label": "contempt"}\n')
    assert [s.label for s in open_dataset(tmp_path / "mine.csv").read(tmp_path, "test")] == ["happiness"]
    assert open_dataset(tmp_path / "mine.jsonl").label_set.name == "affectnet"
    assert open_dataset(tmp_path / "mine.jsonl", labels=MAFW).label_set.name == "mafw"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("path,label\n\nb.jpg,anger\n", "line 3 lists b.jpg, which is not there"),
        ("file,emotion\na.jpg,anger\n", "needs a path and a label"),
        ("path,label\na.jpg,boredom\n", "not in the label set: boredom"),
    ],
)
def test_a_faulty_list_is_explained(content, complaint, tmp_path):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "mine.csv", content)
    with pytest.raises(BadData, match=complaint):
        list(open_dataset(tmp_path / "mine.csv").read(tmp_path, "test"))


def test_a_list_of_nothing_but_its_header_has_no_samples(tmp_path):
    text(tmp_path / "mine.csv", "path,label\n")
    assert list(open_dataset(tmp_path / "mine.csv").read(tmp_path, "test")) == []


def test_frames_of_a_folder_come_in_the_order_of_their_numbers(tmp_path):
    dataset_trees.dfew(tmp_path)
    frames = read_frames(tmp_path / "Clip/clip_224x224/00001", 16)
    assert [round(float(f.rgb.mean()), -1) for f in frames] == [10, 20, 100]
    assert [f.stamp_ns for f in frames] == [0, 40_000_000, 80_000_000]


def test_frames_of_a_video_are_segment_centres_with_their_stamps(tmp_path):
    video(tmp_path / "v.mp4", frames=10, fps=10)
    frames = read_frames(tmp_path / "v.mp4", 5)
    assert [f.stamp_ns for f in frames] == [100_000_000 * i for i in (1, 3, 5, 7, 9)]
    assert all(abs(float(f.rgb.mean()) - 20 * i) < 8 for f, i in zip(frames, (1, 3, 5, 7, 9), strict=True))


def test_an_image_is_one_frame_in_rgb(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 6, 3), (0, 0, 255), np.uint8))
    (frame,) = read_frames(tmp_path / "red.png", 8)
    assert frame.rgb.shape == (4, 6, 3)
    assert frame.rgb[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["broken.jpg", "empty.png", "broken.mp4"])
def test_a_damaged_file_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"not a picture")
    with pytest.raises(BadData, match=name):
        read_frames(tmp_path / name, 4)


def test_segment_centres_are_even_and_never_repeat():
    assert segment_centres(16, 4) == [2, 6, 10, 14]
    assert segment_centres(3, 8) == [0, 1, 2]
    assert segment_centres(1, 16) == [0]


LISTS = {
    "raf-db": ("basic/EmoLabel/list_patition_label.txt", "train"),
    "affectnet": ("Manually_Annotated_file_lists/training.csv", "train"),
    "ferplus": ("fer2013new.csv", "train"),
    "dfew": ("EmoLabel_DataSplit/train(single-labeled)/set_1.csv", "train"),
    "ferv39k": ("4_setups/All_scenes/train_All.csv", "train"),
    "mafw": ("Train & Test Set/single/no_caption/set_1/train.txt", "train"),
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_says_the_same_in_every_encoding_and_with_blank_rows(name, encoding, tmp_path):
    TREES[name](tmp_path)
    file, split = LISTS[name]
    before = labels(tmp_path, name, split, 1)
    saved = "\n" + (tmp_path / file).read_text().replace("\n", "\r\n\r\n") + "  \r\n,,\r\n" * file.endswith(".csv")
    if name == "ferv39k":
        saved = saved.replace(",,", "")  # a list of names, not of cells
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / file).write_bytes((mark + saved).encode(encoding))
    assert labels(tmp_path, name, split, 1) == before


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        ("raf-db", "test_0002.jpg -1", "list_patition_label.txt, line 4"),
        ("raf-db", "something.jpg 3", "list_patition_label.txt, line 4"),
        ("affectnet", "1/a.jpg,0,0,8,8,1;2,-1,0,0", "training.csv, line 4"),
        ("affectnet", "1/a.jpg,0,0,8,8,1;2,11,0,0", "training.csv, line 4"),
        ("ferplus", "Trainig,fer0000001.png,1,8,0,0,0,0,0,1,0,0", "fer2013new.csv, line 8: the usage is 'Trainig'"),
        ("ferplus", "Training", "fer2013new.csv, line 8"),
        ("dfew", "4,0", "set_1.csv, line 4"),
        ("ferv39k", "Action/Happy/0267", "train_All.csv, line 3"),
        ("mafw", "00001.mp4 boredom", "train.txt, line 3"),
    ],
)
def test_a_line_that_says_nothing_is_named_by_its_number(name, line, complaint, tmp_path):
    TREES[name](tmp_path)
    with (tmp_path / LISTS[name][0]).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadData, match=complaint.replace(".", r"\.")):
        labels(tmp_path, name, LISTS[name][1], 1)


@pytest.mark.parametrize("code", ["-1", "11", "nan", "x", ""])
def test_an_affectnet_code_that_is_no_expression_never_becomes_one(code, tmp_path):
    dataset_trees.affectnet_arrays(tmp_path)
    np.save(tmp_path / "val_set/annotations/2_exp.npy", np.array(code))
    with pytest.raises(BadData, match=r"val_set/annotations/2_exp\.npy holds no number from 0 to 10"):
        labels(tmp_path, "affectnet", "validation")
    left_out = LeftOut()
    found = [s.id for s in DATASETS["affectnet"].read(tmp_path, "validation", left_out=left_out)]
    assert found == ["0", "10"]
    assert left_out.counts == {"has no label from 0 to 10": 1}


def test_a_damaged_annotation_is_left_out(tmp_path):
    dataset_trees.affectnet_arrays(tmp_path)
    (tmp_path / "val_set/annotations/2_exp.npy").write_bytes(b"")
    left_out = LeftOut()
    assert len(list(DATASETS["affectnet"].read(tmp_path, "validation", left_out=left_out))) == 2
    assert left_out.examples == {"has no label from 0 to 10": ["val_set/annotations/2_exp.npy"]}


@pytest.mark.parametrize("name", ["raf-db", "affectnet", "ferplus", "dfew", "ferv39k", "mafw"])
def test_a_listed_sample_that_is_missing_is_counted_where_the_caller_counts(name, tmp_path):
    TREES[name](tmp_path)
    dataset, split = DATASETS[name], {"raf-db": "train", "affectnet": "validation"}.get(name, "train")
    samples = list(dataset.read(tmp_path, split, 1))
    missing = samples[0].path
    shutil.rmtree(missing) if missing.is_dir() else missing.unlink()
    left_out = LeftOut()
    if len(samples) > 1:
        assert list(dataset.read(tmp_path, split, 1, left_out)) == samples[1:]
        assert left_out.counts["is listed, but not there"] == 1
    else:
        with pytest.raises(BadData, match="none of the 1 samples is there"):
            list(dataset.read(tmp_path, split, 1, left_out))


def test_hidden_files_and_what_is_no_picture_are_no_samples_and_are_counted(tmp_path):
    for label in ("happy", "sad"):
        picture(tmp_path / label / "a.jpg")
        (tmp_path / label / "._a.jpg").write_bytes(b"\0\5\x16\7Mac OS X")
        (tmp_path / label / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        picture(tmp_path / label / ".ipynb_checkpoints/a-checkpoint.jpg")
        picture(tmp_path / label / "__MACOSX/a.jpg")
        (tmp_path / label / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (tmp_path / label / "empty.jpg").touch()
        (tmp_path / label / "clip").mkdir()
    (tmp_path / "boredom").mkdir()
    left_out = LeftOut()
    samples = list(open_dataset(tmp_path).read(tmp_path, "test", left_out=left_out))
    assert [s.id for s in samples] == ["happy/a.jpg", "sad/a.jpg"]
    assert left_out.counts == {
        "is hidden, or a leftover of another system": 8,
        "is neither picture nor video": 2,
        "is empty": 2,
        "is a folder without pictures": 2,
        "is a folder whose name is no label": 1,
    }
    assert "2 × is empty (happy/empty.jpg, sad/empty.jpg)" in left_out.lines()


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".tiff", ".gif", ".jp2", ".ppm", ".avif", ".png", ".webp", ".bmp"])
def test_every_kind_of_picture_is_a_sample_whatever_its_name(suffix, tmp_path):
    from PIL import Image

    (tmp_path / "happy").mkdir()
    form = {".jpg": "JPEG", ".jfif": "JPEG", ".tiff": "TIFF", ".gif": "GIF", ".jp2": "JPEG2000", ".ppm": "PPM"}
    for name in (f"a{suffix}", f"b{suffix.upper()}", "without"):
        Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "happy" / name, form.get(suffix, suffix[1:].upper()))
    samples = list(open_dataset(tmp_path).read(tmp_path, "test"))
    assert [s.id for s in samples] == [f"happy/a{suffix}", f"happy/b{suffix.upper()}", "happy/without"]
    for sample in samples:
        assert sample.is_image
        (frame,) = read_frames(sample.path, 4)
        assert frame.rgb[4, 4].tolist() == pytest.approx([250, 0, 0], abs=8)


@pytest.mark.parametrize("name", ["2024-01-01T12:30:05", "caf\udce9", "frame%d", "a b", "日本"])
def test_names_may_hold_anything_that_a_file_system_takes(name, tmp_path):
    picture(tmp_path / "plain.jpg")
    video(tmp_path / "plain.mp4", frames=4)
    for suffix in (".jpg", ".mp4"):
        shutil.copy(tmp_path / f"plain{suffix}", tmp_path / f"{name}{suffix}")
    assert len(read_frames(tmp_path / f"{name}.jpg", 3)) == 1
    assert len(read_frames(tmp_path / f"{name}.mp4", 3)) == 3


def test_a_huge_picture_is_refused_by_its_header(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(BadData, match=r"huge\.png has .*megapixels"):
        read_frames(tmp_path / "huge.png", 1)


def test_a_video_without_a_frame_count_is_read_to_its_end(tmp_path):
    video(tmp_path / "v.avi", frames=12, fps=10)
    content = bytearray((tmp_path / "v.avi").read_bytes())
    for sign, at in ((b"avih", 24), (b"strh", 40)):  # the two places where an AVI states its number of frames
        start = content.index(sign) + at
        content[start : start + 4] = bytes(4)
    content = content[: content.index(b"idx1")]  # what a camera that lost power leaves
    (tmp_path / "cut.avi").write_bytes(content)
    frames = read_frames(tmp_path / "cut.avi", 4)
    assert [f.stamp_ns for f in frames] == [100_000_000 * i for i in (1, 4, 7, 10)]


def test_a_video_that_states_too_many_frames_is_spread_over_those_that_it_has(tmp_path):
    video(tmp_path / "v.avi", frames=12, fps=10)
    content = bytearray((tmp_path / "v.avi").read_bytes())
    for sign, at in ((b"avih", 24), (b"strh", 40)):
        start = content.index(sign) + at
        content[start : start + 4] = (90).to_bytes(4, "little")
    (tmp_path / "long.avi").write_bytes(content)
    assert [f.stamp_ns for f in read_frames(tmp_path / "long.avi", 4)] == [100_000_000 * i for i in (1, 4, 7, 10)]


def test_a_damaged_frame_of_a_folder_does_not_lose_the_clip(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.jpg", value=10 * i)
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (tmp_path / "._3.jpg").write_bytes(b"\xff\xd8\xff hidden")
    assert [f.stamp_ns // 40_000_000 for f in read_frames(tmp_path, 8)] == [0, 1, 3]


def test_a_list_may_be_divided_by_semicolons_and_say_who_is_seen(tmp_path):
    picture(tmp_path / "happy/a.jpg")
    (tmp_path / "mine.csv").write_text("Path;Label;Person\n\nhappy\\a.jpg;Joy;p7\n", encoding="utf-16")
    (sample,) = open_dataset(tmp_path / "mine.csv").read(tmp_path / "mine.csv", "test")
    assert (sample.label, sample.person) == ("happiness", "p7")


def test_a_fold_that_is_no_number_is_named_with_its_line(tmp_path):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "mine.csv", "path,label,fold\na.jpg,happy,fold1\n")
    with pytest.raises(BadData, match="line 2: the fold is 'fold1', not a number"):
        open_dataset(tmp_path / "mine.csv")


def test_ferplus_of_one_file_gives_the_same_samples_as_its_pictures(tmp_path):
    from ferplus_files import arrays, faces, write_csv, write_folders

    rows = faces(24)
    write_folders(tmp_path / "pictures", rows)
    write_csv(tmp_path / "csv", rows)
    np.savez(tmp_path / "faces.npz", **arrays(rows))
    pictures = open_dataset(tmp_path / "pictures")
    for split in ("train", "validation", "test"):
        expected = list(pictures.read(tmp_path / "pictures", split))
        assert expected
        for root in (tmp_path / "csv", tmp_path / "csv/fer2013.csv", tmp_path / "faces.npz"):
            dataset = open_dataset(root)
            assert dataset.name == "ferplus"
            found = list(dataset.read(root, split))
            assert [(s.id, s.label, s.votes) for s in found] == [(s.id, s.label, s.votes) for s in expected]
            for one, other in zip(found, expected, strict=True):
                (frame,) = read_frames(other.path, 1)
                assert np.array_equal(one.picture, frame.rgb)


def test_ferplus_without_its_test_split_is_tested_on_the_last_that_is_there(tmp_path):
    from ferplus_files import arrays, faces

    np.savez(tmp_path / "faces.npz", **arrays([r for r in faces(24) if r.usage != "PrivateTest"]))
    dataset = open_dataset(tmp_path / "faces.npz")
    assert dataset.splits == ("train", "validation")
    assert dataset.test_split == "validation"
