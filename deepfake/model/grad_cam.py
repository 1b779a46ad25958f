"""Grad-CAM: the scores of faces, and the heat that 03b draws its maps from."""

from functools import partial

import numpy as np

from deepfake.model import efficientnet, scorer, weights

# LAST_LAYER has a cell for 32 x 32 px, FINER_LAYER one for 16 x 16 px (B0 to B7). They find the altered half of validation
# portraits this often: 0.91 and 0.91 at 224 px; of earlier weights 0.85 and 0.87 at 192 px, 0.63 and 0.86 at 128 px. But at 192
# and 224 px, FINER_LAYER gave lines on more than half of the real faces called REAL, LAST_LAYER on none.
LAST_LAYER, FINER_LAYER, SMALLEST_FOR_LAST_PX = "top_activation", "block6a_expand_activation", 192


def layer_for(input_size):
    """Return the name of the layer that maps of faces of `input_size` px come from."""
    return LAST_LAYER if input_size >= SMALLEST_FOR_LAST_PX else FINER_LAYER


def find_explainer(weights_path, input_size):
    """Return an explainer as from `build_explainer` for a weights file; without a GPU, where it can, one without TensorFlow."""
    if layer_for(input_size) == LAST_LAYER:
        face_scorer, _ = scorer.load_scorer(weights_path)
        if isinstance(face_scorer, scorer.CpuScorer):
            return partial(explain_on_cpu, face_scorer)
    return build_explainer(weights.load_model(weights_path)[0], layer_for(input_size))


def explain_on_cpu(cpu_scorer, faces_rgb):
    """Return (heat (n, rows, columns), P(real) (n,)) of LAST_LAYER, as `build_explainer` has it, from a CpuScorer.

    After that layer come an average and dense layers, whose gradient needs no TensorFlow.
    """
    from scipy.special import expit

    activation = cpu_scorer.run("activation", faces_rgb).astype(np.float64)
    features, passed = activation.mean(axis=(2, 3)), []
    *hidden, (kernel, bias) = cpu_scorer.head
    for hidden_kernel, hidden_bias in hidden:
        features = np.maximum(features @ hidden_kernel + hidden_bias, 0)
        passed.append(features > 0)
    logits, gradient = (features @ kernel + bias)[:, 0], kernel.T
    for (hidden_kernel, _), open_units in zip(hidden[::-1], passed[::-1], strict=True):
        gradient = (gradient * open_units) @ hidden_kernel.T
    cells = activation.shape[2] * activation.shape[3]
    toward_real = np.einsum("nchw,nc->nhw", activation, gradient / cells)
    return np.maximum(-toward_real, 0), expit(logits)


def build_explainer(model, layer_name, average=False):
    """Return a function of uint8 RGB faces (n, size, size, 3) that gives (heat (n, rows, columns) >= 0, scores (n,)).

    Heat is how many logits of FAKE a cell adds, to first order; cells that speak for REAL have 0. With `average`, the gradient is
    averaged over the picture: that is Grad-CAM.
    """
    keras, _ = efficientnet.load_keras()
    import tensorflow as tf

    _, normalise, backbone, *hidden, last = model.layers
    layer = backbone.get_layer(layer_name)
    before = keras.Model(backbone.inputs, layer.output)
    after = keras.Model(layer.output, backbone.output) if layer is not backbone.layers[-1] else keras.layers.Identity()

    def explain(faces_rgb):
        activation = before(normalise(faces_rgb), training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(activation)
            features = after(activation, training=False)
            for dense in hidden:
                features = dense(features, training=False)
            real_logit = tf.matmul(features, last.kernel) + last.bias
            fake_logit = -real_logit  # the score itself has no gradient left where it is nearly 0
        gradient = tape.gradient(fake_logit, activation)
        if average:
            gradient = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        toward_fake = tf.reduce_sum(gradient * activation, axis=-1)
        return tf.nn.relu(toward_fake).numpy(), tf.sigmoid(real_logit).numpy()[:, 0]

    return explain
