"""Models behind HTTP: ``fastmlp serve``, or from Python `serve` and `create_app`.

Needs ``pip install 'fastmlp[serve]'``::

    from fastmlp.model_file import load_model
    from fastmlp.serving import Limits, create_app

    app = create_app({"digits": load_model("digits.safetensors")}, Limits(rows=1000))
"""

try:
    import fastapi  # noqa: F401
    import httptools  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise ImportError(f"serving needs {error.name}: pip install 'fastmlp[serve]'") from error

from fastmlp.serving.app import create_app
from fastmlp.serving.limits import Limits
from fastmlp.serving.server import serve

__all__ = ["Limits", "create_app", "serve"]
