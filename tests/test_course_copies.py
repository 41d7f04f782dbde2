"What a learner's folder and the page of the playgrounds do where the disk, the record or the memory is not as one would like"
import errno, json, os, re, signal, socket, subprocess, sys, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
import psutil, pytest, torch
from ulmfit_course import lab
from ulmfit_course.core import CourseError, file_hash
from ulmfit_course.documents import text_classifier
from ulmfit_course.models import Checkpoint, load_pretrained, save_checkpoint

@pytest.fixture
def course(tmp_path, monkeypatch):
    "A course of three files, which can be changed, and the folder of a learner"
    source = tmp_path/'source'
    for i in range(3): write(source/f'nbs/{i}.ipynb', f'{{"lesson": {i}, "text": "{"x"*1000}"}}')
    monkeypatch.setattr(lab, 'course_files', lambda: {o.relative_to(source).as_posix(): o for o in sorted(source.rglob('*.ipynb'))})
    return source, tmp_path/'mine'

def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

def same(source, mine, but=()):
    names = [o.relative_to(source) for o in source.rglob('*.ipynb')]
    assert all((source/o).read_bytes() == (mine/o).read_bytes() for o in names if o.as_posix() not in but)
    assert [o.name for o in mine.rglob('.*')] == ['.course.json']   # nothing is left behind
    return True

@pytest.mark.parametrize('stop', range(4))
def test_a_copy_that_stops_anywhere_is_mended_by_the_next(course, monkeypatch, stop):
    "Also by one of a newer course"
    source, mine = course
    release = lambda name: [write(source/f'nbs/{i}.ipynb', f'{name} {i}') for i in range(3)]
    replace, done = os.replace, []
    def full(a, b, **kw):
        if len(done) == stop: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(b))
        done.append(b)
        return replace(a, b, **kw)
    release('first')
    lab.copy_course(mine)
    release('second')
    with monkeypatch.context() as m:
        m.setattr(os, 'replace', full)
        with pytest.raises(CourseError, match='No space left.*make room') as e: lab.copy_course(mine)
    assert '\n' not in str(e.value)
    release('third')
    assert lab.copy_course(mine) == [] and same(source, mine)

def test_half_a_lesson_is_nobodys_work(course):
    source, mine = course
    lab.copy_course(mine)
    whole = (source/'nbs/1.ipynb').read_bytes()
    for half in (b'', whole[:1], whole[:-1]):
        (mine/'.course.json').unlink()
        (mine/'nbs/1.ipynb').write_bytes(half)
        assert lab.copy_course(mine) == [] and same(source, mine)
    for own in (b'{', whole + b'\n', b'mine'):
        if whole.startswith(own): continue
        (mine/'nbs/1.ipynb').write_bytes(own)
        assert lab.copy_course(mine) == ['nbs/1.ipynb'] and (mine/'nbs/1.ipynb').read_bytes() == own

@pytest.mark.parametrize('record', ['', '{', 'null', '[]', '7', '"a"', '{"nbs/1.ipynb": 7}', '{"nbs/1.ipynb": [7, null]}', '{"nbs/1.ipynb": {}}', '['*50_000, '\x00', '{"a": "b"}'])
def test_a_broken_record_keeps_what_differs(course, record):
    source, mine = course
    lab.copy_course(mine)
    write(mine/'nbs/1.ipynb', 'mine')
    write(mine/'.course.json', record)
    for _ in range(2): assert lab.copy_course(mine) == ['nbs/1.ipynb'] and same(source, mine, ['nbs/1.ipynb'])
    assert (mine/'nbs/1.ipynb').read_text() == 'mine'

def test_a_record_of_an_earlier_release(course):
    source, mine = course
    lab.copy_course(mine)
    write(mine/'nbs/1.ipynb', 'as an earlier release had it')
    write(mine/'.course.json', json.dumps({'nbs/1.ipynb': file_hash(mine/'nbs/1.ipynb')}))
    assert lab.copy_course(mine) == [] and same(source, mine)

@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_cannot_be_written(course):
    _, mine = course
    mine.mkdir(mode=0o555)
    with pytest.raises(CourseError, match='Permission denied.*name a folder where you may write'): lab.copy_course(mine)

def test_what_cannot_be_a_folder(course, tmp_path):
    source, mine = course
    write(mine, 'a file')
    for to in (mine, mine/'below', tmp_path/('x'*300)):
        with pytest.raises(CourseError, match='name a folder where you may write') as e: lab.copy_course(to)
        assert '\n' not in str(e.value)

def test_nothing_is_written_where_nothing_is_new(course):
    _, mine = course
    lab.copy_course(mine)
    before = (mine/'.course.json').stat().st_mtime_ns
    lab.copy_course(mine)
    assert (mine/'.course.json').stat().st_mtime_ns == before

# The page

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
    cost = lab.visitor_mb(bundle)
    memory(300 + 3*cost)
    assert lab.places(bundle) == 3 and f'about {cost:,} MB' in capsys.readouterr().err
    assert lab.places(bundle, 5) == 5 and 'more than there is room for' in capsys.readouterr().err
    memory(100)
    assert lab.places(bundle) == 1 and 'room for 0' in capsys.readouterr().err
    with pytest.raises(CourseError, match='lets nobody in'): lab.places(bundle, 0)

@pytest.fixture
def page(bundle, tmp_path):
    "The page for two visitors, who give up their places after a few idle seconds"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    options = ['--no-browser', f'--port={port}', '--MappingKernelManager.cull_idle_timeout=15', '--MappingKernelManager.cull_interval=2']
    code = f'from ulmfit_course.lab import serve_app; serve_app({str(bundle)!r}, "127.0.0.1", {options}, visitors=2)'
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
    assert 'At most 2 at a time' in log.read_text()
    with ThreadPoolExecutor(3) as pool: told = sorted(pool.map(visit, [url]*3))
    assert [status for status,_ in told] == [200, 200, 503], [o[-500:] for o in told]
    assert 'no place is free, please come back' in told[2][1] and 'Traceback' not in told[2][1]
    assert all('The playgrounds' in text and 'role="alert"' not in text for _,text in told[:2])
    kernels = psutil.Process(pid).children()
    assert len(kernels) == 2
    for kernel in kernels:   # what was said of their memory is about right
        mb = kernel.memory_info().rss/2**20
        assert 0.6*lab.visitor_mb(bundle) < mb < 1.2*lab.visitor_mb(bundle), mb
    for _ in range(60):
        if not psutil.Process(pid).children(): break
        time.sleep(1)
    assert not psutil.Process(pid).children()   # they were idle
    assert visit(url)[0] == 200
    assert not re.search(r'Traceback|WARNING.*Unrecognized', log.read_text().replace('HTTPError', ''))
