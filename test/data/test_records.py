"""Records are written, read and checked one at a time; a fault names the record."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from emo_llama_ros.data.records import Record, read_records, write_records
from emo_llama_ros.errors import BadData
from emo_llama_ros.prompts import Turn

GOOD = {
    "id": "a",
    "image": "a.jpg",
    "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "joy"}],
}

word = (
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)
    .map(str.strip)
    .filter(bool)
    .filter(lambda s: "<image>" not in s)
)
record = st.builds(
    Record,
    id=word,
    medium=st.sampled_from(["image", "video"]),
    path=word,
    turns=st.builds(
        lambda first, more: (first, *more),
        st.builds(Turn, word, word, st.sampled_from(["before", "after"])),
        st.lists(st.builds(Turn, word, word, st.sampled_from(["before", "after", "none"])), max_size=2),
    ),
    kind=st.sampled_from(["", "category", "conversation"]),
    dataset=st.just("mine"),
    label=word,
    fold=st.integers(0, 5),
)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@settings(deadline=None)
@given(records=st.lists(record, max_size=5, unique_by=lambda r: r.id))
def test_what_is_written_is_read_again(records, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / f"r{suffix}"
    assert write_records(path, records) == len(records)
    assert list(read_records(path)) == records


def test_the_format_is_that_of_llava(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(
        path, [Record("a", "video", "a.mp4", (Turn("Which?", "joy"), Turn("Why?", "Smile.", "none")), kind="category")]
    )
    assert json.loads(path.read_text()) == {
        "id": "a",
        "video": "a.mp4",
        "conversations": [
            {"from": "human", "value": "<image>\nWhich?"},
            {"from": "gpt", "value": "joy"},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "Smile."},
        ],
        "kind": "category",
    }


def test_an_array_is_read_without_loading_the_whole_file(tmp_path):
    path = tmp_path / "big.json"
    long = "x" * 200_000
    write_records(path, (Record(str(i), "image", "a.jpg", (Turn("What?", long),)) for i in range(20)))
    records = read_records(path)
    assert next(records).turns[0].answer == long
    path.write_text("[")  # the rest is in the open file's buffer or gone: only laziness lets the first one through
    assert sum(1 for _ in read_records_quietly(records)) < 19


def read_records_quietly(records):
    try:
        yield from records
    except BadData:
        return


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(path, [Record("a", "image", "a.jpg", (Turn("What?", "joy"),))])

    def broken():
        yield Record("b", "image", "b.jpg", (Turn("What?", "joy"),))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_records(path, broken())
    assert [r.id for r in read_records(path)] == ["a"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": ""}, "line 1: 'id' is missing"),
        ({"video": "a.mp4"}, r"line 1 \(id 'a'\): exactly one of 'image' and 'video'"),
        ({"image": 3}, "'image' must be a path"),
        ({"conversations": []}, "in pairs"),
        ({"conversations": GOOD["conversations"][:1]}, "in pairs"),
        ({"conversations": GOOD["conversations"][::-1]}, "turn 1 must be"),
        ({"conversations": [{"from": "human", "value": "What?"}, GOOD["conversations"][1]]}, "must contain <image>"),
        ({"conversations": [GOOD["conversations"][0], {"from": "gpt", "value": " "}]}, "turn 2 of 'gpt' is empty"),
        ({"conversations": [GOOD["conversations"][0], {"from": "gpt", "value": "<image>"}]}, "turn 2"),
        ({"kind": "poem"}, "'kind' must be one of"),
        ({"fold": "1"}, "'fold' must be a number"),
        ({"dataset": "raf-db", "label": "contempt"}, "'contempt' is no label of raf-db"),
    ],
)
def test_a_faulty_record_is_named_with_its_fault(change, complaint, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(BadData, match=complaint):
        list(read_records(path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("r.jsonl", '{"id": ', "line 1: not valid JSON"),
        ("r.json", '{"id": "a"}', "one array of records"),
        ("r.json", "[" + json.dumps(GOOD) + ",", "not valid JSON, or cut off"),
        ("r.jsonl", json.dumps(GOOD) + "\n" + json.dumps(GOOD), "line 2: the id 'a' stands twice"),
        ("r.json", "[1]", "must be a JSON object, not a number"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(name, content, complaint, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadData, match=complaint):
        list(read_records(tmp_path / name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadData, match=r"There is no record file .*none\.json"):
        list(read_records(tmp_path / "none.json"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["r.jsonl", "r.json"])
def test_records_say_the_same_in_every_encoding(name, encoding, tmp_path):
    text = json.dumps(GOOD) if name == "r.jsonl" else json.dumps([GOOD])
    (tmp_path / name).write_bytes(f"\n{text}\n\n".encode(encoding))
    assert [r.id for r in read_records(tmp_path / name)] == ["a"]


@pytest.mark.parametrize(("name", "where"), [("r.jsonl", "r.jsonl, line 2"), ("r.json", "r.json")])
def test_records_that_are_no_text_are_named(name, where, tmp_path):
    good = json.dumps(GOOD).encode() + b"\n"
    (tmp_path / name).write_bytes((b"" if name == "r.jsonl" else b"[") + good + b'{"id": "caf\xe9"}')
    with pytest.raises(BadData, match=f"{where} is not UTF-8 text"):
        list(read_records(tmp_path / name))
