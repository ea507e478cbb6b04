"""Networks and what they need: graph type, radial functions, heads, autograd in one place."""

from __future__ import annotations

from .errors import ModelError
from .graph import Graph, join_graphs
from .hpnet import HPNet
from .htnet import HTNet
from .hvnet import HVNet
from .hvnet_config import HVNetConfig
from .network import Network
from .prediction import Potential, Prediction, hessian_vector_product, parameter_gradient, predict
from .registry import architectures, build_network, network_settings, register
from .visnet import ViSNet
from .visnet_config import ViSNetConfig

__all__ = [
    "Graph",
    "HPNet",
    "HTNet",
    "HVNet",
    "HVNetConfig",
    "ModelError",
    "Network",
    "Potential",
    "Prediction",
    "ViSNet",
    "ViSNetConfig",
    "architectures",
    "build_network",
    "hessian_vector_product",
    "join_graphs",
    "network_settings",
    "parameter_gradient",
    "predict",
    "register",
]
