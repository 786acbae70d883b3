"""All that a command may import, imported once by the process that others are forked from."""

import importlib
import pkgutil

import cascaderank

for module in pkgutil.walk_packages(cascaderank.__path__, "cascaderank."):
    if not module.name.endswith("__main__") and ".fused" not in module.name:
        importlib.import_module(module.name)
for name in ("pandas", "pyarrow.parquet", "rich.progress", "torch._dynamo", "torch._inductor"):
    importlib.import_module(name)
