"""The GPU's name, from its driver's files or its tool, and none where there is none."""

from pathlib import Path

import pytest

from seedpod.training.gpu import devices_of, gpu_name

NOTHING = ("seedpod-has-no-such-command",)


def driver(folder: Path, *models: str) -> Path:
    """The files of a driver with these GPUs."""
    for index, model in enumerate(models):
        place = folder / f"0000:0{index}:00.0"
        place.mkdir()
        (place / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 100\nGPU UUID: \t GPU-1:2\n", "utf-8")
    return folder


def test_name_from_the_drivers_files(tmp_path: Path) -> None:
    """The driver's own files are read first: they cost no process."""
    assert gpu_name(driver(tmp_path, "NVIDIA H100 80GB HBM3", "NVIDIA L4"), NOTHING) == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("echo", "NVIDIA L4\nNVIDIA L4"), "NVIDIA L4"),
        (("false",), ""),
        (("true",), ""),
        (NOTHING, ""),
    ],
    ids=["two", "fails", "silent", "missing"],
)
def test_name_from_the_tool(tmp_path: Path, command: tuple[str, ...], name: str) -> None:
    """Where a container does not show those files the driver's tool is asked; a machine without it has no name."""
    assert gpu_name(tmp_path / "none", command) == name
    assert gpu_name(driver(tmp_path), command) == name


@pytest.mark.parametrize(
    ("environment", "devices"),
    [({}, ("0", "1")), ({"CUDA_VISIBLE_DEVICES": "1"}, ("1",)), ({"CUDA_VISIBLE_DEVICES": ""}, ())],
    ids=str,
)
def test_devices(tmp_path: Path, environment: dict[str, str], devices: tuple[str, ...]) -> None:
    """CUDA_VISIBLE_DEVICES decides, and an empty one means a CPU; else it is all that there are."""
    assert devices_of(environment, driver(tmp_path, "NVIDIA L4", "NVIDIA L4")) == devices
    assert devices_of({}, tmp_path / "none") == ()
