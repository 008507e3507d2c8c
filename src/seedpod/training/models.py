"""Kept models: written, loaded, measured again, used on pictures, exported."""

import contextlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from seedpod.errors import Cause, TrainingError
from seedpod.extras import EXPORTS, how_to_have
from seedpod.training.datasets import attach_test
from seedpod.training.measuring import measure
from seedpod.training.pictures import Form, PictureError, read_picture
from seedpod.training.tasks import EvaluateTask, ExportTask, PredictTask
from seedpod.trial import Wire

NOTE = "seedpod.json"
"""A member of the ``.keras`` file, which is a zip archive: class names and what the images look like."""

_BATCH = 500  # images at once


def keep(model: keras.Model, path: Path, note: Mapping[str, Any]) -> None:
    """Write a trained model so that it stands alone: raw images in, a probability for each class out.

    Scaling is a part of the model already; what is added is the softmax over its scores. The optimizer's state stays
    behind. Plain Keras loads the file; it does not look at the note.

    Args:
        model: From ``fit_model``.
        path: A file ending in ``.keras``.
        note: What else to remember, as JSON data.
    """
    outputs = keras.layers.Softmax(name="probabilities", dtype="float32")(model.outputs[0])
    keras.Model(model.inputs[0], outputs, name="seedpod").save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NOTE, json.dumps(note, indent=1))


def load(path: Path) -> keras.Model:
    """Load a kept model; raises TrainingError where that cannot be."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a damaged archive makes Keras raise
        raise TrainingError(
            f"{path} cannot be loaded ({' '.join(str(error).split())[:300]}).", cause=Cause.EXCEPTION
        ) from error


def read_note(path: Path) -> dict[str, Any]:
    """What ``keep`` was given to remember.

    Raises:
        TrainingError: The file is damaged, or none of seedpod's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(json.loads(archive.read(NOTE)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{path} is no model of seedpod's, or a damaged one ({error}).", cause=Cause.DATA
        ) from error


def probabilities(model: keras.Model, images: npt.NDArray[Any], check: Callable[[], None]) -> npt.NDArray[np.float32]:
    """What a kept model says of raw images, (n, h, w, c) -> (n, k).

    Batch by batch, so that memory-mapped images need little memory.
    """
    found = []
    for start in range(0, len(images), _BATCH):
        check()
        found.append(np.asarray(model.predict_on_batch(np.asarray(images[start : start + _BATCH]))))
    return np.concatenate(found)


def evaluate(task: EvaluateTask, cache_dir: Path, check: Callable[[], None]) -> Wire:
    """Measure a kept model on its test images; ``test`` of final.json without the pictures."""
    held_out = attach_test(task.dataset, task.fingerprint, cache_dir)
    path = Path(task.model)
    found = probabilities(load(path), held_out.x_test, check)
    return measure(np.asarray(held_out.y_test), found, read_note(path)["class_names"])


def predict(task: PredictTask, check: Callable[[], None]) -> Wire:
    """Classify pictures from files.

    Returns:
        ``predictions``: for each picture its ``class`` and ``probability``, or an ``error``.
    """
    note = read_note(Path(task.model))
    form, names = Form.from_wire(note["form"]), note["class_names"]
    answers: list[dict[str, Any]] = []
    pictures: list[npt.NDArray[Any]] = []
    for path in task.images:
        check()
        try:
            pictures.append(read_picture(Path(path), form))
            answers.append({})
        except PictureError as error:
            answers.append({"error": str(error)})
    if pictures:
        rows = iter(probabilities(load(Path(task.model)), np.stack(pictures), check))
        for answer in answers:
            if "error" not in answer:
                row = next(rows)
                answer |= {"class": names[int(row.argmax())], "probability": float(row.max())}
    return {"predictions": answers}


def export(task: ExportTask) -> Wire:
    """Write a kept model in another format, and run what was written where its tool can.

    Returns:
        ``difference``: The largest difference between a probability of the exported model and of the kept one, on eight
        random images.

    Raises:
        TrainingError: The tool is not installed, or does not convert this model; it says which.
    """
    note = read_note(Path(task.model))
    form = Form.from_wire(note["form"])
    model = load(Path(task.model))
    write, run = _FORMATS[task.format]
    shape = (8, form.height, form.width, form.channels)
    images = np.random.default_rng(0).uniform(form.black, form.white, shape).astype(np.float32)
    expected = np.asarray(model(images))  # called: Keras exports no other model
    with _naming_the_tool(task.format):
        write(model, task.path)
        answered = run(task.path, images)
    return {"difference": float(np.abs(answered - expected).max())}


def _write_onnx(model: keras.Model, path: str) -> None:
    import tf2onnx  # noqa: F401 - Keras says no more than that ONNX export failed

    model.export(path, format="onnx", verbose=False)


def _run_onnx(path: str, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def _write_saved_model(model: keras.Model, path: str) -> None:
    import tensorflow  # noqa: F401, ICN001 - the format is TensorFlow's

    model.export(path, format="tf_saved_model", verbose=False)


def _run_saved_model(path: str, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # its variables live as long as this
    return np.asarray(loaded.serve(tf.constant(images)))


def _write_tflite(model: keras.Model, path: str) -> None:
    import tensorflow as tf

    Path(path).write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _run_tflite(path: str, images: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=path)
    given, answered = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(given, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, images)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(answered))


@contextlib.contextmanager
def _naming_the_tool(name: str) -> Any:
    try:
        yield
    except ImportError as error:
        packages, extras = EXPORTS[name]
        how = how_to_have(extras) if extras else how_to_have(packages=packages)
        raise TrainingError(
            f"export={name} needs {' and '.join(packages)} ({error}). {how}", cause=Cause.EXCEPTION
        ) from error
    except Exception as error:  # what a converter raises
        raise TrainingError(
            f"export={name} failed ({type(error).__name__}: {' '.join(str(error).split())[:300]}).",
            cause=Cause.EXCEPTION,
        ) from error


_FORMATS: Mapping[str, tuple[Callable[[Any, str], None], Callable[[str, Any], npt.NDArray[Any]]]] = {
    "onnx": (_write_onnx, _run_onnx),
    "savedmodel": (_write_saved_model, _run_saved_model),
    "tflite": (_write_tflite, _run_tflite),
}
