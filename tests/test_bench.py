"The rows of bench/: both sides compute the same, and the runner says what it measured"
import ast, json, subprocess, sys, types
from pathlib import Path
import pytest

bench = Path(__file__).parent.parent/'bench'
sys.path.insert(0, str(bench))
import run as runner

def child(*words): return subprocess.run([sys.executable, bench/'run.py', *map(str, words)], capture_output=True, text=True)

@pytest.mark.slow
@pytest.mark.parametrize('row', runner.rows)
def test_both_sides_compute_the_same(row):
    done = child('--child', json.dumps(['call', dict(row=row, function='same', kw={})]))
    assert done.returncode == 0, done.stderr[-2000:]

@pytest.mark.parametrize('row', runner.rows + runner.gpu_rows + runner.opt_in_rows)
def test_rows_keep_the_protocol(row):
    tree = ast.parse((bench/f'{row}.py').read_text())
    names = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.alias))} | {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert {'fastai', 'ours', 'limit', 'same', 'cases', 'quick', 'unit', 'target'} <= names and ast.get_docstring(tree)

@pytest.mark.slow
def test_a_row_from_the_command():
    done = subprocess.run([sys.executable, '-c', 'import sys; from ulmfit_course.cli import main; sys.exit(main())', 'bench', 'batches', '--quick', '--json'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)['metrics']
    (case, found), = metrics['cases'].items()
    ours, theirs = found['sides']['ours'], found['sides']['fastai']
    assert ours['times fastai']['median'] == pytest.approx(ours['rate']['median']/theirs['rate']['median'])
    assert ours['times fastai']['median'] > metrics['target'] and found['limit'] > 0 and ours['peak_mb']['median'] > 50

def test_slope():
    sizes = (10, 100, 1000, 10_000)
    assert runner.slope(sizes, [3]*4) == pytest.approx(0) and runner.slope(sizes, [7*s for s in sizes]) == pytest.approx(1) and runner.slope(sizes, [s*s for s in sizes]) == pytest.approx(2)

def test_a_side_that_this_machine_lacks_is_left_out(monkeypatch):
    import common
    sides, asked = dict(fastai=1, ours=3, ours_here=2, ours_nowhere=9), []
    row = types.SimpleNamespace(limit=lambda can, n: can/n, ours_here=lambda n: 0, ours_nowhere=common.where(lambda: False)(lambda n: 0))
    monkeypatch.setattr(runner, 'in_process', lambda what, row, side, case: asked.append(side) or dict(rate=sides[side], seconds=1, peak_mb=1, added_mb=1))
    found = runner.compare('row', row, dict(n=2), 2, 10)
    assert asked == ['fastai', 'ours', 'fastai', 'ours', 'ours_here'] and found['limit'] == 5
    assert {k: o['times fastai']['median'] for k,o in found['sides'].items()} == dict(fastai=1, ours=3, ours_here=2)
    assert common.quickest({'float32, operations/s': 3, 'int8, operations/s': 5}) == 5 and common.to_learn({'float32, operations/s': 3, 'int8, operations/s': 5}) == 3

def test_the_seconds_to_a_mark():
    import few_labels
    say = lambda **runs: lambda side, **kw: dict(course=[dict(seconds=s, accuracy=a) for s,a in runs[side]], peak_mb=1, added_mb=1)
    found, more = few_labels.together(say(ours=[(10, .86), (20, .9)], fastai=[(40, .88), (100, .885)]))
    assert [[o['seconds'] for o in case.values()] for case in found.values()] == [[40, 20], [100, 20]]
    assert more['reached'] == {'87% right': dict(fastai=True, ours=True), '89% right': dict(fastai=False, ours=True)}

def test_unknown_rows():
    done = child('speed')
    assert done.returncode and "unknown row 'speed'" in done.stderr and 'Traceback' not in done.stderr
