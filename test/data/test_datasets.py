"""Every official layout is read, and a wrong one is answered with the right one."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from emo_llama_ros.data.datasets import DATASETS, open_dataset, read_frames
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
        ("affectnet", "Manually_Annotated_file_lists/validation.csv", "2/c.jpg\n", "no number in the column"),
        ("ferplus", "fer2013new.csv", "emotion,pixels,Usage\n", "columns of fer2013new.csv"),
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
        ("path,label\n", None),
        ("path,label\nb.jpg,anger\n", "there is no file or folder b.jpg"),
        ("file,emotion\na.jpg,anger\n", "needs a path and a label"),
        ("path,label\na.jpg,boredom\n", "not in the label set: boredom"),
    ],
)
def test_a_faulty_list_is_explained(content, complaint, tmp_path):
    picture(tmp_path / "a.jpg")
    text(tmp_path / "mine.csv", content)
    if complaint is None:
        assert list(open_dataset(tmp_path / "mine.csv").read(tmp_path, "test")) == []
    else:
        with pytest.raises(BadData, match=complaint):
            open_dataset(tmp_path / "mine.csv")


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
