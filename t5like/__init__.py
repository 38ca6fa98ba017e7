"""t5like: pretrain, fine-tune, evaluate and sample Transformer language models in JAX.

Importing this package imports neither JAX nor TensorFlow and touches no device.
"""

__version__ = "0.1.0"
