"""What pyproject.toml cannot say: in the package, the folder models/ is flamlib/released/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """An installation in place (`pip install -e`) reads models/ where it is, and needs no copy."""

    def run(self) -> None:
        """Build the package, and put the models into it."""
        super().run()
        models = Path(__file__).parent / "models"
        if models.is_dir() and not self.editable_mode:
            shutil.copytree(models, Path(self.build_lib, "flamlib/released"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithModels})
