"""All about the package is in pyproject.toml, but this: nothing of an earlier build comes into a wheel."""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class FreshBuild(build_py):
    """setuptools only ever adds to ``build/lib``: modules that were removed or moved since would be installed too."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": FreshBuild})
