"""The training loop: epochs, executions of several steps, callbacks. Keras's own, but on TensorFlow.

There ours has the same steps in the same order, and so the same numbers to the last bit, for less (CPU seconds of one
core, TensorFlow 2.21, Keras 3.15; a network of two blocks on digits, trials in one warm process):

- The training step is traced once: its variables are there before, where ``fit`` makes some within the trace and traces
  again. Until the first epoch has ended 0.8 s, and 2.1 s by ``fit``.
- Batches come as one array for several steps, gathered while the steps before are taken; tf.data's generator calls
  Python for each: 42 ms for an epoch of 18 steps, and 85 ms by ``fit``. (With tf.data's autotune on, that also stalls
  at the end of a pass: 1.40 s or 2.60 s for the same epoch.)

What was measured and is not done: to keep what was traced for a later trial of the same shape, which 26 of 1 484 trials
of 27 recorded searches had before them (1.8 %), to save 10 ms of a trial at the mean; XLA, which makes these networks
2.05 times slower on a CPU; to do without TensorFlow's graph optimizer, which saves 0.15 s of a trial and changes its
numbers; to augment within the graph, which would save at most the 7 ms that 128 images take, and only where no core is
free, and give each backend other images.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import keras
import numpy as np

from seedpod.training.model_builder import STEPS_PER_EXECUTION

EXECUTION_BYTES = 8_000_000
"""Bytes of images that one execution takes at most, where that is more than one batch: large images need no long ones,
and two executions are in memory at a time."""

Parts = tuple[np.ndarray, ...]


class Batches(Protocol):
    """The batches of one epoch, all of one size: images, labels and maybe weights."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int, /) -> Parts:
        """Images (batch, height, width, channels), labels (batch, classes), weights (batch,)."""


def run_epochs(
    model: keras.Model, batches: Batches, epochs: int, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Train a compiled model on a batch after the other; ``model.stop_training`` ends it after an epoch.

    Args:
        model: From ``model_builder``.
        batches: Of one epoch; asked for anew in each.
        epochs: At most.
        callbacks: Told as Keras does, of the last batch of an execution alone and never of its beginning.
    """
    if keras.backend.backend() != "tensorflow":
        model.fit(batches, epochs=epochs, callbacks=list(callbacks), shuffle=False, verbose=0)
        return
    told = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, steps=len(batches))
    example = batches[0]
    steps = steps_per_execution(example[0].nbytes, len(batches))
    execute = _compiled(model, example)
    model.stop_training = False
    told.on_train_begin()
    for epoch in range(epochs):
        model.reset_metrics()
        told.on_epoch_begin(epoch)
        done, logs = 0, {}
        for parts in _executions(batches, steps):
            logs = execute(*parts)
            done += len(parts[0])
            told.on_train_batch_end(done - 1, logs)
        told.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    told.on_train_end()


def steps_per_execution(nbytes: int, most: int) -> int:
    """Training steps between two returns to Python: ``most`` at most, with batches of images of so many bytes each."""
    return max(1, min(STEPS_PER_EXECUTION, EXECUTION_BYTES // max(1, nbytes), most))


def _compiled(model: keras.Model, example: Parts) -> Callable[..., dict[str, Any]]:
    """A function of batches, (steps, batch, ...) each part, that trains on them and answers the metrics so far."""
    import tensorflow as tf

    # All variables are made before the trace: one that makes some is thrown away, and another one begun.
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, *example[1].shape[1:]))
    model.compute_metrics(None, nothing, nothing)

    def execute(*parts: Any) -> dict[str, Any]:
        def step(index: Any) -> tuple[Any]:
            model.train_step(tuple(part[index] for part in parts))
            return (index + 1,)

        count = tf.shape(parts[0])[0]
        tf.while_loop(lambda index: index < count, step, [tf.constant(0)], parallel_iterations=1)
        return dict(model.get_metrics_result())

    # Not even the batch's size is told: with it, the graph's optimizer chooses other kernels, and their sums round
    # differently (seen on MNIST, and on digits with residual blocks and class weights).
    signature = [tf.TensorSpec((None, None, *part.shape[1:]), part.dtype) for part in example]
    compiled: Callable[..., dict[str, Any]] = tf.function(execute, input_signature=signature, autograph=False)
    return compiled


def _executions(batches: Batches, steps: int) -> Iterator[Parts]:
    """What each execution of an epoch trains on, (steps, batch, ...) each part; the next is made while one trains."""

    def gather(first: int) -> Parts:
        found = [batches[index] for index in range(first, min(first + steps, len(batches)))]
        return tuple(np.stack(part) for part in zip(*found, strict=True))

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(gather, 0)
        for first in range(steps, len(batches) + steps, steps):
            parts = following.result()
            if first < len(batches):
                following = thread.submit(gather, first)
            yield parts
