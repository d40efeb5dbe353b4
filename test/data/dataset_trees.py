"""Small folders in the official layouts of the facial-expression datasets, with generated pictures."""

import cv2
import numpy as np


def picture(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), value, np.uint8))


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def video(path, frames=10, fps=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (64, 64))
    for i in range(frames):
        writer.write(np.full((64, 64, 3), 20 * i, np.uint8))
    writer.release()


def raf_db(root):
    text(root / "basic/EmoLabel/list_patition_label.txt", "train_00001.jpg 5\ntrain_00002.jpg 1\ntest_0001.jpg 7\n")
    for name in ("train_00001", "train_00002", "test_0001"):
        picture(root / f"basic/Image/aligned/{name}_aligned.jpg")


def affectnet_lists(root):
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    text(
        root / "Manually_Annotated_file_lists/training.csv",
        header + "1/a.jpg,0,0,8,8,1;2,7,0,0\n1/b.jpg,0,0,8,8,1;2,10,-2,-2\n",
    )
    text(
        root / "Manually_Annotated_file_lists/validation.csv", "2/c.jpg,0,0,8,8,1;2,1,0,0\n2/d.jpg,0,0,8,8,1;2,7,0,0\n"
    )
    for name in ("1/a", "2/c", "2/d"):
        picture(root / f"Manually_Annotated_Images/{name}.jpg")


def affectnet_arrays(root):
    for number, code in (("0", "3"), ("10", "7"), ("2", "0")):
        picture(root / f"val_set/images/{number}.jpg")
        (root / "val_set/annotations").mkdir(exist_ok=True)
        np.save(root / f"val_set/annotations/{number}_exp.npy", np.array(code))  # the release stores texts
        np.save(root / f"val_set/annotations/{number}_val.npy", np.array("0.5"))


def ferplus(root):
    text(
        root / "fer2013new.csv",
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
        "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\n"  # 4 of 9 tagged neutral: no majority
        "Training,fer0000001.png,1,8,0,0,0,0,0,1,0,0\n"
        "Training,,0,0,0,0,0,0,0,0,0,10\n"
        "PublicTest,fer0028638.png,0,0,0,0,1,0,9,0,0,0\n"
        "PrivateTest,fer0032220.png,0,0,0,0,0,0,0,0,9,1\n"  # unknown
        "PrivateTest,fer0032221.png,0,0,0,6,1,1,1,1,0,0\n",
    )
    for name in ("Train/fer0000001", "Valid/fer0028638", "Test/fer0032221"):
        picture(root / f"FER2013{name}.png")


def dfew(root):
    for fold in range(1, 6):
        text(root / f"EmoLabel_DataSplit/train(single-labeled)/set_{fold}.csv", "video_name,label\n2,4\n3,7\n")
        text(root / f"EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv", f"video_name,label\n1,{fold}\n")
    for clip in ("00001", "00002", "00003"):
        for i in (1, 2, 10):
            picture(root / f"Clip/clip_224x224/{clip}/{i}.jpg", value=10 * i)


def ferv39k(root):
    text(root / "4_setups/All_scenes/train_All.csv", "Action/Happy/0267 Happy\nDaily Life/Angry/0010 Angry\n")
    text(root / "4_setups/All_scenes/test_All.csv", "Action/Sad/0001 Sad\n")
    for clip in ("Action/Happy/0267", "Daily Life/Angry/0010", "Action/Sad/0001"):
        picture(root / f"2_ClipsforFaceCrop/{clip}/00001.jpg")


def mafw(root):
    for fold in range(1, 6):
        text(
            root / f"Train & Test Set/single/no_caption/set_{fold}/train.txt",
            "00001.mp4 anger\n00002.mp4 helplessness\n",
        )
        text(root / f"Train & Test Set/single/no_caption/set_{fold}/test.txt", "00003.mp4 disappointment\n")
    for clip in ("00001", "00002", "00003"):
        video(root / f"data/clips/{clip}.mp4", frames=3)


TREES = {
    "raf-db": raf_db,
    "affectnet": affectnet_lists,
    "ferplus": ferplus,
    "dfew": dfew,
    "ferv39k": ferv39k,
    "mafw": mafw,
}
