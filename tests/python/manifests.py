"""The kustomizations of deploy/kubernetes, rendered, and the Secrets that they need."""

import base64
import importlib.util
import os
import subprocess

from servers import ROOT, require

HERE = os.path.join(ROOT, "deploy", "kubernetes")


def needs_python_packages():
    have = all(importlib.util.find_spec(name) for name in ("yaml", "kubernetes_validate"))
    require(have, "Python's PyYAML or kubernetes-validate is missing")


def rendered(overlay):
    from kustomize import render

    return render(os.path.join(HERE, "overlays", overlay))


def secrets(names=""):
    """What make-secrets.sh makes; `names` are more of them for the certificates."""
    import yaml

    script = os.path.join(HERE, "make-secrets.sh")
    made = subprocess.run([script], capture_output=True, text=True, check=True, env={**os.environ, "WALCAST_NAMES": names})
    return list(yaml.safe_load_all(made.stdout))


def values(of, key):
    """The bytes of a Secret's or ConfigMap's key."""
    if key in of.get("stringData", {}):
        return of["stringData"][key].encode()
    value = of["data"][key]
    return base64.b64decode(value) if of["kind"] == "Secret" else value.encode()


def keys(of):
    return set(of.get("data", {})) | set(of.get("stringData", {}))
