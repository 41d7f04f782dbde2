"The house: a module imports from the floors below it and takes no private name of another; functions and lines have an end"
import ast, re
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
library = root/'ulmfit_course'

# From the lowest to the highest, a floor a line; within a floor in this order, too
floors = '''
core recipes ranks
schema sharing vocabulary tables readers datasets duplicates lstm
detokenization tokenizer_base cleaning data tokenization awd_lstm targets documents
subwords fast_tokens corpora
streams loaders batching
gradients training tracking search models onnx_graph backends features heads
evaluation baselines generator generation learners pretraining lm_finetuning
augmentation inputs taggers spans tagging seq2seq sequences outputs classifier
figures diagrams interpretation predictors inference export workflows labelling estimator transformers_api transformers scaling
panels training_widgets widgets teaching exercises_basics exercises_data exercises_tokenization exercises_batching exercises_awd_lstm exercises_pretraining exercises_finetuning exercises_generation exercises_classifier exercises_inputs exercises_outputs exercises_tagging exercises_sequences exercises_interpretation exercises_inference exercises_transformers exercises_scaling report demo speedrun lab app doctor glossary slides assignments editions kit
course_commands cli all __main__'''.split()

def modules(folder): return {p.stem: p for p in sorted(folder.glob('*.py')) if p.stem not in ('__init__', '_modidx')}

def imports(path, package='ulmfit_course'):
    "`(module, name, line)` of all that a file takes from the package, wherever in the file it does; the name is empty for a whole module"
    tree, whole = ast.parse(path.read_text('utf8')), {}
    for n in ast.walk(tree):
        if isinstance(n, ast.Import):
            for a in n.names:
                if a.name.startswith(package + '.'):
                    yield a.name.split('.')[1], '', n.lineno
                    if a.asname: whole[a.asname] = a.name.split('.')[1]
        elif isinstance(n, ast.ImportFrom) and (n.level or (n.module or '').split('.')[0] == package):
            parts = (n.module or '').split('.')[0 if n.level else 1:]
            for a in n.names:
                if parts and parts[0]: yield parts[0], a.name, n.lineno
                elif (path.parent/f'{a.name}.py').exists():
                    yield a.name, '', n.lineno
                    whole[a.asname or a.name] = a.name
        elif isinstance(n, ast.Call) and getattr(n.func, 'attr', getattr(n.func, 'id', '')) in ('import_module', '__import__'):
            for a in n.args:
                if isinstance(a, ast.Constant) and re.match(rf'{package}\.|\.', str(a.value)): yield a.value.removeprefix(package).split('.')[1], '', n.lineno
    for n in ast.walk(tree):   # `module._name`, and `ulmfit_course.module._name`
        if not isinstance(n, ast.Attribute): continue
        if isinstance(n.value, ast.Name) and n.value.id in whole: yield whole[n.value.id], n.attr, n.lineno
        if isinstance(n.value, ast.Attribute) and isinstance(n.value.value, ast.Name) and n.value.value.id == package: yield n.value.attr, n.attr, n.lineno

def climbers(folder, order):
    "Every import of a module that does not lie below, and of a private name, in words"
    place, faults = {m: i for i,m in enumerate(order)}, []
    for name, path in modules(folder).items():
        for module, taken, line in imports(path):
            if module not in place or place[module] >= place[name]: faults.append(f'{name}, line {line}: {module} does not lie below')
            if re.match(r'_(?!_)', taken) or re.match(r'_(?!_)', module): faults.append(f'{name}, line {line}: {module}.{taken} is private')
    return sorted(set(faults))

def test_every_module_has_its_floor(): assert set(modules(library)) == set(floors) and len(set(floors)) == len(floors)

def test_nothing_climbs(): assert climbers(library, floors) == []

def test_the_plan_says_the_same():
    "ARCHITECTURE.md lists every module once, in an order that nothing climbs, and gives lessons their numbers"
    plan = re.search(r'^## The floors$.*?(?=^## )', (root/'ARCHITECTURE.md').read_text('utf8'), re.M | re.S)[0]
    rows = re.findall(r'^\|[^|]*\| ((?:`\w+`(?: \(\d\d\))?(?:, )?)+) \|', plan, re.M)
    listed = [m for row in rows for m in re.findall(r'`(\w+)`', row)]
    assert sorted(listed) == sorted(set(floors) - {'__main__'})
    assert climbers(library, [*listed, '__main__']) == []
    numbers = {m: n for row in rows for m,n in re.findall(r'`(\w+)` \((\d\d)\)', row)}
    assert numbers == {p.stem[3:]: p.stem[:2] for p in (root/'nbs').glob('[0-9][0-9]_*.ipynb') if (library/f'{p.stem[3:]}.py').exists()}

@pytest.mark.parametrize('module,line,fault', [
    ('core', 'from .cli import main', 'core, line 1: cli does not lie below'),
    ('core', 'from ulmfit_course.core import CourseError', 'core does not lie below'),
    ('models', 'from .awd_lstm import AWD_LSTM', None),
    ('models', 'import torch, ulmfit_course', None),
    ('models', 'from .generation import generate', 'generation does not lie below'),
    ('models', 'def f():\n    from ulmfit_course.generation import generate', 'models, line 2: generation does not lie below'),
    ('learners', 'class A:\n    def f(self):\n        if self: from .classifier import *', 'classifier does not lie below'),
    ('models', 'import ulmfit_course.generation', 'generation does not lie below'),
    ('models', 'import ulmfit_course.generation as g', 'generation does not lie below'),
    ('models', 'from . import generation', 'generation does not lie below'),
    ('models', 'from ulmfit_course import generation', 'generation does not lie below'),
    ('models', 'from ulmfit_course import __version__', None),
    ('models', "import importlib\ndef f(): importlib.import_module('ulmfit_course.generation')", 'generation does not lie below'),
    ('models', "from importlib import import_module\ndef f(): import_module('.generation', 'ulmfit_course')", 'generation does not lie below'),
    ('models', 'from .loaders import PadRight', None),
    ('data', 'from .readers import read_texts', None),
    ('readers', 'from .data import split', 'data does not lie below'),
    ('pretraining', 'from .learners import *', None),
    ('learners', 'from .pretraining import *', 'pretraining does not lie below'),
    ('models', 'from .somewhere import thing', 'somewhere does not lie below'),
    ('cli', 'from .models import _card', 'models._card is private'),
    ('cli', 'def f():\n    from .models import load_pretrained, _card as card', 'models._card is private'),
    ('cli', 'from . import models\nmodels._card', 'models._card is private'),
    ('cli', 'import ulmfit_course.models as m\nm._card', 'models._card is private'),
    ('cli', 'import ulmfit_course.models\nulmfit_course.models._card', 'models._card is private'),
    ('cli', 'from . import _modidx', '_modidx. is private'),
    ('cli', 'from fastai.learner import _private', None),
    ('__main__', 'from .cli import main', None),
    ('all', 'from .cli import *', None),
    ('cli', 'from .all import *', 'all does not lie below')])
def test_a_climber_is_caught(tmp_path, module, line, fault):
    for m in (*floors, '_modidx', '__init__'): (tmp_path/f'{m}.py').write_text('x = _y = 1\n')
    assert climbers(tmp_path, floors) == []
    (tmp_path/f'{module}.py').write_text(line + '\n')
    found = climbers(tmp_path, floors)
    assert not found if fault is None else any(fault in f for f in found), found

def test_the_command_and_the_top():
    "`python -m ulmfit_course` calls the command and no more; no module but these two has anything above it"
    assert {m for m,_,_ in imports(library/'__main__.py')} == {'cli'}
    taken = {m for p in modules(library).values() for m,_,_ in imports(p)}
    assert not taken & {'all', '__main__'}

def too_long(path, most=60):
    functions = (n for n in ast.walk(ast.parse(path.read_text('utf8'))) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return [f'{path.stem}.{n.name}: {n.end_lineno-n.lineno+1} lines' for n in functions if n.end_lineno-n.lineno+1 > most]

def too_wide(path, most=140):
    return [f'{path.stem}, line {i}: {len(line)} columns' for i,line in enumerate(path.read_text('utf8').splitlines(), 1) if len(line) > most]

def test_functions_are_short_and_lines_narrow():
    files = [p for p in sorted(library.glob('*.py')) if p.stem != '_modidx']   # which nbdev writes, and nobody reads
    assert [f for p in files for f in too_long(p)] == []
    assert [f for p in files for f in too_wide(p)] == []

def test_long_functions_and_wide_lines_are_found(tmp_path):
    (tmp_path/'m.py').write_text('def f():\n' + '    pass\n'*59 + 'class A:\n    def g(self):\n' + '        pass\n'*60 + f'x = {"1"*136}\ny = {"1"*137}\n')
    assert too_long(tmp_path/'m.py') == ['m.g: 61 lines'] and too_wide(tmp_path/'m.py') == ['m, line 124: 141 columns']
