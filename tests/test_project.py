"The repository in step with itself: notebooks, modules, README, metadata, site"
import importlib.util, json, re, shutil, subprocess, sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook
try: import tomllib
except ImportError: import tomli as tomllib

root = Path(__file__).resolve().parent.parent
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
modules = sorted(p.stem for p in (root/'ulmfit_course').glob('[a-z]*.py'))
every_notebook = pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)

def cells(path, kind): return [c for c in json.loads(path.read_text('utf8'))['cells'] if c['cell_type'] == kind]
def source(cell): return ''.join(cell['source'])
def settings():
    config = ConfigParser(interpolation=None)
    config.read(root/'settings.ini', encoding='utf8')
    return config['DEFAULT']

def shown(path):
    "What the code cells of a notebook print and display, as text, the bytes of pictures left out"
    for cell in cells(path, 'code'):
        for out in cell['outputs']:
            texts = [out.get('text', ''), *(v for k,v in out.get('data', {}).items() if k.startswith('text/'))]
            for t in texts: yield re.sub(r'base64,[\w+/=]+', 'base64,', ''.join(t))

# Notebooks

@every_notebook
def test_notebook_was_run_in_order(path):
    run = [c for c in cells(path, 'code') if source(c).strip() and 'eval: false' not in source(c)]
    assert [c['execution_count'] for c in run] == list(range(1, len(run)+1)), 'run it from top to bottom: make outputs'

@every_notebook
def test_notebook_shows_no_fault(path):
    outputs = [o for c in cells(path, 'code') for o in c['outputs']]
    assert not [o for o in outputs if o['output_type'] == 'error']
    assert not [o for o in outputs if o.get('name') == 'stderr'], 'warnings and progress bars are no outputs'
    if path.parent.name != 'library': assert any(outputs)

@every_notebook
def test_notebook_shows_no_path_of_a_machine(path):
    faults = [m[0] for t in shown(path) for m in re.finditer(r'(?:/home/|/root/|/work/|/tmp/|/Users/|/var/folders/|[A-Z]:\\Users|site-packages).{0,60}', t)]
    assert not faults

@every_notebook
def test_figures_have_alternative_text(path):
    for c in cells(path, 'code'):
        for o in c['outputs']: assert not any(k.startswith('image/') for k in o.get('data', {})), f'use show_figure(fig, alt): {source(c)[:80]}'
    texts = [*shown(path), *map(source, cells(path, 'markdown'))]
    assert not [i for t in texts for i in re.findall(r'<img\b[^>]*>', t) if not re.search(r'alt=(["\'])(?=\S).{15,}?\1', i)]
    assert not [i for t in map(source, cells(path, 'markdown')) for i in re.findall(r'!\[\s*\]\(', t)]

@every_notebook
def test_widgets_are_kept_as_still_pictures(path):
    kinds = [k for c in cells(path, 'code') for o in c['outputs'] for k in o.get('data', {})]
    assert 'application/vnd.jupyter.widget-view+json' not in kinds, 'make outputs'

@pytest.mark.slow
def test_outputs_keep_the_still_picture_of_a_widget(tmp_path):
    code = 'from ulmfit_course.widgets import ScheduleDesigner\nScheduleDesigner()', 'from ipywidgets import Text\nText()', '6*7'
    nbformat.write(new_notebook(cells=[new_code_cell(o) for o in code]), tmp_path/'some.ipynb')
    load(root/'tools/outputs.py').run(tmp_path/'some.ipynb')
    panel, text, number = (c['outputs'] for c in cells(tmp_path/'some.ipynb', 'code'))
    assert panel[0]['data'].keys() == {'text/html'} and '<img alt="Learning rate of each layer group' in ''.join(panel[0]['data']['text/html'])
    assert text == [] and number[0]['data'] == {'text/plain': ['42']}

@every_notebook
def test_notebook_is_a_page(path):
    first = source(cells(path, 'markdown')[0]).splitlines()
    assert first[0].startswith('# ') and any(o.startswith('> ') for o in first), 'a title and a line that says what it is'
    long = lambda s: len(s.splitlines()) > (70 if s.startswith('#| export') or 'Quiz(' in s else 30)   # a quiz is read in its widget, and folded here
    assert not [source(c)[:60] for c in cells(path, 'code') if long(source(c))], 'cut the cell'

@every_notebook
def test_links_between_files_lead_somewhere(path):
    links = [m for c in cells(path, 'markdown') for m in re.findall(r'\]\((?![a-z]+:|#)([^)#\s]+)', re.sub(r'```.*?```|`[^`\n]*`', '', source(c), flags=re.S))]
    assert not [o for o in links if not (path.parent/o).exists()]

# Notebooks and the library

def test_modules_are_what_the_notebooks_export(tmp_path):
    for name in ('nbs', 'ulmfit_course'): shutil.copytree(root/name, tmp_path/name, ignore=shutil.ignore_patterns('pretrained', 'assets', '__pycache__', '.ipynb_checkpoints'))
    shutil.copy(root/'pyproject.toml', tmp_path)
    for m in (tmp_path/'ulmfit_course').glob('*.py'):
        if m.name[:2] != '__': m.unlink()
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'], cwd=tmp_path, check=True)
    fresh = {p.name: p.read_text('utf8') for p in (tmp_path/'ulmfit_course').glob('*.py')}
    kept = {p.name: p.read_text('utf8') for p in (root/'ulmfit_course').glob('*.py')}
    assert fresh.keys() == kept.keys()
    assert not [k for k in fresh if fresh[k] != kept[k]], 'export the notebooks: make export'

alone = """
import importlib, os, sys
def fails(module, light=False):
    "In a copy of this process, which has none of the package's modules"
    if child := os.fork(): return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    importlib.import_module(f'ulmfit_course.{module}')
    os._exit(light and 'torch' in sys.modules)
light, modules = (o.split() for o in sys.argv[1:])
failed = [m for m in light if fails(m, True)]
import fastai.text.all, ipywidgets, sklearn, spacy # once for all: what takes the time
print(*failed, *(m for m in modules if fails(m)))
"""

@pytest.mark.slow
def test_each_module_imports_alone(tmp_path):
    light = 'core', 'recipes', 'cli'
    words = [' '.join(o) for o in (light, sorted({*modules} - {*light}))]
    run = subprocess.run([sys.executable, '-c', alone, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout.split(), run.returncode) == ([], 0), run.stderr

def test_each_notebook_makes_one_module():
    made = [re.search(r'^#\| default_exp (\w+)', source(c), re.M) for p in notebooks for c in cells(p, 'code')]
    names = [m[1] for m in made if m]
    assert sorted(names) == modules and len(set(names)) == len(names)
    assert {re.sub(r'^\d\d_', '', p.stem) for p in notebooks if p.parent.name in ('nbs', 'library')} - {'index', 'thirty_minutes', 'evidence'} == set(modules)

# Front door

def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def test_readme_is_the_front_door():
    assert (root/'README.md').read_text('utf8') == load(root/'tools/readme.py').readme(), 'make readme'

def test_its_picture_is_that_of_the_record():
    assert (root/'nbs/results/demo.svg').read_text('utf8') == load(root/'tools/readme.py').picture(), 'make readme'

def test_readme_links_lead_somewhere():
    links = re.findall(r'\]\((?![a-z]+:|#)([^)#\s]+)', (root/'README.md').read_text('utf8'))
    assert links and not [o for o in links if not (root/o).exists()]

def test_results_are_those_of_a_run(monkeypatch):
    cell = next(c for c in cells(root/'nbs/index.ipynb', 'code') if 'demo.json' in source(c))
    monkeypatch.chdir(root/'nbs')
    *lines, last = source(cell).splitlines()
    scope = {}
    exec('\n'.join([*lines, f'drawn = {last}']), scope)
    assert scope['report']['profile'] in ('cpu', 'gpu')
    assert scope['drawn'].data == ''.join(cell['outputs'][0]['data']['text/markdown'])
    assert load(root/'tools/readme.py').from_root(scope['drawn'].data).strip() in (root/'README.md').read_text('utf8')

# Metadata

def test_metadata_stand_in_settings_only():
    project = tomllib.loads((root/'pyproject.toml').read_text('utf8'))
    s = settings()
    first, last = (o.split('.') for o in (s['min_python'], s['max_python']))
    assert project['project'].pop('dynamic') and project['project'] == {'name': s['lib_name'], 'requires-python': f'>=3.{first[1]},<3.{int(last[1])+1}'}
    version = s['version']
    for name in ('setup.py', 'pyproject.toml', 'ulmfit_course/__init__.py'): assert version not in (root/name).read_text('utf8')

def requirements(s): return ' '.join(s[k] for k in ('requirements', 'lab_requirements', 'parquet_requirements', 'inputs_requirements', 'transformers_requirements', 'scale_requirements', 'classroom_requirements', 'dev_requirements')).split()

def test_installed_metadata_are_those_of_settings():
    import ulmfit_course
    s = settings()
    assert ulmfit_course.__version__ == metadata.version('ulmfit-course') == s['version']
    name = lambda o: re.match(r'[\w.-]+', o)[0]
    asked = {name(o) for o in metadata.requires('ulmfit-course')}
    assert asked == {name(o) for o in requirements(s)}

def test_every_requirement_is_pinned():
    canonical = lambda o: re.sub(r'[-_.]+', '-', re.match(r'[\w.-]+', o)[0]).lower()
    pins = [o for o in (root/'constraints.txt').read_text('utf8').splitlines() if o and o[0] != '#']
    assert all(re.match(r'[\w.-]+==[\w.]+(; python_full_version .*)?$', o) for o in pins)
    s = settings()
    assert {canonical(o) for o in requirements(s)} <= {canonical(o) for o in pins}
    assert 'torch==2.13.0' in pins
    project = tomllib.loads((root/'pyproject.toml').read_text('utf8'))
    assert set(project['tool']['uv']['constraint-dependencies']) <= set(pins)
    hook = re.search(r'AnswerDotAI/nbdev\n  rev: (\S+)', (root/'.pre-commit-config.yaml').read_text('utf8'))[1]
    assert f'nbdev=={hook}' in pins

# The campaign: the record of its last full run, and the page that is made of it

def test_the_record_is_that_of_the_full_sizes():
    run, runner = json.loads((root/'bench/results/faults.json').read_text('utf8')), load(root/'bench/faults.py')
    found = {k: v for k,v in run['metrics'].items() if k not in ('total', 'seconds')}
    assert {k: v for k,v in run['config'].items() if k != 'command'} == runner.full
    assert runner.summary(found).items() <= run['metrics']['total'].items()
    assert [run['metrics']['total'][k] for k in ('faults', 'tracebacks', 'nan', 'bytes_lost')] == [0]*4
    assert sum(r['killed'] for r in found['kills'].values()) > 130

def test_the_page_has_all_its_figures():
    text = load(root/'docs/build.py').promises()
    assert '{' not in text and text.startswith('# What we promise')
