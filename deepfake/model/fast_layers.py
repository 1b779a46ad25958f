"""Two layers of EfficientNet with the results of Keras 3, in fewer passes over memory.

In Keras 3, batch normalisation is a dozen operations on whole feature maps, swish with its gradient six: on a CPU, more than half
of a training step. Here each direction is one operation: TensorFlow's own for batch normalisation, one compiled by XLA for swish.
"""

import os
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace


@cache
def fused_batch_normalization():
    """Return the class of a BatchNormalization for feature maps (n, height, width, channels), otherwise like Keras's."""
    import keras
    import tensorflow as tf

    class BatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            learns = bool(training) and self.trainable
            mean, variance = (None, None) if learns else (self.moving_mean, self.moving_variance)
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, self.gamma, self.beta, mean, variance, epsilon=self.epsilon, is_training=learns
            )
            if learns:
                values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
                variance *= (values - 1) / values  # TensorFlow divided by n - 1, Keras by n
                for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                    moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))
            return outputs

    return BatchNormalization


@contextmanager
def stderr_of_libraries_closed():
    """Hide what C++ writes to standard error."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def compiled_swish():
    """Return the function x * sigmoid(x); it and its gradient are compiled once for each shape."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def forward(x):
        return x * tf.sigmoid(x)

    @tf.function(jit_compile=True)
    def backward(x, upstream):
        sigmoid = tf.sigmoid(x)
        return upstream * sigmoid * (1 + x * (1 - sigmoid))

    @tf.custom_gradient
    def swish(x):
        return forward(x), lambda upstream: backward(x, upstream)

    with stderr_of_libraries_closed():  # XLA announces itself once, whatever TensorFlow's log level
        forward(tf.zeros(1))
    return swish


def fast_modules(for_training):
    """Return the modules that the efficientnet package builds its network from: Keras's, with the layers above.

    Swish is compiled for training only, where all batches have one shape, and without a GPU only, which gains nothing by it.
    """
    import keras
    import tensorflow as tf

    backend = keras.backend
    if for_training and not tf.config.list_physical_devices("GPU"):
        tensorflow = SimpleNamespace(
            nn=SimpleNamespace(swish=compiled_swish())
        )  # the package takes backend.tf.nn.swish
        backend = SimpleNamespace(**vars(keras.backend), tf=tensorflow)
    layers = SimpleNamespace(**{**vars(keras.layers), "BatchNormalization": fused_batch_normalization()})
    return {"backend": backend, "layers": layers, "models": keras.models, "utils": keras.utils}
