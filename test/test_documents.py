"""What the documents tell people to type is what the programs take, and what they say of the package is so."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from emo_llama_ros.cli import app
from emo_llama_ros.options import specs, value_of

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "MODEL_CARD.md", *(str(p.relative_to(REPOSITORY)) for p in sorted(REPOSITORY.glob("docs/*.md"))))
COMMANDS = typer.main.get_command(app)
OTHERS = {".", "cd", "colcon", "env", "export", "git", "mkdir", "pytest", "python3", "rosdep", "touch"}
"""Programs whose arguments are not ours to check."""


@dataclass(frozen=True)
class Typed:
    """One simple command of a document."""

    page: str
    words: tuple[str, ...]
    whole: bool
    """True where it stands in a block of commands, False where a sentence names it, perhaps in part."""

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """Return the fenced blocks that hold commands: drawings and trees have none that begins like one."""
    found = re.findall(r"(?ms)^```(?:bash|sh)?\n(.*?)^```$", text_of(page))
    starts = r"(?m)^(emo_llama |make |ros2 |python |git |pip |colcon |torchrun |mkdir |[A-Z_]+=)"
    return [block for block in found if re.search(starts, block)]


def simple_commands(script: str) -> list[list[str]]:
    """Return the words of each simple command, comments, variables' values and operators taken away."""
    commands = []
    for line in script.replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if word.strip("&|;"):
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                words.pop(0)
            if words:
                commands.append(words)
            words = []
    return commands


def typed(page: str) -> list[Typed]:
    found = [Typed(page, tuple(words), True) for block in blocks(page) for words in simple_commands(block)]
    prose = re.sub(r"(?ms)^```.*?^```$", "", text_of(page))
    for inline in re.findall(r"`([^`]+)`", prose.replace("``", "")):
        said = " ".join(inline.split())
        if re.match(r"(emo_llama|make|python|ros2 launch|pip install) \S", said):
            found += [Typed(page, tuple(words), False) for words in simple_commands(said)]
    return found


ALL = [command for page in PAGES for command in typed(page)]


def of(*programs: str) -> list[Typed]:
    return [command for command in ALL if command.words[0] in programs]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_a_script_that_bash_can_read(page):
    for block in blocks(page):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page}: {done.stderr}\n{block}"


def test_every_program_that_is_typed_is_known():
    ours = {"emo_llama", "make", "python", "ros2", "pip", "torchrun"}
    assert {str(c) for c in ALL if c.words[0] not in ours | OTHERS} == set()
    assert len(of("emo_llama")) > 20, "the documents are read at all"


def emo_llama_command(words):
    """Return the command that `emo_llama WORDS…` starts, and the words that are its arguments."""
    command, rest = COMMANDS, list(words)
    while rest and hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    return command, rest


@pytest.mark.parametrize("command", of("emo_llama"), ids=str)
def test_the_command_line_takes_what_is_typed(command):
    found, arguments = emo_llama_command(command.words[1:])
    assert not hasattr(found, "commands") or not arguments, found.name
    if command.whole:
        context = found.make_context(found.name, list(arguments))  # reads and checks everything, runs nothing
        if found.name == "run":
            check_node_arguments(context.args)
        return
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in arguments if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("command", [c for c in of("ros2") if c.words[1] == "launch"], ids=str)
def test_the_launch_file_takes_what_is_typed(command):
    assert command.words[2:4] == ("emo_llama_ros", "emo.launch.py")
    check_node_arguments([word for word in command.words[4:] if word != "--show-args"])


def check_node_arguments(words):
    from emo_llama_ros.ros.launch_arguments import launch_arguments

    known = {argument.name for argument in launch_arguments()}
    for word in words:
        name, is_argument, value = word.partition(":=")
        assert is_argument, word
        assert name in known, name
        if name in specs() and "…" not in value:
            value_of(name, value)


@pytest.mark.parametrize("command", of("python", "torchrun"), ids=str)
def test_scripts_and_modules_exist_and_know_the_options_that_are_typed(command):
    words = list(command.words[1:])
    if "-m" in words:
        module = words[words.index("-m") + 1]
        script = REPOSITORY / (module.replace(".", "/") + ".py")
        if not script.is_file():
            script = script.with_suffix("") / "__main__.py"
        words = words[words.index("-m") + 2 :]
    else:
        script = REPOSITORY / words.pop(0)
    assert script.is_file(), script
    source = script.read_text(encoding="utf-8")
    missing = {w for w in words if w.startswith("--") and f'"{w.split("=")[0]}"' not in source}
    assert missing == set()


@pytest.mark.parametrize("command", of("make"), ids=str)
def test_the_makefile_has_the_targets_that_are_typed(command):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in command.words[1:] if "=" not in word):
        assert re.search(rf"(?m)^{target}:", makefile), target


@pytest.mark.parametrize("command", of("pip"), ids=str)
def test_what_pip_is_told_to_install_exists(command):
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.findall(r"(?m)^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("[tool")[0])
    for word in command.words[2:]:
        asked = re.fullmatch(r"(?:\./src/emo_llama_ros|emo_llama_ros|\.)\[([\w,]+)\]", word)
        if asked:
            assert set(asked.group(1).split(",")) <= set(extras), word
        if word.endswith(".txt"):
            assert (REPOSITORY / word.removeprefix("src/emo_llama_ros/")).is_file(), word


def test_a_bag_is_made_with_the_words_of_the_readme(tmp_path):
    import cv2
    import numpy as np

    from emo_llama_ros.recordings.bags import ImageBag

    (section,) = [block for block in blocks("README.md") if "emo_llama bag" in block]
    bag, replay, *_ = [words for words in simple_commands(section) if words[0] == "emo_llama"]
    grey = np.full((48, 64, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), grey)
    video = cv2.VideoWriter(str(tmp_path / "face.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(10):
        video.write(grey)
    video.release()
    command = [sys.executable, "-m", "emo_llama_ros.cli", *bag[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert replay[1] == "replay"
    with ImageBag(tmp_path / replay[2]) as made:
        (topic,) = made.topics()
        assert topic.count == 10 + 50, "a second of video, and a picture held for five at ten a second"


def test_links_lead_to_files_and_headings_that_exist():
    broken = []
    for page in PAGES:
        prose = re.sub(r"(?ms)^```.*?^```$", "", text_of(page))
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, heading = target.partition("#")
            if "://" in target:
                continue
            there = (REPOSITORY / page).parent / path if path else REPOSITORY / page
            if not there.exists() or (heading and heading not in headings(there)):
                broken.append(f"{page}: {target}")
    assert broken == []


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def test_the_address_of_the_repository_stands_once():
    assert len(re.findall(r"(?m)^REPOSITORY=", "\n".join(map(text_of, PAGES)))) == 1
    assert "git clone http" not in "\n".join(map(text_of, PAGES))


def test_the_tree_of_the_readme_is_the_package():
    (tree,) = [t for t in re.findall(r"(?ms)^```\n(.*?)^```$", text_of("README.md")) if t.startswith("emo_llama_ros/")]
    rooms = set(re.findall(r"(?m)^  (\w+)/ ", tree))
    package = REPOSITORY / "emo_llama_ros"
    assert rooms == {p.name for p in package.iterdir() if p.is_dir() and any(p.glob("*.py"))} - {"msg", "action"}
    flat = set(tree.splitlines()[1].split("the contract")[0].split())
    assert flat <= {p.stem for p in package.glob("*.py")}
    architecture = text_of("docs/architecture.md")
    assert re.findall(r"(?m)^  (\w+)/ ", tree) == re.findall(r"(?m)^  (\w+)/ ", architecture), "in the same order"


def test_the_live_parameters_are_those_that_are_told():
    told = text_of("README.md").split("\nLive, at once")[1].split(".")[0]
    assert set(re.findall(r"`(\w+)`", told)) == {name for name, spec in specs().items() if spec.live}


def test_nothing_is_left_to_be_filled_in():
    assert [page for page in PAGES if "PENDING" in text_of(page)] == []
