"""The `emo_llama` command: quick help, one sentence for an error, and commands that do what they say."""

import os
import subprocess
import sys

import pytest

from emo_llama_ros.recordings.bags import ImageBag

HEAVY = ("cv2", "numpy", "torch", "transformers", "matplotlib", "rosbags", "rclpy", "scipy", "ai_edge_litert", "yaml")


def emo_llama(*arguments, **variables):
    command = [sys.executable, "-m", "emo_llama_ros.cli", *map(str, arguments)]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_help_imports_nothing_heavy():
    script = (
        "import sys, emo_llama_ros.cli as cli\n"
        "sys.argv = ['emo_llama', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "replay" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY"


@pytest.mark.parametrize("command", ["bag", "replay"])
def test_every_command_explains_itself(command):
    done = emo_llama(command, "--help")
    assert done.returncode == 0
    assert "--out" in done.stdout


@pytest.mark.parametrize(("command", "option"), [("watch", "--topic"), ("play", "--loop"), ("run", "--webcam")])
def test_the_commands_of_a_first_hour_explain_themselves(command, option):
    done = emo_llama(command, "--help")
    assert done.returncode == 0
    assert option in done.stdout


def test_the_version_is_printed():
    from emo_llama_ros import __version__

    assert emo_llama("--version").stdout.strip() == __version__


def test_an_error_is_one_sentence_and_exit_code_1(tmp_path):
    done = emo_llama("replay", tmp_path / "nothing", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"emo_llama: There is no bag {tmp_path / 'nothing'}.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["typer", "emo_llama_ros.recordings.replay"])
def test_ctrl_c_ends_the_command_without_a_word_while_it_is_imported(repository, tmp_path, module):
    script = (
        "import os, runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "class Interrupted:\n"
        "    def find_spec(name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        f"sys.argv[1:] = ['replay', {str(tmp_path)!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        f"runpy.run_path({str(repository / 'scripts' / 'emo_llama')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("OSError(28, 'No space left on device')", "No space left on device."),
        ("PermissionError(13, 'Permission denied', '/out')", "Permission denied: /out."),
        ("KeyError('x')", "Unexpected KeyError: 'x'. `emo_llama --debug …` shows where it arose."),
        (
            "RuntimeError('two\\nlines.')",
            "Unexpected RuntimeError: two lines. `emo_llama --debug …` shows where it arose.",
        ),
        ("AssertionError()", "Unexpected AssertionError. `emo_llama --debug …` shows where it arose."),
    ],
)
def test_an_error_that_nobody_thought_of_is_one_sentence_too(error, sentence):
    script = (
        "import emo_llama_ros.cli as cli\n"
        "@cli.app.command()\n"
        f"def fail():\n    raise {error}\n"
        "import sys; sys.argv = ['emo_llama', 'fail']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"emo_llama: {sentence}\n")


@pytest.mark.parametrize(("options", "variables"), [(["--debug"], {}), ([], {"EMO_LLAMA_DEBUG": "1"})])
def test_debug_shows_the_traceback(tmp_path, options, variables):
    done = emo_llama(*options, "replay", tmp_path / "nothing", "--out", tmp_path / "out", **variables)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "BadRecording" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--set", "clip_s"], "'clip_s' sets nothing; write NAME=VALUE."),
        (["--set", "clips=1"], "There is no parameter 'clips'; did you mean 'clip_s'?"),
        (["--set", "clip_s=long"], "Parameter 'clip_s' must be a float, not 'long'."),
        (["--set", "clip_s=99"], "Parameter 'clip_s' must be between 0.1 and 30 s, not 99."),
        (["--backend", "oracle"], "Parameter 'backend' must be one of"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, arguments, reason):
    done = emo_llama("replay", tmp_path, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["a.mp4", "--webcam", "0"]])
def test_a_bag_is_made_of_files_or_of_a_webcam(tmp_path, arguments):
    done = emo_llama("bag", *arguments, "--out", tmp_path / "bag")
    assert done.returncode == 2
    assert "either files or --webcam" in done.stderr


def test_an_unreadable_file_leaves_no_bag_behind(tmp_path):
    (tmp_path / "words.mp4").write_text("words")
    done = emo_llama("bag", tmp_path / "words.mp4", "--out", tmp_path / "bag")
    assert done.returncode == 1
    assert "cannot be read as a video" in done.stderr
    assert not (tmp_path / "bag").exists()


def test_files_become_a_bag_and_the_bag_a_report(tmp_path, media):
    made = emo_llama(
        "bag", media("single_face.mp4"), "--out", tmp_path / "bag", "--fps", 15, "--topic", "eye/image",
        "--storage", "mcap", "--quality", 95, "--frame-id", "eye",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "36 frames" in made.stdout
    with ImageBag(tmp_path / "bag") as bag:
        topic = bag.choose()
        assert (topic.name, topic.count) == ("/eye/image/compressed", 36)
        assert next(bag.frames(topic)).frame_id == "eye"
    read = emo_llama(
        "replay", tmp_path / "bag", "--out", tmp_path / "out", "--set", "clip_min_s=0.2", "--topic", "eye/image"
    )
    if "emo_llama fetch" in read.stderr:
        pytest.skip(read.stderr)
    assert read.returncode == 0, read.stderr
    assert "/eye/image/compressed: 36 frames" in read.stdout
    assert "1 person" in read.stdout
    assert '"clip_min_s": 0.2' in (tmp_path / "out" / "report.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ["--set", "worker_nice=3"],
            1,
            "'worker_nice' changes nothing in an offline replay; leave it out or add --live",
        ),
        (["--set", "image_topic=/eye"], 1, "'image_topic' changes nothing in an offline replay; use --topic"),
        (["--rate", "2"], 2, "--rate works with --live only"),
        (["--live", "--thumbnails"], 2, "--thumbnails works offline only"),
        (["--live", "--set", "image_transport=raw"], 2, "image_transport follows from the bag"),
    ],
)
def test_options_that_would_change_nothing_are_refused(tmp_path, arguments, code, reason):
    done = emo_llama("replay", tmp_path, "--out", tmp_path / "out", *arguments)
    assert done.returncode == code
    assert reason in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_bag_holds_jpeg_images_unless_raw_ones_are_asked_for(tmp_path, media):
    sizes = {}
    for name, arguments in {"jpeg": [], "small": ["--quality", 50], "raw": ["--raw"]}.items():
        out = tmp_path / name
        done = emo_llama("bag", media("single_face.jpg"), "--hold", 1, "--fps", 2, "--out", out, *arguments)
        assert done.returncode == 0, done.stderr
        with ImageBag(out) as bag:
            topic = bag.choose()
        assert topic.compressed is (name != "raw")
        assert topic.name == "/camera/image_raw" + "/compressed" * (name != "raw")
        sizes[name] = sum(p.stat().st_size for p in out.iterdir())
    assert sizes["raw"] > 5 * sizes["jpeg"] > 5 * sizes["small"]
    done = emo_llama("bag", media("single_face.jpg"), "--raw", "--quality", 90, "--out", tmp_path / "x")
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["take#1", "50%25 ?", os.fsdecode(b"caf\xe9"), "a:b"])
def test_files_bags_and_results_may_have_any_name(tmp_path, media, name):
    picture = tmp_path / f"{name}.jpg"
    picture.write_bytes(media("single_face.jpg").read_bytes())
    made = emo_llama("bag", picture, "--hold", 1, "--out", tmp_path / name)
    assert made.returncode == 0, made.stderr
    read = emo_llama("replay", tmp_path / name, "--out", tmp_path / f"{name} out", "--backend", "expression")
    if "emo_llama fetch" in read.stderr:
        pytest.skip(read.stderr)
    assert read.returncode == 0, read.stderr
    assert "10 frames" in read.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([picture.name, name, f"{name} out"])


def test_what_could_not_be_read_and_an_empty_result_are_told(tmp_path, media):
    made = emo_llama("bag", media("single_face.jpg"), "--hold", 0.3, "--out", tmp_path / "bag", "--storage", "mcap")
    assert made.returncode == 0, made.stderr
    (tmp_path / "bag" / "metadata.yaml").write_text("")
    read = emo_llama("replay", tmp_path / "bag", "--out", tmp_path / "out", "--backend", "expression")
    if "emo_llama fetch" in read.stderr:
        pytest.skip(read.stderr)
    assert read.returncode == 1
    assert "Note: metadata.yaml cannot be understood; the files were read without it.\n" in read.stderr
    assert (
        "No estimate: The frames span 0.2 s, and a person gets a first estimate when seen for clip_min_s" in read.stderr
    )
    assert (tmp_path / "out" / "report.json").exists()
