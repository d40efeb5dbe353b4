"""The names and numbers that stand in more than one file agree."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import emo_llama_ros

HEAVY = ("torch", "transformers", "cv2", "matplotlib", "rosbags", "rclpy", "ai_edge_litert", "scipy")


def test_package_xml_has_the_version_of_the_python_package(repository):
    assert ET.parse(repository / "package.xml").find("version").text == emo_llama_ros.__version__


def test_every_message_and_action_is_generated(repository):
    cmake = (repository / "CMakeLists.txt").read_text()
    for path in [*repository.glob("msg/*.msg"), *repository.glob("action/*.action")]:
        assert f'"{path.parent.name}/{path.name}"' in cmake


def test_every_message_field_says_what_it_means(repository):
    for path in repository.glob("msg/*.msg"):
        for line in path.read_text().splitlines():
            assert not line.strip() or "#" in line, f"{path.name}: {line}"


def test_ros_and_py_trees_are_imported_at_the_edges_only(repository):
    package = repository / "emo_llama_ros"
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] in ("ros", "behaviours") or path == package / "images" / "cv_bridge.py":
            continue
        code = path.read_text()
        for name in ("rclpy", "py_trees", "sensor_msgs", "cv_bridge"):
            assert not re.search(rf"^\s*(import|from) {name}\b", code, re.MULTILINE), path


def test_the_light_modules_import_without_torch_and_ros():
    light = (
        "images.decode, perception.clips, engine.scheduler, labels, prompts, options, estimate, engine.answers, "
        "engine.admission, engine.api"
    )
    imports = "; ".join(f"import emo_llama_ros.{module}" for module in light.split(", "))
    code = f"import sys; {imports}; print(*(m for m in {HEAVY} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(out.stdout.split()) <= {"cv2"}


def test_the_nodes_process_judges_images_without_opencv():
    code = "import sys, emo_llama_ros.images.headers, emo_llama_ros.engine.worker_engine; print('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


FLOORS = (
    "errors frames checksums", "estimate labels findings", "estimate_message options calibration", "images", "install",
    "faces", "perception", "evidence", "prompts", "model", "inference", "backends", "engine", "checks", "recordings",
    "data", "evaluation", "training", "ros", "commands", "cli", "console",
)  # fmt: skip
"""Folders and flat modules of the package: each imports what stands before it in this list, and nothing behind it."""


def _modules(repository):
    package = repository / "emo_llama_ros"
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts != ("__init__",):
            yield ".".join(parts).removesuffix(".__init__"), path


def _imports(repository):
    """Yield (importing module, imported module, name or None) for every import inside the package, also late ones."""
    known = {name for name, _ in _modules(repository)}
    for module, path in _modules(repository):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted = [(alias.name, None) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: imports are absolute"
                wanted = [(node.module or "", alias.name) for alias in node.names]
            else:
                continue
            for target, name in wanted:
                if target == "emo_llama_ros" or target.startswith("emo_llama_ros."):
                    inner = target.removeprefix("emo_llama_ros").lstrip(".")
                    whole = f"{inner}.{name}".lstrip(".")
                    if inner not in ("msg", "action"):  # generated
                        yield (module, whole, None) if whole in known else (module, inner, name)


def test_rooms_import_one_way(repository):
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
    rooms = {name.partition(".")[0] for name, _ in _modules(repository)}
    assert rooms == set(floor), "every folder and flat module has its floor"
    wrong = []
    for module, target, _ in _imports(repository):
        own, other = module.partition(".")[0], target.partition(".")[0]
        if target and own != other and floor[other] >= floor[own]:
            wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_two_files_import_each_other_in_a_circle(repository):
    waiting = {name: set() for name, _ in _modules(repository)}
    for module, target, _ in _imports(repository):
        if target and target != module:
            waiting[module].add(target)
    while free := {name for name, targets in waiting.items() if not targets}:
        waiting = {name: targets - free for name, targets in waiting.items() if name not in free}
    assert not waiting


def test_no_module_needs_the_inside_of_another(repository):
    inside = [
        f"{module} takes {name} from {target}"
        for module, target, name in _imports(repository)
        if any(part.startswith("_") and not part.startswith("__") for part in (*target.split("."), name or ""))
    ]
    assert not inside
