"""The two faster layers do what Keras's own do."""

import subprocess
import sys

import numpy as np
import pytest

from common.paths import REPOSITORY_DIR
from deepfake.model.efficientnet import build_model, load_keras
from deepfake.model.fast_layers import compiled_swish, fused_batch_normalization

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


def test_compiled_swish_and_its_gradient_are_those_of_tensorflow():
    import tensorflow as tf

    values = tf.constant(np.linspace(-90, 90, 4001, dtype=np.float32))
    found = []
    for swish in (compiled_swish(), tf.nn.silu):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = swish(values)
            loss = tf.reduce_sum(outputs**2)
        found.append((outputs.numpy(), tape.gradient(loss, values).numpy()))
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_network_built_for_training_gives_the_scores_and_gradients_of_the_other():
    import tensorflow as tf

    faces = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    found, arrays = [], None
    for for_training in (False, True):
        model = build_model("B0", 32, for_training=for_training)
        arrays = arrays or model.get_weights()
        model.set_weights(arrays)
        with tf.GradientTape() as tape:
            scores = model(faces, training=False)
        found.append(
            (scores.numpy(), [g.numpy() for g in tape.gradient(scores, [v.value for v in model.trainable_variables])])
        )
    (scores, gradients), (fast_scores, fast_gradients) = found
    np.testing.assert_allclose(fast_scores, scores, rtol=1e-4)
    for fast, expected in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(fast, expected, rtol=1e-3, atol=1e-4 * max(1e-6, np.abs(expected).max()))


def test_the_compiler_does_not_announce_itself():
    program = (
        "import sys; from deepfake.model.efficientnet import load_keras; load_keras(); "
        "from deepfake.model.fast_layers import compiled_swish; compiled_swish()([1.0, 2.0]); "
        "print('still heard', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY_DIR, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "still heard\n")
