"""podweave: an open generator of scale-out systolic accelerators."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("podweave")
except PackageNotFoundError:
    __version__ = "0+unknown"
