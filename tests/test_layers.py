"""The fused batch normalisation does what Keras's own does."""

import numpy as np
import pytest

from common.layers import fused_batch_normalization
from common.model import build_model, load_keras

MAPS = np.random.default_rng(1).normal(3, 2, (8, 7, 5, 6)).astype(np.float32)


def both(**settings):
    keras, _ = load_keras()
    layers = [kind(momentum=0.9, **settings) for kind in (fused_batch_normalization(), keras.layers.BatchNormalization)]
    rng = np.random.default_rng(2)
    arrays = [rng.uniform(0.5, 2, 6) for _ in range(4)]  # gamma, beta, mean, variance
    for layer in layers:
        layer.build(MAPS.shape)
        layer.set_weights(arrays)
    return layers


def with_gradient(layer, training):
    import tensorflow as tf

    maps = tf.constant(MAPS)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        outputs = layer(maps, training=training)
        loss = tf.reduce_sum(outputs**3)
    return [outputs, *tape.gradient(loss, [maps, layer.gamma.value, layer.beta.value])]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(training, trainable):
    ours, keras_own = both()
    ours.trainable = keras_own.trainable = trainable
    for got, expected in zip(with_gradient(ours, training), with_gradient(keras_own, training), strict=True):
        expected = expected.numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    for got, expected in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_moving_statistics_move_in_training_alone():
    layer, _ = both()
    before = layer.get_weights()
    layer(MAPS, training=False)
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
    layer(MAPS, training=True)
    assert not np.allclose(before[2], layer.get_weights()[2]) and not np.allclose(before[3], layer.get_weights()[3])


def test_the_network_has_no_other_batch_normalisation():
    keras, _ = load_keras()
    layers = [x for x in build_model("B0", 32).layers[2].layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(layers) == 49 and {type(layer) for layer in layers} == {fused_batch_normalization()}
