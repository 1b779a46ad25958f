"""Batch normalisation in fewer passes over memory than Keras 3 makes, with the same results.

On a CPU, Keras 3's takes nearly half of a training step of EfficientNet: it is a dozen operations on whole feature maps, forward
and backward. TensorFlow has each way as one operation.
"""

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
                variance *= (values - 1) / values  # TensorFlow divides by one less
                for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                    moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))
            return outputs

    return BatchNormalization


def fused_modules():
    """Return the modules that the efficientnet package builds its network of: Keras's, with the layer above."""
    import keras

    layers = SimpleNamespace(**{**vars(keras.layers), "BatchNormalization": fused_batch_normalization()})
    return {"backend": keras.backend, "layers": layers, "models": keras.models, "utils": keras.utils}
