"""What a process must set before it joins DDS so that big camera images arrive, and cheaply.

Fast DDS hands a message over in shared memory when it fits into the publisher's segment, 512 KiB by default. A raw
640x480 image does not: it is cut into UDP datagrams, of which a best-effort stream loses nearly all. config/fastdds.xml
only enlarges the segment. The segment belongs to the publisher, so it is the camera driver's process that needs the
profile; this node sets it for what it publishes itself (the overlay).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

# Fast DDS 2 reads the first, Fast DDS 3 the second and warns about the first.
_OLD, _NEW = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
_LIBRARIES = {"libfastrtps.so": _OLD, "libfastdds.so": _NEW}
"""Fast DDS was called libfastrtps up to version 2, and libfastdds since version 3."""
_USER_CHOICES = (_OLD, _NEW, "FASTDDS_BUILTIN_TRANSPORTS")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD = 32 << 20  # the largest that glibc accepts
_TRIM_THRESHOLD = 256 << 20


def profile_path() -> Path:
    """Return the shipped Fast DDS profile, installed or in the source tree."""
    from emo_llama_ros.ros.shared_files import shared_file

    return shared_file("config", "fastdds.xml")


def profile_variable() -> str:
    """Return the environment variable from which the Fast DDS that will be loaded reads its profile.

    It is told by the library that lies first on the search path: a distribution's name says nothing about wheels, nor
    about a middleware that was built from source.
    """
    for folder in library_folders():
        for library, variable in _LIBRARIES.items():
            if any(folder.glob(f"{library}*")):
                return variable
    return _NEW


def library_folders(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Return where the libraries of ROS are looked for, the first first."""
    environment = os.environ if environment is None else environment
    loader = [Path(folder) for folder in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    prefixes = [Path(prefix) for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    prefixes.append(Path(sys.prefix))
    below = [folder for prefix in prefixes for folder in (prefix / "lib", *sorted(prefix.glob("lib/*-linux-gnu*")))]
    return [folder for folder in (*loader, *below) if folder.is_dir()]


def missing_middleware() -> str:
    """Return why the middleware that RMW_IMPLEMENTATION names cannot be loaded, in one sentence; "" when it can.

    rcl ends the whole process when it is not there.
    """
    wanted = os.environ.get("RMW_IMPLEMENTATION", "")
    if not wanted:
        return ""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(prefix, "share/ament_index/resource_index/rmw_typesupport") for prefix in prefixes if prefix]
    installed = {file.name for folder in folders if folder.is_dir() for file in folder.iterdir()} - {
        "rmw_implementation"
    }
    if not installed or wanted in installed:
        return ""
    package = f"ros-{os.environ.get('ROS_DISTRO') or '<distro>'}-{wanted.replace('_', '-')}"
    return (
        f"RMW_IMPLEMENTATION is {wanted}, which is not installed (there is {', '.join(sorted(installed))}): "
        f"install {package}, or unset RMW_IMPLEMENTATION."
    )


def use_shipped_profile(environment: MutableMapping[str, str] | None = None) -> str:
    """Make this process and its children use config/fastdds.xml, unless the user chose otherwise.

    Call it before rclpy.init; `environment` is that of another process instead. Returns one sentence on what is in use
    and why.
    """
    environment = os.environ if environment is None else environment
    for variable in _USER_CHOICES:
        if environment.get(variable):
            return f"Fast DDS follows {variable}={environment[variable]}."
    middleware = environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if "fastrtps" not in middleware:
        return f"{middleware} is in use, which needs no Fast DDS profile."
    path = profile_path()
    if not path.is_file():
        return f"The Fast DDS profile {path} is missing, so large images may be lost."
    environment[profile_variable()] = str(path)
    return f"Fast DDS uses {path}: large images go through shared memory."


def keep_image_memory() -> bool:
    """Let the allocator keep blocks of image size instead of returning each to the kernel; True where it can.

    glibc maps a block of more than 128 KiB anew for every message, and the kernel then zeroes each of its pages: for
    1920x1080 images that costs several times the copy itself (benchmarks/node_overhead.py measures it).
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(
            libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD) and libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
        )
    except (OSError, AttributeError):
        return False
