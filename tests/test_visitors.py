"The app: who finds a place, what the others are told, and what a place costs"
import json, os, re, signal, socket, subprocess, sys, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import psutil, pytest, torch
from ulmfit_course import app
from ulmfit_course.core import CourseError
from ulmfit_course.course_commands import course_commands
from ulmfit_course.documents import text_classifier
from ulmfit_course.models import Checkpoint, load_pretrained, save_checkpoint
from ulmfit_course.panels import max_chars

root = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    "A classifier that has learned nothing"
    words = load_pretrained('imdb-small')
    torch.manual_seed(0)
    model = text_classifier(len(words.vocab), 2, words.config['arch'])
    task = dict(kind='classification', labels=['neg', 'pos'], text_cols=['text'], label_col='label')
    config = words.config | dict(stage='classifier', task=task, head=dict(lin_ftrs=50), card={})
    folder = tmp_path_factory.mktemp('page')/'bundle'
    save_checkpoint(folder, Checkpoint(model.state_dict(), words.vocab, config))
    return folder

def test_as_many_as_find_room(bundle, monkeypatch, capsys):
    memory = lambda mb: monkeypatch.setattr(psutil, 'virtual_memory', lambda: type('Memory', (), dict(available=mb*2**20))())
    cost = app.visitor_mb(bundle)
    memory(300 + 3*cost)
    assert app.places(bundle) == 3 and f'about {cost:,} MB' in capsys.readouterr().err
    assert app.places(bundle, 5) == 5 and 'more than there is room for' in capsys.readouterr().err
    memory(100)
    assert app.places(bundle) == 1 and 'room for 0' in capsys.readouterr().err
    with pytest.raises(CourseError, match='lets nobody in'): app.places(bundle, 0)

@pytest.fixture
def page(bundle, tmp_path):
    "The page for two visitors, who give up their places after a few idle seconds"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    options = ['--no-browser', f'--port={port}']
    code = f'from ulmfit_course.app import serve_app; serve_app({str(bundle)!r}, "127.0.0.1", {options}, visitors=2, idle=0.25)'
    env = os.environ | dict(ULMFIT_COURSE_PROFILE='tiny', OMP_NUM_THREADS='1', JUPYTER_CONFIG_DIR=str(tmp_path))
    with open(tmp_path/'log', 'w') as log, subprocess.Popen([sys.executable, '-c', code], env=env, stdout=log, stderr=log) as server:
        try:
            for _ in range(600):
                assert server.poll() is None, (tmp_path/'log').read_text()
                try: socket.create_connection(('127.0.0.1', port)).close()
                except OSError: time.sleep(0.2)
                else: break
            yield f'http://127.0.0.1:{port}', server.pid, tmp_path/'log'
        finally: server.send_signal(signal.SIGTERM)

def visit(url):
    "Status and page"
    try: return 200, urllib.request.urlopen(url, timeout=180).read().decode()
    except urllib.error.HTTPError as e: return e.code, e.read().decode()

@pytest.mark.slow
@pytest.mark.skipif(os.name == 'nt', reason='asks the system for the memory of the kernels')
def test_two_visitors_a_third_and_one_who_left(page, bundle):
    url, pid, log = page
    assert 'At most 2 at a time' in log.read_text() and 'nothing for 0.25 minutes' in log.read_text()
    status, front = visit(url)   # costs no place
    assert status == 200 and not psutil.Process(pid).children()
    assert re.findall(r'class="card" href="/([\w-]+)"', front) == list(app.playgrounds) and 'At most 2 visitors at a time' in front
    assert front.count('<svg') + front.count('<span') > 20, 'pictures of the playgrounds'
    with ThreadPoolExecutor(3) as pool: told = sorted(pool.map(visit, [f'{url}/{name}' for name in app.playgrounds]))
    assert [status for status,_ in told] == [200, 200, 503], [o[-500:] for o in told]
    assert 'All places are taken' in told[2][1] and 'Try again now' in told[2][1] and 'alone for 0.25 minutes' in told[2][1]
    assert 'Traceback' not in told[2][1]
    assert all('<title>What' in text and 'role="alert"' not in text for _,text in told[:2])
    assert visit(f'{url}/nothing')[0] == 404 and 'There is no such page' in visit(f'{url}/nothing')[1]
    kernels = psutil.Process(pid).children()
    assert len(kernels) == 2
    held = lambda kernel: getattr(m := kernel.memory_full_info(), 'pss', m.rss)/2**20   # what they share counts once, as in `bench/app.py`
    shares = lambda: [held(kernel)/app.visitor_mb(bundle) for kernel in kernels]
    for _ in range(150):   # a busy machine is still opening the model
        if min(shares()) > 0.6: break
        time.sleep(0.2)
    assert 0.6 < min(shares()) and max(shares()) < 1.2   # what was said of their memory is about right
    for _ in range(60):
        if not psutil.Process(pid).children(): break
        time.sleep(1)
    assert not psutil.Process(pid).children()   # they were idle
    assert visit(f'{url}/tokens')[0] == 200
    assert not re.search(r'Traceback|WARNING.*Unrecognized', log.read_text().replace('HTTPError', ''))

def test_what_is_said_of_memory_was_measured():
    "The numbers of the code, of `--help` and of the page for teachers, beside the record of ten visitors"
    run = json.loads((root/'bench/results/app.json').read_text('utf8'))['metrics']
    measured, said = run['visitor_mb'], run['said_mb']
    assert run['visitors'] == 10 and run['one_more']['status'] == 503 and run['one_more']['can_try_again'] and run['after_one_left']['status'] == 200
    assert measured['median'] <= 1.1*said and said <= 1.5*measured['worst']
    help = next(kw['help'] for name,kw in course_commands['app'][3] if name == '--visitors')
    assert abs(int(re.search(r'about (\d+) MB', help)[1]) - said) < 0.15*said and f'{max_chars:,} characters' in help
    told = (root/'docs/teaching/hosting.md').read_text('utf8')
    for what in ('page, seconds', 'interaction, seconds'):
        assert all(f'{v:.1f} s' in told for v in run[what].values()), run[what]
    for mb in (*measured.values(), run['total_mb']): assert f'{mb:,.0f} MB' in told, mb
    assert f"{run['cores']} cores of an {run['processor']['name']}" in told
    for who in ('one_more', 'after_one_left'): assert f"after {run[who]['seconds']:.1f} s" in told
