"""The network: EfficientNet under two dense layers, built in Keras."""

import importlib
import logging
import os
import warnings

import numpy as np

from deepfake.model import fast_layers

BACKBONES = tuple(f"B{number}" for number in range(8))
DEFAULT_INPUT_SIZE = 224  # px, that of EfficientNetB0 and of the base weights
PIXEL_PREPARATION = "RGB, resized to a square, 0 to 255; the network itself divides by 255, "
PIXEL_PREPARATION += "takes the ImageNet mean away and divides by its standard deviation"
DENSE_UNITS = (256, 64)
DROPOUT = 0.3
IMAGENET_MEAN_RGB = np.array([0.485, 0.456, 0.406])  # of pixels in 0..1; torchvision and efficientnet agree
IMAGENET_STD_RGB = np.array([0.229, 0.224, 0.225])
# Normalised grey levels are x * SCALE + OFFSET.
SCALE, OFFSET = 1 / (255 * IMAGENET_STD_RGB), -IMAGENET_MEAN_RGB / IMAGENET_STD_RGB
NORM_MOMENTUM = 0.9  # with Keras's 0.99, validation means nothing for hundreds of steps


def load_keras():
    """Import Keras and efficientnet without their start-up noise; return (keras, efficientnet.keras)."""
    quiet_libraries()
    import keras

    if not hasattr(keras.backend, "sigmoid"):  # Keras 3 dropped it; efficientnet's swish needs it
        keras.backend.sigmoid = keras.ops.sigmoid
    return keras, importlib.import_module("efficientnet.keras")


def build_model(backbone, input_size, backbone_weights=None, for_training=False):
    """Return EfficientNet `backbone` ("B0"…"B7") under two dense layers and a sigmoid, score = P(real).

    Input: RGB (n, input_size, input_size, 3) in grey levels 0..255, uint8 or float32; output (n, 1).
    `backbone_weights`: path of weights without top layers, as the efficientnet package publishes them, else random.
    `for_training` changes nothing but the speed. Tan & Le, "EfficientNet", ICML 2019.
    """
    keras, _ = load_keras()
    build = getattr(importlib.import_module("efficientnet.model"), f"EfficientNet{backbone}")
    shape, headless = (input_size, input_size, 3), str(backbone_weights) if backbone_weights else None
    network = build(include_top=False, weights=headless, input_shape=shape, **fast_layers.fast_modules(for_training))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    inputs = keras.Input(shape)
    normalised = keras.layers.Rescaling(SCALE.tolist(), OFFSET.tolist(), dtype="float32", name="normalised")(inputs)
    features = keras.layers.GlobalAveragePooling2D()(network(normalised))
    for units in DENSE_UNITS:
        features = keras.layers.Dense(units, activation="relu")(features)
        features = keras.layers.Dropout(DROPOUT)(features)
    score = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="score")(features)
    return keras.Model(inputs, score, name=f"deepfake_{backbone.lower()}")


def backbone_of(model):
    """Return the EfficientNet inside a model of `build_model`."""
    return model.layers[2]


def quiet_libraries():
    """Silence the start-up noise of TensorFlow and its friends; call before importing them."""
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("GRPC_VERBOSITY", "ERROR"), ("TF_ENABLE_ONEDNN_OPTS", "1")):
        os.environ.setdefault(name, value)
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"keras|tensorflow|efficientnet")
