"""The tool that tells what lies on which device: on two CPUs, and by GPU kernels that are only registered."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import placement

tf1 = tf.compat.v1
NEEDS_KERNELS = pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="this TensorFlow registers no GPU kernels")


def trace_of(body, num_cpus=1, device="CPU:0"):
    """Of ten turns of a loop, v <- body(v), v float32 [300, 300]."""
    with (
        tf.Graph().as_default(),
        tf1.Session(config=tf1.ConfigProto(device_count={"CPU": num_cpus, "GPU": 0})) as session,
    ):
        with tf.device(device):
            start = tf1.placeholder(tf.float32, [300, 300])
            loop = tf1.while_loop(lambda i, v: i < 10, lambda i, v: (i + 1, body(v)), (tf.constant(0), start))
        return placement.traced(session, loop[1], {start: np.ones([300, 300], np.float32)})[1]


def bits(v):
    return tf.random.stateless_uniform([300, 300], tf.cast(v[0, :2], tf.int32), None, None, tf.int32)


def all_there(v):
    return tf.cast(bits(v), tf.float32) @ v * 1e-9


def bits_elsewhere(v):
    with tf.device("CPU:0"):
        random = bits(v)
    return tf.cast(random, tf.float32) @ v * 1e-9


def test_what_lies_on_the_device_is_left_alone():
    trace = trace_of(all_there, num_cpus=2, device="CPU:1")
    assert len(trace.partitions) == 2
    assert placement.elsewhere(trace, "CPU:1") == []
    assert not [copy for copy in placement.copies(trace) if copy.num_bytes > 100]


def test_twin_what_lies_elsewhere_is_named_and_so_is_what_was_copied_for_it():
    trace = trace_of(bits_elsewhere, num_cpus=2, device="CPU:1")
    [told] = placement.elsewhere(trace, "CPU:1")
    assert "StatelessRandomUniformFullIntV2" in told
    assert told.endswith("CPU:0")
    large = [copy for copy in placement.copies(trace) if copy.num_bytes > 1000]
    assert {(copy.source, copy.target, copy.num_bytes) for copy in large} >= {("CPU:0", "CPU:1", 360_000)}


def test_twin_nothing_looked_at_is_no_answer():
    with pytest.raises(AssertionError, match="no loop holds any of"):
        placement.elsewhere(trace_of(tf.sin), "CPU:0")


@NEEDS_KERNELS
def test_kernels_of_int32_that_stack_are_known_to_need_the_host():
    def stacked(v, kind):
        half = tf.bitcast(bits(v), kind)
        return tf.cast(tf.reshape(tf.stack([half, tf.bitwise.invert(half)]), [600, 300])[:300], tf.float32)

    traces = (trace_of(functools.partial(stacked, kind=kind)) for kind in (tf.int32, tf.uint32))
    on_host, on_device = map(placement.host_copies, traces)
    assert max(copy.num_bytes for copy in on_host) >= 360_000
    assert max(copy.num_bytes for copy in on_device) < 100


@NEEDS_KERNELS
def test_operations_without_a_gpu_kernel_are_named():
    def of_strings(v):
        return v + tf.strings.to_number(tf.as_string(v[:1, :1]))

    assert {told.rpartition(" ")[2] for told in placement.without_gpu_kernel(trace_of(of_strings))} == {
        "(AsString)",
        "(StringToNumber)",
    }
    assert placement.without_gpu_kernel(trace_of(all_there)) == []
