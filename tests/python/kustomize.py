"""Renders kustomizations: by kustomize's own library from PyPI where .ci/tools has put it, else by `kustomize` or `kubectl`.

The library comes in a package for a newer Python than Debian's, so it is called here directly. The packages `kustomize` of
PyPI and npm are other programs or old ones, and Debian's kubectl knows no components.
"""

import ctypes
import os
import re
import shutil
import subprocess

import yaml

from servers import ROOT, require

LIBRARY = os.environ.get("WALCAST_KUSTOMIZE", os.path.join(ROOT, "target", "ci-venv", "lib", "libpykustomize.so"))


def _by_library(directory):
    library = ctypes.CDLL(LIBRARY)
    library.pykustomize_last_error.restype = ctypes.c_char_p
    result = ctypes.c_char_p()
    if library.pykustomize_build(directory.encode(), b"{}", ctypes.byref(result)) != 0:
        raise AssertionError(f"kustomize build {directory}: {(library.pykustomize_last_error() or b'').decode()}")
    return result.value.decode()


def _program():
    """A command that renders, of kustomize 5 or newer; or None."""
    for command, asks in ((["kustomize", "build"], ["kustomize", "version"]), (["kubectl", "kustomize"], ["kubectl", "version", "--client"])):
        if shutil.which(command[0]):
            told = subprocess.run(asks, capture_output=True, text=True, check=False).stdout
            version = re.search(r"(?:Kustomize Version: |^)v?(\d+)\.", told, re.MULTILINE)
            if version and int(version.group(1)) >= 5:
                return command
    return None


def render(directory):
    """The objects of a kustomization, each a dictionary."""
    if os.path.exists(LIBRARY):
        text = _by_library(directory)
    else:
        command = _program()
        require(command, "kustomize 5 or newer is missing")
        done = subprocess.run([*command, directory], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        text = done.stdout
    return [each for each in yaml.safe_load_all(text) if each]
