"""podweave.driver.system: what is done with one chip or with each, and which chip an error is of; devices are stood in for."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from podweave.driver import system as systems
from podweave.driver.device import DeviceError
from podweave.driver.system import System
from podweave.spec.presets import load_config


class Device:
    """A bus is the name of its chip."""

    def __init__(self, bus: str, config: Any):
        self.bus, self.selected = bus, list[str]()

    def select(self, image: str) -> None:
        if image == "none":
            raise DeviceError("no such program")
        self.selected.append(image)

    def read_input(self, name: str) -> np.ndarray:
        if name != "keys":
            raise DeviceError(f"there is no input {name}")
        return np.array([ord(self.bus)])


def system(monkeypatch: pytest.MonkeyPatch, names: str) -> System:
    monkeypatch.setattr(systems, "Device", Device)
    return System(SimpleNamespace(chips=list(names)), dataclasses.replace(load_config("chip2x4"), links=None))  # type: ignore[arg-type]


def test_programs_are_selected_on_each_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    two: Any = system(monkeypatch, "ab")
    two.select(["first", "second"])
    two.select(["third", "fourth"])
    assert [device.selected for device in two.devices] == [["first", "third"], ["second", "fourth"]]
    with pytest.raises(DeviceError, match=r"^chip 1: no such program$"):
        two.select(["fifth", "none"])
    with pytest.raises(DeviceError, match=r"^there are 2 chips, got 1 programs$"):
        two.select(["sixth"])


def test_inputs_are_read_of_one_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    two: Any = system(monkeypatch, "ab")
    assert [two.read_input(chip, "keys")[0] for chip in (1, 0)] == [ord("b"), ord("a")]
    with pytest.raises(DeviceError, match=r"^chip 1: there is no input image$"):
        two.read_input(1, "image")
    # Of one chip alone, its number says nothing.
    with pytest.raises(DeviceError, match=r"^there is no input image$"):
        system(monkeypatch, "a").read_input(0, "image")
