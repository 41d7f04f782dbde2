"ULMFiT, stage by stage: one module for each lesson"
from importlib import metadata

def __getattr__(name): # `__version__` is asked of the installed package, whose metadata come from settings.ini
    if name == '__version__': return metadata.version('ulmfit-course')
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
