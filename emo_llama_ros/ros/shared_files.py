"""Where launch/ and config/ lie: in the installed package's share folder, or in the source tree."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "emo_llama_ros"


def shared_file(*parts: str) -> Path:
    """Return a file of the package's share folder, for example shared_file("config", "emo.yaml").

    Prefers the source tree that this module was imported from; the path may not exist when nothing is installed.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "package.xml").is_file():
        from ament_index_python.packages import get_package_share_directory

        try:
            root = Path(get_package_share_directory(PACKAGE))
        except (LookupError, OSError):
            # Installed by pip into <prefix>/lib/pythonX/site-packages, and AMENT_PREFIX_PATH does not name the prefix.
            root = Path(__file__).resolve().parents[5] / "share" / PACKAGE
    return root.joinpath(*parts)
