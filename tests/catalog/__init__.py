"""One case for each component: how to build it, and what to call it on.

One file a topic, found by itself. No argument has its default value, no two
axes have the same length: a lost argument or a swapped axis would go unnoticed.
"""

import importlib
import pkgutil

MODULES = [
    importlib.import_module(f"catalog.{found.name}")
    for found in pkgutil.iter_modules(__path__)
]
CASES = [
    case for module in MODULES for case in getattr(module, "CASES", ())
]
