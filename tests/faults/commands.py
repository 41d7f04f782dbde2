"""The command in a process of its own, watched: each thing that it does with a file is counted, and at any of them it can be sent a signal

The processes are forked from a server that has imported the library, so that one costs no more than its work."""
import sys, unittest
if sys.platform != 'linux': raise unittest.SkipTest('signals, limits and mounts are those of Linux')
import hashlib, json, multiprocessing, os, random, resource, shutil, signal, tempfile, time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import pandas as pd, sklearn.feature_extraction.text, sklearn.linear_model, sklearn.pipeline, torch, torch._dynamo  # noqa: F401 (what a run would import, each anew)
from ulmfit_course import all, cli, export, generation, inference  # noqa: F401
from ulmfit_course.core import peak_rss_mb
from ulmfit_course.tokenization import WordTokenizer

here = Path(__file__).resolve().parent
WordTokenizer().tokenize('spaCy comes with the first text')
touches = {'open', *(f'os.{o}' for o in 'rename mkdir rmdir remove link symlink chmod truncate'.split())}   # of Python's audit events
settings = dict(ULMFIT_COURSE_PROFILE='tiny', OMP_NUM_THREADS='1')

def server():
    "What new processes are forked from"
    os.environ.update(settings, PYTHONPATH=os.pathsep.join([str(here), *filter(None, [os.environ.get('PYTHONPATH')])]))
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['commands'])
    return context

# In the child

def watch(folder, log, at, number):
    "Write down what is done with the files of `folder`; just before the `at`th time send this process the signal `number`"
    me, place, seen = os.getpid(), str(folder), 0
    said = os.open(log, os.O_CREAT | os.O_WRONLY)
    def hook(event, args):
        nonlocal seen
        if event not in touches or os.getpid() != me: return
        path = '' if isinstance(args[0], int) else os.fsdecode(args[0])
        if event == 'open' and not os.path.join(place, path).startswith(place): return
        os.write(said, f'{event} {path.removeprefix(place)}\n'.encode('utf8', 'replace'))
        seen += 1
        if seen == at: os.kill(me, number)
    sys.addaudithook(hook)

def enter(folder, log, most_bytes=None):
    "A group of processes of its own, its words in files, and the end of the disk where it shall be"
    os.setsid()
    os.chdir(folder)
    os.environ.update(settings, ULMFIT_COURSE_HOME=str(folder/'home'))
    torch.set_num_threads(1)
    for stream in (1, 2): os.dup2(os.open(f'{log}/{stream}', os.O_CREAT | os.O_WRONLY), stream)
    if most_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

def run_command(words, folder, log, at, number, most_bytes):
    enter(folder, log, most_bytes)
    sys.argv = ['ulmfit-course', *words]
    if at is not None: watch(folder, f'{log}/events', at, number)
    try: sys.exit(cli.main())
    finally: used(log)

def run_function(f, args, folder, log, most_bytes):
    enter(folder, log, most_bytes)
    (Path(log)/'answer').write_text(json.dumps(f(*args)))
    used(log)

def used(log): os.write(os.open(f'{log}/used', os.O_CREAT | os.O_WRONLY), json.dumps([time.process_time(), peak_rss_mb()]).encode())

# In the parent

@dataclass
class Ended:
    "A process that has ended: its status (negative for a signal), its words, what it did with files, what it left running"
    status: int
    out: str
    err: str
    events: list
    seconds: float
    cpu: float   # seconds
    peak_mb: float
    left_running: bool
    answer: object = None
    @property
    def faults(self):
        "What no process of ours may do, whatever it is told and whatever happens to it"
        return [*[f'a traceback: ...{self.err[-300:]!r}']*('Traceback' in self.err or 'should not happen' in self.err), *['it left a process behind']*self.left_running]
    @property
    def refused(self): return self.status == 1 and self.err.startswith('ulmfit-course: ') and self.err.count('\n') == 1

class Running:
    "A process that was started in `folder`: the command with these words, or a function of a module that it can import"
    most_mb = 0   # of all that have ended by themselves
    def __init__(self, folder, *words, at=None, number=signal.SIGKILL, most_bytes=None):
        self.log, self.began = tempfile.mkdtemp(), time.perf_counter()
        folder = Path(folder).resolve()
        if callable(words[0]): target, args = run_function, (words[0], words[1:], folder, self.log, most_bytes)
        else: target, args = run_command, ([*map(str, words)], folder, self.log, at, number, most_bytes)
        self.process = server().Process(target=target, args=args)
        self.process.start()

    def kill(self, number=signal.SIGKILL):
        if self.process.exitcode is None: os.kill(self.process.pid, number)

    def ended(self, seconds=120):
        "Wait for it; one that hangs is killed, and that is its status"
        self.process.join(seconds)
        self.kill()
        self.process.join()
        took, log = time.perf_counter()-self.began, Path(self.log)
        left = still_running(self.process.pid)
        read = lambda name: (log/name).read_text('utf8', 'replace') if (log/name).exists() else ''
        answer, (cpu, peak) = json.loads(read('answer') or 'null'), json.loads(read('used') or '[0, 0]')
        Running.most_mb = max(Running.most_mb, peak)
        try: return Ended(self.process.exitcode, read('1'), read('2'), read('events').splitlines(), took, cpu, peak, left, answer)
        finally: shutil.rmtree(log)

def still_running(group, seconds=10):
    "Whether processes of this group outlive it by so much; they are ended"
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try: os.killpg(group, 0)
        except ProcessLookupError: return False
        time.sleep(.02)
    os.killpg(group, signal.SIGKILL)
    return True

def command(folder, *words, **how): return Running(folder, *words, **how).ended()

def succeed(folder, *words):
    "Run a command that must succeed; what it does with files is counted"
    done = command(folder, *words, at=0)
    if done.status: raise RuntimeError(f"{' '.join(map(str, words))}: status {done.status}\n{done.err}")
    return done

# What the commands work on

once = '--epochs', 2, '--bs', 4, '--seq-len', 16, '--hold-out', 0.2, '--json'
stages = {
    'pretrain': ('pretrain', '--corpus', 'corpus.jsonl', '--emb-sz', 8, '--n-hid', 10, '--n-layers', 2, '--max-vocab', 300, *once),
    'finetune-lm': ('finetune-lm', '--model', 'wiki', '--corpus', 'corpus.jsonl', *once),
    'train': ('train', '--model', 'lm', '--data', 'reviews.csv', '--epochs', 1, 0, 0, 1, '--valid', 0.2, '--json')}

words = '''the a this that film story plot actor scene music end we you it is was has had makes tells shows with of in and but so very'''.split()
said = dict(pos='good great fine moving funny'.split(), neg='bad poor slow dull silly'.split())

def review(rng, label, n=20):
    "A text of few different words, some of which tell its label"
    return ' '.join(rng.choice(words if rng.random() < .8 else said[label]) for _ in range(n)) + '.'

def make_home(folder):
    "Texts, and a tiny model of each stage, which the commands begin with or replace: `wiki`, `lm`, `bundle`"
    rows = [(review(random.Random(i), label), label) for i in range(30) for label in ('neg', 'pos')]
    pd.DataFrame(rows, columns=['text', 'label']).to_csv(folder/'reviews.csv', index=False)
    (folder/'corpus.jsonl').write_text(''.join(json.dumps(dict(text=t))+'\n' for t,_ in rows))
    for words, out in zip(stages.values(), ('wiki', 'lm', 'bundle')): succeed(folder, *words, '--out', out, '--seed', 1)
    for kept in ('wiki.streams', 'wiki.training', 'lm.streams', 'lm.training', 'home'): shutil.rmtree(folder/kept, ignore_errors=True)
    return folder

@contextmanager
def scratch(home, **folders):
    "A copy of what the commands work on, and in it copies of its folders under other names"
    with tempfile.TemporaryDirectory() as tmp:
        work = Path(tmp).resolve()/'work'
        shutil.copytree(home, work)
        for name,source in folders.items(): shutil.copytree(home/source, work/name)
        yield work

def weights(folder):
    "A hash of the files of weights and words in a saved model, its members' too"
    files = sorted(f for f in folder.rglob('*') if f.name in ('model.safetensors', 'vocab.json'))
    return hashlib.sha256(b''.join(f.relative_to(folder).as_posix().encode() + f.read_bytes() for f in files)).hexdigest()

def tree(folder): return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))
def contents(folder): return {name: (folder/name).read_bytes() for name in tree(folder) if (folder/name).is_file()}

def drawn(n, of, seed=0):
    "So many different whole numbers from 1 to `of`, the first and the last among them; all where there are fewer"
    if n >= of: return list(range(1, of+1))
    return sorted({1, of, *random.Random(seed).sample(range(2, of), max(n-2, 0))})
