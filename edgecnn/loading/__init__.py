"""Load the module that MODEL names, with the weights of ``--weights``, in eval mode."""

from edgecnn.loading.arguments import parse_argument, parse_shape
from edgecnn.loading.model import LoadedModel, load_module
from edgecnn.loading.weights import load_weights

__all__ = ["LoadedModel", "load_module", "load_weights", "parse_argument", "parse_shape"]
