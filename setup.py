"""Build emo_llama_ros with pip. `colcon build` never reads this file: package.xml says ament_cmake.

Where ROS 2 is found (AMENT_PREFIX_PATH, or this Python's own prefix), CMakeLists.txt is built and installed into a
staging folder, and the whole stage goes into the wheel: the Python package with its generated messages, the message
libraries, and share/ with launch and config files. Elsewhere the wheel holds the Python package and its config only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

NAME = "emo_llama_ros"
HERE = Path(__file__).resolve().parent
STAGE = HERE / "build" / "stage"
BUILDING = any(command in sys.argv for command in ("bdist_wheel", "build", "install"))


def version() -> str:
    return re.search(r'__version__ = "(.+)"', (HERE / NAME / "__init__.py").read_text()).group(1)


def ros_prefix() -> str:
    """Return a prefix that holds the ROS 2 message generators; "" when there is none."""
    for prefix in [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]:
        if prefix and Path(prefix, "share/rosidl_default_generators/cmake").is_dir():
            return prefix
    return ""


def build_stage(prefix: str) -> None:
    """Configure, build and install CMakeLists.txt into STAGE."""
    source, build = HERE / "build" / "source", HERE / "build" / "cmake"
    shutil.rmtree(STAGE, ignore_errors=True)
    # CMake exports no include folder below its source folder, and NumPy's is there when the venv stands in the
    # repository. So a copy is built.
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in ("CMakeLists.txt", "package.xml"):
        shutil.copy2(HERE / name, source)
    for name in ("msg", "action", "scripts", "config", "launch", NAME):
        shutil.copytree(HERE / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or prefix}
    configure = [
        "cmake", "-S", source, "-B", build, "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_INSTALL_PREFIX={STAGE}", f"-DCMAKE_PREFIX_PATH={env['AMENT_PREFIX_PATH'].replace(os.pathsep, ';')}",
        f"-DPython3_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    if Path(prefix) == Path(sys.prefix):
        configure.append(f"-DCMAKE_PROJECT_INCLUDE={HERE / 'cmake' / 'pypi_wheels.cmake'}")
    if shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    for command in (configure, ["cmake", "--build", build], ["cmake", "--install", build]):
        subprocess.run([str(part) for part in command], env=env, check=True)


def files_below(root: Path, *tops: str) -> list:
    """List (target folder, files) below `root`'s folders `tops`, without the Python packages, for data_files."""
    found = []
    for top in tops:
        for folder, subfolders, names in os.walk(root / top):
            subfolders[:] = sorted(s for s in subfolders if not re.match(r"python3|__pycache__", s))
            if names:
                paths = [os.path.relpath(os.path.join(folder, n), HERE) for n in sorted(names)]
                found.append((os.path.relpath(folder, root), paths))
    return found


PREFIX = ros_prefix() if shutil.which("cmake") else ""
data_files = []
if BUILDING and PREFIX:
    build_stage(PREFIX)
    data_files = files_below(STAGE, "lib", "share")
elif BUILDING:
    data_files = [(f"share/{NAME}/{folder}", files) for folder, files in files_below(HERE, "config", "launch", "msg")]


class BuildPy(build_py):
    """Also take the generated message modules from the stage."""

    def run(self) -> None:
        super().run()
        if BUILDING and PREFIX:
            (staged,) = STAGE.glob(f"**/python3*/*-packages/{NAME}")  # Ubuntu: local/lib/
            ignore = shutil.ignore_patterns("__pycache__", "*.c")
            shutil.copytree(staged, Path(self.build_lib, NAME), dirs_exist_ok=True, ignore=ignore)


class PlatformDistribution(Distribution):
    """Marks the wheel as bound to this platform when it holds message libraries."""

    def has_ext_modules(self) -> bool:
        return bool(PREFIX)


setup(
    version=version(),
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    include_package_data=False,
    package_data={NAME: [f"**/*.{kind}" for kind in ("json", "jsonl", "onnx", "safetensors", "txt")] + ["py.typed"]},
    data_files=data_files,
    cmdclass={"build_py": BuildPy},
    distclass=PlatformDistribution,
)
