"The record of the last full campaign, and the page that is made of it"
import importlib.util, json
from pathlib import Path

root = Path(__file__).resolve().parents[2]

def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def test_the_record_is_that_of_the_full_sizes():
    run, runner = json.loads((root/'bench/results/faults.json').read_text('utf8')), load(root/'bench/faults.py')
    found = {k: v for k,v in run['metrics'].items() if k not in ('total', 'seconds')}
    assert {k: v for k,v in run['config'].items() if k != 'command'} == runner.full
    assert runner.summary(found).items() <= run['metrics']['total'].items()
    assert [run['metrics']['total'][k] for k in ('tracebacks', 'nan', 'bytes_lost')] == [0, 0, 0]
    assert sum(r['killed'] for r in found['kills'].values()) > 130

def test_the_page_has_all_its_figures():
    text = load(root/'docs/build.py').promises()
    assert '{' not in text and text.startswith('# What we promise')
