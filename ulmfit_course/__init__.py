"ULMFiT, stage by stage: one module for each lesson"
from importlib import import_module
from importlib.util import find_spec

_names = dict(   # module -> what it gives here; a module is imported when one of its names is asked for
    models='list_models load_pretrained', learners='language_model_learner text_classifier_learner',
    generator='TextGenerator text_generator', inference='load_bundle save_bundle', workflows='train_on evaluate_on predict_on',
    estimator='ULMFiTClassifier ULMFiTRegressor',
    transformers_api='ULMFiTConfig ULMFiTTokenizer ULMFiTModel ULMFiTForCausalLM ULMFiTForSequenceClassification '
                     'ULMFiTForTokenClassification')
_places = {name: module for module, names in _names.items() for name in names.split()}

def _there(module): return module != 'transformers_api' or find_spec('transformers') is not None

def __getattr__(name): # `__version__` is asked of the installed package, whose metadata come from settings.ini
    if name == '__version__': return import_module('importlib.metadata').version('ulmfit-course')
    if name not in _places: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _there(_places[name]): raise ImportError(f'{name} is made for Transformers: pip install "ulmfit_course[transformers]"')
    return getattr(import_module(f'.{_places[name]}', __name__), name)

def __dir__(): return sorted({*globals(), '__version__', *(name for name, module in _places.items() if _there(module))})
