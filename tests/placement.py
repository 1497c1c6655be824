"""On which device the operations of a SavedModel's loops lie, and what is copied between a device and the host.

Two sources of the same answer: what a session did (partition graphs and step statistics, on any devices), and what
TensorFlow's registered GPU kernels say of the graph that ran on a CPU (which inputs and outputs they keep on the host).
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, kernel_def_pb2, op_def_pb2, types_pb2

tf1 = tf.compat.v1
ARITHMETIC = ("MatMul", "BatchMatMulV2", "Conv2D", "Einsum", "StatelessRandomUniformFullIntV2", "Ndtri", "Erfinv")
FUSED_ON_CPUS = ("_UnaryOpsComposition",)  # of operations that stand alone on GPUs
COPIES = ("_Send", "_HostSend")
ALWAYS_ON_HOST = (types_pb2.DT_RESOURCE, types_pb2.DT_STRING)


class Trace(NamedTuple):
    """Of one run: a graph for each device; of each node the bytes of its largest output, and how often it ran.

    What ran more than once was in a loop: loops are no functions in these graphs, but cycles.
    """

    partitions: Sequence[graph_pb2.GraphDef]
    sizes: Mapping[str, int]
    runs: Mapping[str, int]

    @property
    def looped(self) -> list[Any]:
        """The nodes inside loops that took more than one turn."""
        return [node for graph in self.partitions for node in graph.node if self.runs[node.name] > 1]


class Copy(NamedTuple):
    """A tensor that changes its memory inside a loop."""

    tensor: str
    source: str
    target: str
    num_bytes: int


def traced(session: Any, fetches: Any, feeds: Any) -> tuple[Any, Trace]:
    """What a session answers, and the trace of it."""
    options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE, output_partition_graphs=True)
    metadata = tf1.RunMetadata()
    answers = session.run(fetches, feeds, options=options, run_metadata=metadata)
    sizes, runs = Counter[str](), Counter[str]()
    for device in metadata.step_stats.dev_stats:
        if re.search(r"device:[CG]PU:\d+$", device.device):  # others tell of a GPU's kernels and copies
            for node in device.node_stats:
                of_outputs = [_num_bytes(output.tensor_description) for output in node.output]
                sizes[node.node_name] = max([sizes[node.node_name], *of_outputs])
                runs[node.node_name] += 1
    return answers, Trace(list(metadata.partition_graphs), sizes, runs)


def traced_signature(
    path: Any, inputs: Mapping[str, Any], signature: str = "serving_default", num_gpus: int | None = None
) -> tuple[dict, Trace]:
    """Name -> answer of a SavedModel's signature, and the trace of it; `num_gpus` None: as many as there are."""
    config = None if num_gpus is None else tf1.ConfigProto(device_count={"GPU": num_gpus})
    with tf.Graph().as_default(), tf1.Session(config=config) as session:
        meta = tf1.saved_model.loader.load(session, ["serve"], str(path))
        found = meta.signature_def[signature]
        feeds = {found.inputs[name].name: value for name, value in inputs.items()}
        return traced(session, {name: info.name for name, info in found.outputs.items()}, feeds)


def _num_bytes(description: Any) -> int:
    numbers = np.prod([dim.size for dim in description.shape.dim], dtype=np.int64)
    return int(numbers) * tf.as_dtype(description.dtype).size if description.dtype else 0


def kind_of(node: Any) -> str:
    """Its operation, by the name that it has where nothing is fused."""
    return _without_onednn(node.op).removeprefix("_Fused")


def _without_onednn(op: str) -> str:
    """The name of the operation that oneDNN has put its own in the place of, on CPUs."""
    plain = re.sub("^_Mkl(Native)?", "", op)
    return f"_{plain}" if plain != op and plain.startswith("Fused") else plain


def elsewhere(trace: Trace, device: str, kinds: Sequence[str] = ARITHMETIC) -> list[str]:
    """Nodes of these kinds inside loops that are not on the device, a part of its name such as "GPU:0".

    Raises:
        AssertionError: where there are no such nodes at all, so that nothing was looked at.
    """
    found = [node for node in trace.looped if kind_of(node) in kinds]
    assert found, f"no loop holds any of {', '.join(kinds)}"
    return [f"{node.name} ({node.op}) on {node.device}" for node in found if not node.device.endswith(device)]


def copies(trace: Trace) -> list[Copy]:
    """What was sent from a device to another, or between a device's memory and the host's, inside loops."""
    found = []
    for node in (node for graph in trace.partitions for node in graph.node if node.op in COPIES):
        tensor = re.sub(r"^edge_\d+_", "", node.attr["tensor_name"].s.decode())
        if trace.runs[tensor] > 1:
            ends = (node.attr[end].s.decode().rpartition("device:")[2] for end in ("send_device", "recv_device"))
            found.append(Copy(tensor, *ends, trace.sizes[tensor]))
    return found


# --- by the registered kernels ----------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """How a node would run where there is a GPU: whether on it, and which inputs and outputs are in host memory."""

    on_gpu: bool
    host_inputs: Sequence[bool]
    host_outputs: Sequence[bool]


def on_a_gpu(node: Any) -> Placed:
    """By TensorFlow's registered kernels; a node without one for GPUs runs on the CPU."""
    if node.op in FUSED_ON_CPUS:
        return Placed(True, [False] * len(node.input), [False])
    op = _operations()[_without_onednn(node.op)]
    inputs = [argument for argument in op.input_arg for _ in range(_count(argument, node))]
    outputs = [argument for argument in op.output_arg for _ in range(_count(argument, node))]
    kernel = next((one for one in _kernels(op.name) if _fits(one, node)), None)
    if kernel is None:
        return Placed(False, [True] * len(inputs), [True] * len(outputs))

    def on_host(arguments):
        return [one.name in kernel.host_memory_arg or _type(one, node) in ALWAYS_ON_HOST for one in arguments]

    return Placed(True, on_host(inputs), on_host(outputs))


def host_copies(trace: Trace) -> list[Copy]:
    """What a GPU would send to the host, or the host to it, inside the loops of a graph that ran on a CPU."""
    placed = {node.name: on_a_gpu(node) for node in trace.looped}
    found = {}
    for node in trace.looped:
        for i, source in enumerate(source for source in node.input if not source.startswith("^")):
            producer, _, slot = source.partition(":")
            if producer not in placed:  # entered the loop once
                continue
            memory = placed[producer].host_outputs[int(slot or 0)], placed[node.name].host_inputs[i]
            if memory[0] != memory[1]:
                ends = ("host" if is_host else "GPU" for is_host in memory)
                found[producer, memory] = Copy(producer, *ends, trace.sizes[producer])
    return list(found.values())


def without_gpu_kernel(trace: Trace) -> list[str]:
    """Nodes inside loops that TensorFlow would leave on the CPU."""
    return [f"{node.name} ({node.op})" for node in trace.looped if not on_a_gpu(node).on_gpu]


def _count(argument: Any, node: Any) -> int:
    if argument.number_attr:
        return node.attr[argument.number_attr].i
    return len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1


def _type(argument: Any, node: Any) -> int:
    return argument.type or node.attr[argument.type_attr].type


def _fits(kernel: Any, node: Any) -> bool:
    return all(node.attr[one.name].type in one.allowed_values.list.type for one in kernel.constraint)


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]


@functools.cache
def _library() -> Any:
    """TensorFlow's C library, which this process has loaded already."""
    library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
    for name in ("TF_GetAllOpList", "TF_GetRegisteredKernelsForOp"):
        getattr(library, name).restype = ctypes.POINTER(_Buffer)
    library.TF_NewStatus.restype = ctypes.c_void_p
    return library


def _parsed(buffer: Any, message: Any) -> Any:
    message.ParseFromString(ctypes.string_at(buffer.contents.data, buffer.contents.length))
    return message


@functools.cache
def _operations() -> dict[str, Any]:
    return {op.name: op for op in _parsed(_library().TF_GetAllOpList(), op_def_pb2.OpList()).op}


@functools.cache
def _kernels(op: str) -> list[Any]:
    """Of a GPU, those for it before those for any device."""
    status = ctypes.c_void_p(_library().TF_NewStatus())
    told = _library().TF_GetRegisteredKernelsForOp(op.encode(), status)
    found = _parsed(told, kernel_def_pb2.KernelList()).kernel
    of_device = {kind: [one for one in found if one.device_type == kind] for kind in ("GPU", "DEFAULT")}
    return of_device["GPU"] + of_device["DEFAULT"]
