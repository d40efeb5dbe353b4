"""The names and numbers that stand in more than one file agree."""

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
