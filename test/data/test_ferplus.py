"""FER+ is the same faces whichever way it is stored, and a fault in it is named with its line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from emo_llama_ros.data.ferplus import VOTE_NAMES, majority_of, read_voted_faces, vote_shares
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import AFFECTNET_7, FERPLUS, MAFW

sys.path.insert(0, str(Path(__file__).parent))
from ferplus_files import FOLDERS, USAGES, arrays, faces, pixels_csv, votes_csv, write_csv, write_folders

ROWS = faces()
NAMED = [r for r in ROWS if r.name]


def check_is(found, rows):
    assert found.names == tuple(r.name for r in rows)
    assert found.images.shape == (len(rows), 48, 48)
    assert found.images.dtype == found.votes.dtype == np.uint8
    assert np.array_equal(found.images, np.stack([r.image for r in rows]))
    assert np.array_equal(found.votes, np.array([r.votes for r in rows]))
    assert found.split.tolist() == [("Training", "PublicTest", "PrivateTest").index(r.usage) for r in rows]
    assert found.group[1] == found.group[2]  # the same picture twice
    assert len(set(found.group.tolist())) == len(rows) - 1


def test_the_official_csv_files_are_read_side_by_side(tmp_path):
    write_csv(tmp_path, ROWS)
    found = read_voted_faces(tmp_path)
    check_is(found, NAMED)
    assert found.fer2013.tolist() == [r.emotion for r in NAMED]
    assert found.left_out == {"shows no face (FER+ gives it no name)": 1}


def test_the_two_csv_files_may_lie_apart(tmp_path):
    (tmp_path / "faces.csv").write_text(pixels_csv(ROWS))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/votes.csv").write_text(votes_csv(ROWS))
    check_is(read_voted_faces(tmp_path / "faces.csv", tmp_path / "elsewhere/votes.csv"), NAMED)


def test_kaggles_order_of_columns_with_spaces_is_read(tmp_path):
    write_csv(tmp_path, ROWS)
    cells = [line.split(",") for line in pixels_csv(ROWS).splitlines()]
    (tmp_path / "fer2013.csv").unlink()
    (tmp_path / "icml_face_data.csv").write_text("\n".join(f"{a}, {c}, {b}" for a, b, c in cells))
    check_is(read_voted_faces(tmp_path), NAMED)


@pytest.mark.parametrize("names", [FOLDERS, USAGES])
@pytest.mark.parametrize("label_csv", [False, True])
@pytest.mark.parametrize("below", ["", "data"])
def test_folders_of_pictures_are_read_with_one_list_or_one_per_folder(names, label_csv, below, tmp_path):
    write_folders(tmp_path / below, ROWS, names, label_csv)
    found = read_voted_faces(tmp_path)
    check_is(found, NAMED)
    assert found.fer2013 is None


def test_folders_of_some_splits_are_enough(tmp_path):
    write_folders(tmp_path, ROWS, label_csv=True)
    for file in (tmp_path / "FER2013Test").iterdir():
        file.unlink()
    (tmp_path / "FER2013Test").rmdir()
    assert read_voted_faces(tmp_path).names == tuple(r.name for r in NAMED if r.usage != "PrivateTest")


def test_arrays_are_read_and_what_they_lack_is_computed(tmp_path):
    np.savez(tmp_path / "faces.npz", **arrays(ROWS))
    found = read_voted_faces(tmp_path / "faces.npz")
    check_is(found, NAMED)
    assert np.array_equal(found.majority, majority_of(found.votes))
    bare = {name: value for name, value in arrays(ROWS).items() if name in ("images", "votes", "split")}
    np.savez(tmp_path / "bare.npz", **bare)
    found = read_voted_faces(tmp_path / "bare.npz")
    assert found.fer2013 is None
    assert len(set(found.names)) == len(found) == len(NAMED)


def test_a_majority_needs_more_than_half_of_the_votes_that_are_not_single():
    votes = {
        (5, 5, 0, 0, 0, 0, 0, 0, 0, 0): -1,  # exactly half
        (4, 3, 1, 1, 1, 0, 0, 0, 0, 0): 0,  # 4 of 7: the single votes do not count
        (0, 0, 0, 0, 0, 0, 2, 1, 0, 7): -1,  # not a face
        (0, 0, 0, 0, 0, 0, 0, 6, 4, 0): 7,
        (1, 1, 1, 1, 1, 1, 1, 1, 1, 1): -1,
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0): -1,
    }
    found = majority_of(np.array(list(votes), np.uint8))
    assert found.tolist() == list(votes.values())
    assert found.dtype == np.int8


def test_shares_are_of_those_who_chose_one_of_the_labels():
    votes = np.array([[4, 0, 0, 2, 0, 0, 0, 2, 2, 0], [0, 0, 0, 0, 0, 0, 0, 0, 3, 7]], np.uint8)
    assert vote_shares(votes, FERPLUS)[0].tolist() == [0.5, 0, 0, 0.25, 0, 0, 0, 0.25]
    without_contempt = vote_shares(votes, AFFECTNET_7)[0]
    assert dict(zip(AFFECTNET_7.labels, without_contempt, strict=True))["sadness"] == pytest.approx(1 / 3)
    assert vote_shares(votes, MAFW)[0].sum() == pytest.approx(1.0)
    assert vote_shares(votes, FERPLUS)[1].sum() == 0
    assert VOTE_NAMES[:8] == FERPLUS.labels


def test_a_split_keeps_its_faces_together(tmp_path):
    write_csv(tmp_path, ROWS)
    train = read_voted_faces(tmp_path).of_split("train")
    assert train.names == tuple(r.name for r in NAMED if r.usage == "Training")
    assert len(train.fer2013) == len(train.group) == len(train.majority) == len(train)
    with pytest.raises(BadData, match="no split 'public'; choose one of train, validation, test"):
        train.of_split("public")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_votes_that_a_spreadsheet_saved_are_the_same_votes(encoding, tmp_path):
    write_csv(tmp_path, ROWS)
    text = votes_csv(ROWS).replace(",0,", ",,").replace(",2", ",2.0").replace("\n", "\n\n") + ",,,\n"
    mark = "\ufeff" if encoding.endswith("be") else ""
    (tmp_path / "fer2013new.csv").write_bytes((mark + text).replace("\n", "\r\n").encode(encoding))
    check_is(read_voted_faces(tmp_path), NAMED)


def damaged(rows, file, line, change):
    text = {"fer2013.csv": pixels_csv, "fer2013new.csv": votes_csv}[file](rows).splitlines()
    text[line - 1] = change(text[line - 1])
    return "\n".join(text)


@pytest.mark.parametrize(
    ("file", "line", "change", "complaint"),
    [
        ("fer2013new.csv", 3, lambda t: t.replace("Training", "PublicTest"),
         "line 3 is of 'Training', but fer2013new.csv, line 3"),
        ("fer2013new.csv", 4, lambda t: t + ",1", None),
        ("fer2013new.csv", 4, lambda t: t.rpartition(",")[0], "fer2013new.csv, line 4 does not end with 10 counts"),
        ("fer2013new.csv", 4, lambda t: t.rpartition(",")[0] + ",x", "fer2013new.csv, line 4"),
        ("fer2013new.csv", 4, lambda t: t.rpartition(",")[0] + ",-1", "fer2013new.csv, line 4"),
        ("fer2013new.csv", 4, lambda t: t.rpartition(",")[0] + ",nan", "fer2013new.csv, line 4"),
        ("fer2013new.csv", 4, lambda t: t.rpartition(",")[0] + ",0.5", "fer2013new.csv, line 4"),
        ("fer2013new.csv", 1, lambda t: t.replace("neutral,happiness", "happiness,neutral"),
         "line 1: the columns are not"),
        ("fer2013.csv", 3, lambda t: "7" + t[1:], "fer2013.csv, line 3: the emotion is '7'"),
        ("fer2013.csv", 3, lambda t: t.replace(" ", "", 1), "fer2013.csv, line 3: the pixels are not 2304"),
        ("fer2013.csv", 3, lambda t: t.replace(" ", " 999 ", 1), "fer2013.csv, line 3: the pixels"),
        ("fer2013.csv", 3, lambda t: t.replace(" ", " x ", 1), "fer2013.csv, line 3: the pixels"),
        ("fer2013.csv", 3, lambda t: t.split(",")[0] + ",,Training", "fer2013.csv, line 3: the pixels"),
        ("fer2013.csv", 1, lambda t: "a,b,c", "columns emotion, pixels and Usage"),
        ("fer2013.csv", 13, lambda t: "", "fer2013new.csv, line 13 has nothing beside it"),
        ("fer2013new.csv", 13, lambda t: "", "fer2013new.csv ends before fer2013.csv"),
    ],
)  # fmt: skip
def test_a_fault_in_a_csv_is_named_with_its_line(file, line, change, complaint, tmp_path):
    write_csv(tmp_path, ROWS)
    (tmp_path / file).write_text(damaged(ROWS, file, line, change))
    if complaint is None:
        check_is(read_voted_faces(tmp_path), NAMED)
    else:
        with pytest.raises(BadData, match=complaint):
            read_voted_faces(tmp_path)


def test_a_line_that_is_no_text_is_named(tmp_path):
    write_csv(tmp_path, ROWS)
    with (tmp_path / "fer2013new.csv").open("ab") as file:
        file.write(b"Training,caf\xe9.png,1,1,1,1,1,1,1,1,1,1\n")
    with pytest.raises(BadData, match=r"fer2013new\.csv, line 14 is not UTF-8 text"):
        read_voted_faces(tmp_path)


def test_a_picture_that_is_missing_damaged_or_of_another_size_is_named_with_its_line(tmp_path):
    import cv2

    write_folders(tmp_path, ROWS, label_csv=True)
    file = tmp_path / "FER2013Valid/fer0000009.png"
    file.unlink()
    with pytest.raises(BadData, match=r"label\.csv, line 2 lists FER2013Valid/fer0000009\.png, which is not there"):
        read_voted_faces(tmp_path)
    file.write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"fer0000009\.png \(label\.csv, line 2\) is damaged"):
        read_voted_faces(tmp_path)
    cv2.imwrite(str(file), np.zeros((40, 50), np.uint8))
    with pytest.raises(BadData, match="has 50x40 pixels; FER2013's pictures have 48x48"):
        read_voted_faces(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda a: a.pop("votes"), "no array votes"),
        (lambda a: a.update(images=a["images"][:, :40]), "array images is uint8"),
        (lambda a: a.update(votes=a["votes"].astype(float)), "array votes is float64"),
        (lambda a: a.update(split=a["split"] + 1), "array split has numbers outside 0 to 2"),
        (lambda a: a.update(name=a["name"][:-1]), "array name has 10 entries for 11 images"),
        (lambda a: a.update(vote_names=np.array(["happiness"])), "array vote_names is not neutral, happiness"),
        (lambda a: a.update(majority=np.zeros(11, np.int8)), "majority does not follow from the votes"),
    ],
)
def test_a_fault_in_an_npz_is_named(change, complaint, tmp_path):
    made = arrays(ROWS)
    change(made)
    np.savez(tmp_path / "faces.npz", **made)
    with pytest.raises(BadData, match=complaint):
        read_voted_faces(tmp_path / "faces.npz")


def test_what_is_no_ferplus_is_answered_with_what_is(tmp_path):
    (tmp_path / "faces.npz").write_bytes(b"PK nothing")
    with pytest.raises(BadData, match=r"faces\.npz is no \.npz that can be read"):
        read_voted_faces(tmp_path / "faces.npz")
    with pytest.raises(BadData, match="There is no file"):
        read_voted_faces(tmp_path / "other.npz")
    with pytest.raises(BadData, match=r"(?s)holds no FER\+ that can be read. Expected:.*FER2013Train"):
        read_voted_faces(tmp_path)
    (tmp_path / "fer2013.csv").write_text(pixels_csv(ROWS))
    with pytest.raises(BadData, match=r"without the votes: put fer2013new\.csv"):
        read_voted_faces(tmp_path)
