"""A small builder of ONNX models, and the sessions of ONNX Runtime that run them."""

import numpy as np

OPSET, IR_VERSION = 13, 8  # old enough for every ONNX Runtime for Python 3.11
FLOAT = 1  # onnx.TensorProto.FLOAT, of float32


class OnnxGraph:
    """Nodes and constants of a model, added from its input to its outputs; a value is known by its name."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, values):
        """Add an array as float32; return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def add(self, operator, *inputs, output=None, **options):
        """Add an ONNX operator; return the name of its result."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output or f"value_{len(self.nodes)}"], **options))
        return self.nodes[-1].output[0]

    def serialise(self, name, picture, outputs):
        """Return the model as bytes; `picture`: the NumPy dtype and the shape of its input "x"."""
        from onnx import helper

        dtype, shape = picture
        inputs = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)]
        results = [helper.make_tensor_value_info(output, FLOAT, None) for output in outputs]
        graph = helper.make_graph(self.nodes, name, inputs, results, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def open_session(model, threads, pictures_of_one_size=False):
    """Return an ONNX Runtime session of a serialised model, on `threads` CPU threads.

    Memory is kept from one picture to the next only for pictures of one size: else it would only grow.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = pictures_of_one_size
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
