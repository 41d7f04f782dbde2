"The rows of bench/: both sides compute the same, and the runner says what it measured"
import ast, json, subprocess, sys
from pathlib import Path
import pytest

bench = Path(__file__).parent.parent/'bench'
sys.path.insert(0, str(bench))
import run as runner

def child(*words): return subprocess.run([sys.executable, bench/'run.py', *map(str, words)], capture_output=True, text=True)

@pytest.mark.slow
@pytest.mark.parametrize('row', runner.rows)
def test_both_sides_compute_the_same(row):
    done = child('--child', json.dumps(['same', dict(row=row)]))
    assert done.returncode == 0, done.stderr[-2000:]

@pytest.mark.parametrize('row', runner.rows + runner.gpu_rows)
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

def test_unknown_rows():
    done = child('speed')
    assert done.returncode and "unknown row 'speed'" in done.stderr and 'Traceback' not in done.stderr
