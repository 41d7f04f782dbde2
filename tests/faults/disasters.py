"What ends a run before its time, and what must be true afterwards. Each function gives a record whose `faults` shall be empty"
import os, random, signal, subprocess, tempfile, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
import numpy as np, torch
from commands import Running, command, contents, drawn, scratch, stages, succeed, tree, weights
from ulmfit_course.core import CourseError, atomic_folder
from ulmfit_course.inference import load_bundle
from ulmfit_course.models import load_checkpoint, load_pretrained, save_checkpoint
from ulmfit_course.streams import TokenStream

old_models = {'pretrain': 'wiki', 'finetune-lm': 'lm', 'train': 'bundle'}   # what stands in the way of a stage's `--out made`

def out_of(stage): return *stages[stage], '--out', 'made'

# What must be true

class Promise:
    "A stage, what an undisturbed run of it makes, and what is wrong with a folder where a run was disturbed"
    def __init__(self, home, stage):
        self.home, self.stage, self.old = home, stage, old_models[stage]
        with scratch(home) as work:
            done = succeed(work, *out_of(stage))
            self.events, self.seconds = len(done.events), done.seconds
            self.new, self.tree, self.sizes = weights(work/'made'), tree(work), [f.stat().st_size for f in work.rglob('*') if f.is_file()]
        self.before, self.kept, self.bytes_lost = weights(home/self.old), contents(home), 0

    def place(self, stood): return scratch(self.home, **{'made': self.old} if stood else {})

    def whole(self, path):
        "Why there is no whole model, neither the old one nor the new; nothing if there is"
        try: (load_bundle if self.stage == 'train' else load_pretrained)(path)
        except CourseError as e: return str(e)
        return '' if weights(path) in (self.before, self.new) else 'neither the old weights nor the new'

    def model_is_whole(self, work, stood):
        "The model from before or the new one; none only where none `stood` there"
        if not stood and not (work/'made').exists() or not (why := self.whole(work/'made')): return []
        self.bytes_lost += sum(len(b) for name,b in self.kept.items() if name.startswith(f'{self.old}/'))
        return [f'no whole model: {why}']

    def nothing_else_lost(self, work):
        found = contents(work)
        gone = [name for name,b in self.kept.items() if found.get(name) != b]
        self.bytes_lost += sum(len(self.kept[name]) for name in gone)
        return [f'{name} has changed or gone' for name in gone]

    def runs_again(self, work):
        "The same command once more ends as if nothing had happened"
        done = command(work, *out_of(self.stage))
        if done.status: return [*done.faults, f'does not run again: {done.err or done.status}']
        strays = sorted(set(tree(work)) ^ set(self.tree))
        return [*done.faults, *['other weights']*(weights(work/'made') != self.new), *[f'left lying: {strays[:5]}']*bool(strays)]

    def kept_by(self, work, done, stood):
        "Every fault after a disturbed run, and after a second"
        return [*done.faults, *self.model_is_whole(work, stood), *self.nothing_else_lost(work), *self.runs_again(work), *self.nothing_else_lost(work)]

    def record(self, trials, **more): return record(trials, bytes_lost=self.bytes_lost, **more)

def record(trials, **more):
    "What the trials have in common: `(name, faults)` of each"
    bad = [f'{name}: {f}' for name,faults in trials for f in faults]
    return dict(tried=len(trials), survived=sum(not faults for _,faults in trials), faults=bad, **more)

def side_by_side(f, items, workers):
    with ThreadPoolExecutor(workers) as pool: return list(pool.map(f, items))

def hidden(folder): return [name for name in tree(folder) if Path(name).name.startswith('.')]

# Kills

def kills(home, stage, n, workers=1, seed=0):
    "`kill -9`, four of five times just before something is done with a file, else at any moment; every second time a model stands there"
    promise = Promise(home, stage)
    at = [dict(at=k) for k in drawn(n - n//5, promise.events, seed)]
    rng = random.Random(seed)
    at += [dict(after=promise.seconds*rng.random()) for _ in range(n//5)]
    def trial(numbered):
        i, how = numbered
        with promise.place(stood := i % 2 == 0) as work:
            run = Running(work, *out_of(stage), at=how.get('at', 0))
            if 'after' in how:
                time.sleep(how['after'])
                run.kill()
            done = run.ended()
            where = done.events[-1] if done.events else 'the start'
            return done.status == -signal.SIGKILL, (f'{stage}, killed at {how} ({where})', promise.kept_by(work, done, stood))
    ended = side_by_side(trial, enumerate(at), workers)
    return promise.record([o for _,o in ended], killed=sum(k for k,_ in ended), events=promise.events)

def stops(home, stage, n, workers=1, seed=0):
    "TERM, HUP and Ctrl-C, in turn, where something is done with a file: one line, nothing left lying, old or new, and on it goes"
    promise = Promise(home, stage)
    def trial(numbered):
        i, k = numbered
        number = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[i % 3]
        with promise.place(stood=True) as work:
            done = command(work, *out_of(stage), at=k, number=number)
            where = done.events[k-1] if len(done.events) >= k else 'the end'
            in_order = where.startswith(('os.remove', 'os.rmdir')) or where.startswith('open') and where.endswith('.tmp')
            strays = [] if in_order else hidden(work)   # one that is stopped while it puts things in order leaves that to the next
            said = done.err.count('\n') == 1 and done.err.startswith('ulmfit-course: ') and not done.out
            faults = [] if done.status > 0 and said else [f'status {done.status}, said {done.err[-300:]!r}'] if done.status or not done.out else []
            return f'{stage}, {number.name} at {k} ({where})', faults + [f'left lying: {strays[:5]}']*bool(strays) + promise.kept_by(work, done, True)
    return promise.record(side_by_side(trial, enumerate(drawn(n, promise.events, seed)), workers))

# Disks

@cache
def can_mount():
    "Whether this user may mount a disk of memory"
    if os.geteuid(): return False
    with tempfile.TemporaryDirectory() as tmp:
        if subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', tmp], capture_output=True).returncode: return False
        return not subprocess.run(['umount', tmp], capture_output=True).returncode

@contextmanager
def disk(place, size='64m', *options):
    "A disk of memory of so many bytes"
    place.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join([f'size={size}', *options]), 'tmpfs', place], check=True)
    try: yield place
    finally: subprocess.run(['umount', '-l', place], check=True)

def remount(place, *options): subprocess.run(['mount', '-o', ','.join(['remount', *options]), place], check=True)

def used(place):
    s = os.statvfs(place)
    return (s.f_blocks-s.f_bfree)*s.f_frsize

def said_why(done): return [] if done.refused else [f'status {done.status}, said {done.err[-300:]!r}']

def full_disks(home, stage, n, workers=1):
    "A disk that is full after so many pages more, from one to as many as the run needs"
    promise, page = Promise(home, stage), os.sysconf('SC_PAGE_SIZE')
    def trial(extra=None):
        with tempfile.TemporaryDirectory() as tmp, promise.place(True) as full, disk(Path(tmp).resolve()/'disk') as work:
            subprocess.run(['cp', '-r', f'{full}/.', work], check=True)
            before, began = used(work), time.time()
            if extra is None:
                succeed(work, *out_of(stage))
                return sum(-(-f.stat().st_size//page) for f in work.rglob('*') if f.stat().st_mtime > began)
            remount(work, f'size={before+extra}')
            done = command(work, *out_of(stage))
            faults = said_why(done) if done.status else []
            faults += promise.model_is_whole(work, True) + promise.nothing_else_lost(work)
            remount(work, 'size=64m')
            return done.refused, (f'{stage}, full after {extra} bytes', faults + promise.kept_by(work, done, True))
    ended = side_by_side(trial, [page*k for k in drawn(n, trial())], workers)
    return promise.record([o for _,o in ended], full=sum(k for k,_ in ended))

def files_that_cannot_grow(home, stage, n, workers=1):
    "What a full disk does where none can be mounted: no file may be longer than so many bytes"
    promise = Promise(home, stage)
    sizes = sorted({s for s in promise.sizes if s > 2000})
    def trial(most):
        with promise.place(True) as work:
            done = command(work, *out_of(stage), most_bytes=most)
            return done.refused, (f'{stage}, no file over {most} bytes', (said_why(done) if done.status else []) + promise.kept_by(work, done, True))
    ended = side_by_side(trial, [sizes[k-1]-1 for k in drawn(n, len(sizes))], workers)
    return promise.record([o for _,o in ended], full=sum(k for k,_ in ended))

# Places that cannot be written, or hold what is not ours

def theirs(folder):
    "A project of somebody's, of which one file is called as one of ours is"
    (folder/'sub').mkdir(parents=True)
    (folder/'config.json').write_text('{"port": 8080, "debug": true}')
    for name in ('thesis.docx', 'sub/photo.jpg'): (folder/name).write_bytes(b'five years of work')
    return folder.name

def theirs_in_ours(work):
    (work/'lm'/'thesis.docx').write_bytes(b'five years of work')
    return 'lm'

def linked(work, name, to):
    (work/name).symlink_to(to)
    return name

bad_places = {   # name -> what makes the place, and gives the word for `--out`
    "somebody's project": lambda work: theirs(work/'project'),
    "a link to somebody's project": lambda work: linked(work, 'link', theirs(work/'project')),
    "a model with somebody's file in it": theirs_in_ours,
    'the folder that we are in': lambda work: '.',
    'the folder above': lambda work: '..',
    'nothing': lambda work: '',
    'the root': lambda work: '/',
    'a file': lambda work: 'reviews.csv',
    'a folder in a file': lambda work: 'reviews.csv/made',
    'a folder in a device': lambda work: '/dev/null/made',
    'a name that is too long': lambda work: 'x'*300,
    'a path that is too long': lambda work: 'x/'*3000 + 'made',
    'where nobody may write': lambda work: '/proc/made',
    'a link to itself': lambda work: linked(work, 'link', 'link')}

def taken(work, name):
    (work/name).write_text('mine')
    return 'made'

bad_neighbours = {   # of a language model, whose streams and training lie beside it
    'beside a file where the streams go': lambda work: taken(work, 'made.streams'),
    'beside a file where the training goes': lambda work: taken(work, 'made.training')}

def refused(home, stage, name, make, disks=False):
    "Whether a place is refused in one line, in the first second, and nothing is lost or left"
    with scratch(home) as work:
        with disk(work/'disk', '64m') if disks else scratch(home) as other:
            out = make(work)
            before, names = contents(work), tree(work)
            done = command(work, *stages[stage], '--out', out)
            faults = [*done.faults, *said_why(done), *[f'{done.cpu:.1f} seconds']*(done.cpu > 1), *['something was lost']*(not before.items() <= contents(work).items())]
            strays = sorted(set(tree(work)) ^ set(names))
            return f'{stage} --out {name}', faults + [f'left lying: {strays[:5]}']*bool(strays) + ['the disk was taken away']*(not other.exists())

def read_only(work):
    remount(work/'disk', 'ro')
    return 'disk/made'

def ours_on_a_disk(work):
    subprocess.run(['cp', '-r', *(work/'lm').iterdir(), work/'disk'], check=True)
    return 'disk'

bad_disks = {'a disk': lambda work: 'disk', 'a disk that holds a model': ours_on_a_disk, 'a disk that cannot be written': read_only}

def refusals(home, workers=1, stages=tuple(stages)):
    "Every bad place, for each stage"
    tried = [(stage, name, make, False) for stage in stages for name,make in bad_places.items()]
    tried += [(stage, name, make, False) for stage in stages if stage != 'train' for name,make in bad_neighbours.items()]
    if can_mount(): tried += [(stage, name, make, True) for stage in stages for name,make in bad_disks.items()]
    return record(side_by_side(lambda o: refused(home, *o), tried, workers))

def good_link(home, stage):
    "A link to a model stays a link, and the model behind it is replaced; a link to nowhere is refused or followed"
    promise = Promise(home, stage)
    with promise.place(True) as work:
        (work/'made').rename(work/'elsewhere')
        linked(work, 'made', 'elsewhere')
        done = command(work, *out_of(stage))
        faults = [*done.faults, *['no longer a link']*(not (work/'made').is_symlink()), *['not replaced']*(weights(work/'elsewhere') != promise.new)]
    with scratch(home) as work:
        linked(work, 'made', 'nowhere')
        done = command(work, *out_of(stage))
        fine = done.refused and done.cpu < 1 if done.status else (work/'made').is_symlink() and weights(work/'nowhere') == promise.new
        return record([(f'{stage}, a link to a model', faults), (f'{stage}, a link to nowhere', [] if fine and not done.faults else [*done.faults, done.err])])

# At once

def twice_at_once(home, stage, n, workers=1, seed=0):
    "Two runs with one `--out`, the second so much later: one makes the model, the other makes the same or says why not"
    promise = Promise(home, stage)
    def trial(after):
        with promise.place(True) as work:
            first = Running(work, *out_of(stage))
            time.sleep(after)
            both = [o.ended() for o in (Running(work, *out_of(stage)), first)]
            faults = [f for o in both for f in o.faults + (said_why(o) if o.status else [])]
            if all(o.status for o in both): faults.append('neither made it')
            elif weights(work/'made') != promise.new: faults.append('not the new model')
            return f'{stage}, a second {after:.2f} s later', faults + promise.model_is_whole(work, True) + promise.nothing_else_lost(work) + promise.runs_again(work)
    rng = random.Random(seed)
    return promise.record(side_by_side(trial, [0.]*(n - n//2) + [promise.seconds*rng.random() for _ in range(n//2)], workers))

def build_stream(n):
    "What one of the processes finds"
    stream = TokenStream.cached([f'Text {i} of a corpus that several want at once.' for i in range(n)], min_freq=1)
    return [len(stream), len(stream.vocab), stream.meta['data_hash'], int(np.asarray(stream.ids).sum())]

def one_stream(home, n, builders=3):
    "Several processes want the same stream, so often"
    def trial(i):
        with scratch(home) as work:
            done = [o.ended() for o in [Running(work, build_stream, 200+i) for _ in range(builders)]]
            faults = [f for o in done for f in o.faults + [o.err]*bool(o.status)]
            if len({str(o.answer) for o in done}) != 1: faults.append('not the same streams')
            names = Counter(Path(name).parent.name for name in tree(work/'home'/'streams') if '/' in name)
            return f'{builders} builders, {200+i} texts', faults + [f'left lying: {dict(names)}']*(list(names.values()) != [3])
    return record([trial(i) for i in range(n)])

def marked(home, name, value):
    "A model all of whose parts say `value`"
    ck = load_checkpoint(home/name)
    return type(ck)({k: torch.full_like(w, value) for k,w in ck.weights.items()}, [*ck.vocab[:-1], f'word{value}'], ck.config | dict(card=dict(corpus=str(value))))

def says(ck): return {*(float(w.float().min()) for w in ck.weights.values()), float(ck.vocab[-1][4:]), float(ck.config['card']['corpus'])}

def rewrite(home, path, value, seconds):
    "Write a model, and a bundle of two, again and again; how often"
    lm, clas, end, n = marked(Path(home), 'lm', value), marked(Path(home), 'bundle', value), time.perf_counter()+seconds, 0
    while time.perf_counter() < end:
        save_checkpoint(Path(path)/'lm', lm)
        with atomic_folder(Path(path)/'bundle') as tmp:   # as `save_bundle` does
            save_checkpoint(tmp, clas)
            save_checkpoint(tmp/'members'/'2-fwd', clas)
        n += 1
    return n

def parts_of_checkpoint(path): return says(load_checkpoint(path/'lm'))

def parts_of_bundle(path):
    members = load_bundle(path/'bundle').members
    assert len(members) == 2
    return {float(w.float().min()) for m in members for w in m.model.state_dict().values() if w.is_floating_point()}

def read_on(path, parts, seconds):
    "Read again and again: how often, how often something was missing, how often it was a mixture of two models"
    found, end = Counter(reads=0, missing=0, mixed=0), time.perf_counter()+seconds
    while time.perf_counter() < end:
        found['reads'] += 1
        try: found['mixed'] += len(parts(Path(path))) != 1
        except (CourseError, OSError) as e:
            found['missing'] += 1
            found[f'missing: {type(e).__name__}: {e}'[:200]] += 1
    return found

def readers_beside_writers(home, seconds):
    "Two processes read what two others replace"
    with scratch(home) as work:
        shared = work/'shared'
        rewrite(home, shared, 1, 0.1)
        readers = [Running(work, read_on, str(shared), parts, seconds) for parts in (parts_of_checkpoint, parts_of_bundle)]
        writers = [Running(work, rewrite, str(home), str(shared), value, seconds) for value in (1, 2)]
        read, wrote = ([o.ended() for o in some] for some in (readers, writers))
        found, strays = sum((Counter(o.answer) for o in read), Counter()), hidden(shared)
        faults = [f for o in read+wrote for f in o.faults + [o.err]*bool(o.status)]
        faults += [f'{k}: {v}' for k,v in found.items() if k.startswith('missing:')] + [f"{found['mixed']} mixtures of two models"]*bool(found['mixed'])
        return dict(reads=found['reads'], writes=sum(o.answer or 0 for o in wrote), missing=found['missing'], mixed=found['mixed'],
                    faults=faults + [f'left lying: {strays[:5]}']*bool(strays))
