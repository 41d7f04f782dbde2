"What a service does all day: long texts, many texts, many threads, many visitors. Each function gives a record whose `faults` shall be empty"
import importlib.util, os, random, signal, socket, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, psutil
from commands import Running, review, settings
from ulmfit_course.core import peak_rss_mb
from ulmfit_course.inference import load_bundle
from ulmfit_course.models import load_checkpoint
from ulmfit_course.streams import TokenStream

def rss_mb(): return psutil.Process().memory_info().rss/2**20

def alone(home, f, *args):
    "The answer of `f(home, *args)` in a process of its own; what goes wrong there is a fault"
    with tempfile.TemporaryDirectory() as tmp:
        done = Running(tmp, f, str(home), *args).ended(600)
        return done.answer or dict(faults=[*done.faults, f'status {done.status}: {done.err[-300:]}'])

# Long texts

def long_text(n):
    "So many words, a hundredth of them never seen before"
    rng = random.Random(n)
    return ' '.join(f'word{i}' if i % 100 == 0 else review(rng, 'pos', 1) for i in range(n))

def added_mb(work):
    "What some work needs at most, above what is there"
    Path('/proc/self/clear_refs').write_text('5')   # forget the peak so far
    before = rss_mb()
    work()
    return peak_rss_mb() - before

def read_long(home, n):
    clas, text = load_bundle(Path(home)/'bundle'), long_text(n)
    ck = load_checkpoint(Path(home)/'bundle')
    clas.predict(review(random.Random(0), 'pos'))
    found, began = {}, time.perf_counter()
    def predict(): found['probs'] = clas.probabilities([text])[0]
    def stream(): found['tokens'] = len(TokenStream.build([text], Path('stream'), ck.tokenizer, ck.vocab, n_procs=1))
    mb = dict(predict=added_mb(predict), stream=added_mb(stream))
    return dict(words=n, tokens=found['tokens'], seconds=round(time.perf_counter()-began, 1), added_mb=mb, text_mb=len(text)/2**20,
                faults=[] if np.isfinite(found['probs']).all() else ['nan'])

def long_texts(home, n, most=200):
    "A text of so many words needs no more than `most` bytes a word above what the process holds"
    found = alone(home, read_long, n)
    for way,mb in found.get('added_mb', {}).items():
        if mb*2**20 > most*n + 2**25: found['faults'].append(f'{way}: {mb:.0f} MB for {n:,} words')
    return found

# Many texts

def answer_on(home, n):
    "One process answers so many different texts, one at a time; its memory after the first fifth, and at the end"
    clas, rng, sizes = load_bundle(Path(home)/'bundle'), random.Random(0), []
    for i in range(n):
        if i % (n//5) == 0: sizes.append(rss_mb())
        clas.predict(f"{review(rng, 'pos')} Seat {rng.randrange(100)}, {rng.random()}!")
    sizes.append(rss_mb())
    return dict(texts=n, mb=[round(s, 1) for s in sizes], faults=[])

def many_texts(home, n, most_mb=32):
    "So many predictions, and no growth after the first fifth but for new words"
    found = alone(home, answer_on, n)
    if 'mb' in found:
        found['growth_mb'] = round(found['mb'][-1] - found['mb'][1], 1)
        if found['growth_mb'] > most_mb: found['faults'].append(f"grew by {found['growth_mb']} MB: {found['mb']}")
    return found

# Many threads

def in_threads(home, n_threads, n):
    clas, rng = load_bundle(Path(home)/'bundle'), random.Random(0)
    texts = [review(rng, 'pos', rng.randint(1, 60)) for _ in range(n)]
    alone, start = clas.probabilities(texts, bs=1), threading.Barrier(n_threads)
    def work(i):
        start.wait()
        order = random.Random(i).sample(range(n), n)
        return [j for j in order if clas.predict(texts[j])[2].numpy().tobytes() != alone[j].tobytes()]
    with ThreadPoolExecutor(n_threads) as pool: other = [j for o in pool.map(work, range(n_threads)) for j in o]
    return dict(threads=n_threads, texts=n, faults=[f'text {j} has another answer in a thread' for j in other[:5]])

def many_threads(home, n_threads=8, n=200):
    "Threads share one bundle: every answer is that of one thread, to the last bit"
    return alone(home, in_threads, n_threads, n)

# Damaged folders

def read_damaged(home, n, seed=1):
    from test_fuzz import fuzz
    faults = []
    found = fuzz(n, seed, faults.append)
    return dict(found, survived=found['loaded']+found['refused'], faults=faults)

def damaged_folders(home, n, most_mb=200):
    "What `tests/test_fuzz.py` does to bundles, checkpoints and trainings, and the memory that the reading takes"
    found = alone(home, read_damaged, n)
    if found.get('peak_mb', 0) > most_mb: found['faults'].append(f"{found['peak_mb']} MB")
    return found

# Many visitors

def family(process):
    "A process and all that it has started"
    try: return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess: return []

def memory_mb(process):
    "What a process and its children hold; what they share is counted once"
    total = 0
    for p in family(process):
        try: total += p.memory_full_info().pss
        except psutil.Error: pass   # it has just ended
    return total/2**20

def get(url, seconds=300):
    "Status and body of a page; the body of an error, too"
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer: return answer.status, answer.read().decode('utf8', 'replace')
    except urllib.error.HTTPError as e: return e.code, e.read().decode('utf8', 'replace')
    except OSError as e: return 0, str(e)

class App:
    "`ulmfit-course app` with a bundle, on a free port"
    def __init__(self, home, folder):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.url, self.log = f'http://127.0.0.1:{self.port}/why', folder/'log'   # the playground that takes most
        code = 'import sys; from ulmfit_course.cli import main; sys.exit(main())'
        words = [sys.executable, '-c', code, 'app', '--model', home/'bundle', '--no-browser', '--port', str(self.port)]
        env = os.environ | settings | dict(ULMFIT_COURSE_HOME=str(folder/'home'), JUPYTER_CONFIG_DIR=str(folder/'jupyter'))
        with open(self.log, 'w') as log: self.server = subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
        self.process = psutil.Process(self.server.pid)

    def __enter__(self):
        for _ in range(900):
            if self.server.poll() is not None: raise RuntimeError(self.log.read_text())
            try:
                socket.create_connection(('127.0.0.1', self.port)).close()
                return self
            except OSError: time.sleep(.2)
        raise TimeoutError(self.log.read_text())

    def __exit__(self, *_):
        started = family(self.process)
        self.server.terminate()
        try: self.server.wait(30)
        except subprocess.TimeoutExpired: self.server.kill()
        self.left_running = [p.pid for p in psutil.wait_procs(started, 15)[1]]
        for pid in self.left_running: os.kill(pid, signal.SIGKILL)

can_serve = importlib.util.find_spec('voila') is not None

def visitors(home, n, most_mb=1000):
    "So many ask for the page at once: each gets it, or is told to come again; what one of them costs"
    with tempfile.TemporaryDirectory() as tmp:
        with App(home, Path(tmp)) as app:
            empty, began = memory_mb(app.process), time.perf_counter()
            with ThreadPoolExecutor(n) as pool: answers = list(pool.map(get, [app.url]*n))
            seconds, full = time.perf_counter()-began, memory_mb(app.process)
            after = get(app.url)
        said = app.log.read_text()
    served, told = [sum(ok(*o) for o in answers) for ok in (is_page, is_told)]
    faults = [f'status {s}: {body[:200]!r}' for s,body in answers if not is_page(s, body) and not is_told(s, body)]
    faults += ['nobody got the page']*(not served) + ['a traceback']*('Traceback' in said) + [f'left running: {app.left_running}']*bool(app.left_running)
    faults += [f'later: status {after[0]}']*(not is_page(*after) and not is_told(*after))
    each = (full-empty)/max(served, 1)
    return dict(visitors=n, served=served, told_to_wait=told, server_mb=round(empty), mb_each=round(each), seconds=round(seconds, 1),
                faults=faults + [f'{each:.0f} MB a visitor']*(each > most_mb))

def is_page(status, body): return status == 200 and 'What is it worth, and why?' in body and 'Traceback' not in body
def is_told(status, body): return status in (429, 503) and 'Traceback' not in body
