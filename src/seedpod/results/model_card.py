"""``model_card.md``: what a final model is, for whoever finds the file. Made of ``final.json`` alone."""

from collections.abc import Mapping
from typing import Any

from seedpod.reading import called

FINAL_SCHEMA = 1
"""Version of ``final.json``."""

_MOST_CLASSES = 40  # rows of the table of classes


def model_card(final: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    sections = [_head(final), _use(final), _data(final), _metrics(final), _settings(final)]
    return "\n\n".join(sections) + "\n"


def interval(test: Mapping[str, Any]) -> str:
    """``0.9889 (0.9717 to 0.9957)``."""
    return f"{test['accuracy']:.4f} ({test['accuracy_low']:.4f} to {test['accuracy_high']:.4f})"


def trained_on(final: Mapping[str, Any]) -> str:
    """Which images it has learned from, in words."""
    count = f"{final['train_images']:,}"
    if final["mode"] == "retrain":
        return f"all {count} training images, those that had judged the trials included"
    return f"the {count} training images of its trial, without those that had judged it"


def _head(final: Mapping[str, Any]) -> str:
    again = {
        "retrain": f"trial {final['trial']}'s configuration, trained anew on {trained_on(final)}",
        "best": f"trial {final['trial']}'s own model, trained on {trained_on(final)}",
    }[final["mode"]]
    epochs = f"{final['epochs']} epoch{'s' * (final['epochs'] != 1)}"
    chosen = final.get("best_epoch") in {None, final["epochs"]}
    length = f"the {epochs} that validation chose" if chosen else f"all {epochs} of its falling learning rate"
    return (
        f"# Image classifier for {called(final['dataset'])}\n\n"
        f"Test accuracy **{interval(final['test'])}**: share of {final['test']['images']:,} held-out images, and its "
        f"95 % interval (Wilson). It is {again}, for {length}. Found by seedpod "
        f"{final['versions']['seedpod']} in run `{final['run']}`."
    )


def _use(final: Mapping[str, Any]) -> str:
    form = final["form"]
    shape = f"({form['height']}, {form['width']}, {form['channels']})"
    return f"""## Use it

```python
import json, zipfile
import keras

model = keras.models.load_model("model.keras")
class_names = json.loads(zipfile.ZipFile("model.keras").read("seedpod.json"))["class_names"]
probabilities = model.predict(images)  # images: (n, {shape[1:-1]}) -> (n, {len(final["class_names"])})
print([class_names[i] for i in probabilities.argmax(axis=1)])
```

It takes raw images, as the data set holds them: {form["dtype"]}, black {form["black"]:g}, white {form["white"]:g};
scaling is a part of the model. For pictures in files: `python optimizer.py predict run={final["run"]} FILE...`."""


def _data(final: Mapping[str, Any]) -> str:
    test = final["test"]
    used = final["test_measured"]
    once = "once, by this model" if used == 1 else f"{used} times, each by a final model of this run"
    names = ", ".join(final["class_names"][:_MOST_CLASSES])
    more = len(final["class_names"]) - _MOST_CLASSES
    return f"""## Data

| | |
|---|---|
| Data set | {final["dataset"]}, fingerprint `{final["fingerprint"]}` |
| Classes | {len(final["class_names"])}: {names}{f" and {more} more" if more > 0 else ""} |
| Learned from | {trained_on(final)} |
| Split | stratified, `validation_split={final["validation_split"]:g}`, seed {final["split_seed"]} |
| Test | {test["images"]:,} images, seen by no trial and by no choice; measured {once} |"""


def _metrics(final: Mapping[str, Any]) -> str:
    test = final["test"]
    rows = [
        f"| {_cell(found['name'])} | {found['images']:,} | {found['precision']:.4f} | {found['recall']:.4f} "
        f"| {found['f1']:.4f} |"
        for found in test["classes"][:_MOST_CLASSES]
    ]
    more = len(test["classes"]) - _MOST_CLASSES
    return "\n".join(
        [
            "## Metrics",
            "",
            "| on the test images | |",
            "|---|---|",
            f"| accuracy | {interval(test)} |",
            f"| balanced accuracy | {test['balanced_accuracy']:.4f} |",
            f"| macro F1 | {test['macro_f1']:.4f} |",
            f"| cross-entropy | {test['loss']:.4f} |",
            f"| {final['objective']} of the trial, on validation images | {final['value']:.4f} |",
            "",
            "| class | images | precision | recall | F1 |",
            "|---|---|---|---|---|",
            *rows,
            *([f"| … {more} more in `final.json` | | | | |"] if more > 0 else []),
        ]
    )


def _settings(final: Mapping[str, Any]) -> str:
    weighed = {"class_weights": final["class_weights"]} if final.get("class_weights", "none") != "none" else {}
    params = [f"| `{name}` | {_cell(value)} |" for name, value in {**final["params"], **weighed}.items()]
    versions = ", ".join(f"{name} {version}" for name, version in final["versions"].items())
    environment = final["environment"]
    made = (
        f"{final['parameters']:,} trainable parameters; {final['model']['bytes']:,} bytes, SHA-256 "
        f"`{final['model']['sha256']}`. Seed {final['seed']}, {final['epochs']} epochs, "
        f"{final['times']['seconds']:.1f} s on a {environment.get('device', 'machine')}. {versions}. The same "
        f"configuration gives the same numbers {environment.get('reproducible', '')}."
    )
    return "\n".join(["## How it was made", "", "| hyperparameter | |", "|---|---|", *params, "", made])


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|")
