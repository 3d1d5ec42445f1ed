"""The peers that are timed: Latchwork and other libraries. None is imported before it is needed."""

from latchwork.benchmark.peers.jax import Jax
from latchwork.benchmark.peers.latchwork import Latchwork
from latchwork.benchmark.peers.onnxruntime import OnnxRuntime
from latchwork.benchmark.peers.openvino import OpenVino
from latchwork.benchmark.peers.peer import Peer
from latchwork.benchmark.peers.pytorch import PyTorch

OURS = "latchwork"
PEERS: dict[str, type[Peer]] = {
    OURS: Latchwork,
    "torch": PyTorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "jax": Jax,
}
OTHERS = [name for name in PEERS if name != OURS]
