"""EMO-LLaMA for ROS 2: displayed facial emotion of the people in front of a robot."""

from pkgutil import extend_path

# The generated `msg` and `action` modules are installed beside this file. When this file is imported
# from the source tree, this lets Python also look into an installed emo_llama_ros further down sys.path.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
