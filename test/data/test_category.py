"""Category items ask for one word out of the dataset's own labels."""

import sys
from pathlib import Path

from emo_llama_ros.data.category import category_records
from emo_llama_ros.data.datasets import DATASETS
from emo_llama_ros.data.records import read_records, write_records

sys.path.insert(0, str(Path(__file__).parent))
from dataset_trees import dfew, raf_db


def test_an_image_is_asked_for_one_of_the_labels_in_their_order(tmp_path):
    raf_db(tmp_path)
    out = tmp_path / "records/raf.jsonl"
    write_records(out, category_records(DATASETS["raf-db"], tmp_path, "train", relative_to=out.parent))
    first = next(read_records(out))
    assert first.turns[0].question == (
        "What is the facial expression of the person in the image? Please choose one from the following options: "
        "{surprise, fear, disgust, happiness, sadness, anger, neutral}."
    )
    assert first.turns[0].answer == first.label == "sadness"
    assert (first.medium, first.kind, first.dataset) == ("image", "category", "raf-db")
    assert (out.parent / first.path).is_file()


def test_a_clip_is_a_video_and_knows_its_fold(tmp_path):
    dfew(tmp_path)
    records = list(category_records(DATASETS["dfew"], tmp_path, "train", 2))
    assert [r.medium for r in records] == ["video", "video"]
    assert "in the video?" in records[0].turns[0].question
    assert [r.id for r in records] == ["dfew/train/2/00002", "dfew/train/2/00003"]
    assert Path(records[0].path).is_absolute()
