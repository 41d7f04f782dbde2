"Training with several processes: the numbers of one process, stops and goes on with another number, and one voice"
import json, os, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from ulmfit_course.core import CourseError
from ulmfit_course.models import load_pretrained

here = Path(__file__).parent
rows = 8   # of all processes together
plain = dict(ONEDNN_MAX_CPU_ISA='AVX2')   # float32: bf16, where a processor has it, rounds more than is compared here

def torchrun(n, *words): return [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', str(n), *words]
def started(n, *words): return [sys.executable, *words] if n == 1 else torchrun(n, *words)

def done_by(command, home, **env):
    "What a command leaves, in an environment of its own"
    place = {'ULMFIT_COURSE_HOME': str(home), 'PYTHONPATH': os.pathsep.join([str(here.parent), os.environ.get('PYTHONPATH', '')])}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **plain, **place, **env})

def off(a, b): return max(np.abs(np.array(a[k]) - np.array(b[k])).max() for k in a)
def losses(found): return [row[k] for row in found['curve'] for k in ('train_loss', 'valid_loss')]

@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    "Rank 1 of two is killed in the third of four epochs"
    out = tmp_path_factory.mktemp('killed')
    return out, done_by(started(2, str(here/'ranks_work.py'), str(out), str(rows), '120'), out/'home')

@pytest.fixture(scope='module')
def runs(tmp_path_factory, killed):
    "The same by 1, 2 and 4 processes; one and four of them go on with what the two have left"
    found, (stopped, _) = {}, killed
    for n in (1, 2, 4):
        out = tmp_path_factory.mktemp(f'by{n}')
        shutil.copytree(stopped/'lm.training', out/'stopped.training')
        asked = ['stages'] if n == 2 else ['resume', 'stages'] if n == 1 else ['resume']
        done = done_by(started(n, str(here/'ranks_work.py'), str(out), str(rows), '0', *asked), out/'home')
        assert done.returncode == 0, done.stderr[-3000:]
        found[n] = json.loads((out/'found.json').read_text())
    return found

@pytest.mark.parametrize('n', (2, 4))
def test_the_losses_of_one_process(runs, n):
    "Two hundred steps of n processes with bs 8/n are those of one with bs 8, chunk lengths drawn, without dropout"
    one, several = runs[1]['lm'], runs[n]['lm']
    assert len(one['widths'][0]) >= 200 and len({*one['widths'][0]}) > 5
    assert several['widths'] == one['widths']*n
    assert np.allclose(losses(one), losses(several), rtol=0, atol=1e-4) and abs(one['perplexity'] - several['perplexity']) < 1e-3
    assert losses(one)[-1] < losses(one)[1] - 0.1   # and something was learned
    assert off(one['weights'], several['weights']) < 1e-3

def test_a_killed_rank_ends_the_run(killed):
    "The launcher ends, the other rank says one line, and what is left is the last whole epoch"
    out, done = killed
    ours = [l for l in done.stderr.splitlines() if 'go on from their last epoch' in l]
    assert done.returncode and len(ours) <= 1 and '[rank0]' not in done.stderr   # the launcher may be quicker than the line
    assert not (out/'lm').exists() and [p.name for p in (out/'lm.training').iterdir()] == ['training.pth']
    assert torch.load(out/'lm.training'/'training.pth', weights_only=True)['epoch'] == 2

@pytest.mark.parametrize('n', (1, 4))
def test_goes_on_with_another_number(runs, n):
    whole, resumed = runs[1]['lm'], runs[n]['resumed']
    assert len(resumed['widths'][0]) < 120 and len(resumed['curve']) == 4
    assert np.allclose(losses(whole), losses(resumed), rtol=0, atol=1e-4)
    assert off(whole['weights'], resumed['weights']) < 1e-3

def test_masks_differ(runs):
    "Ranks drop other units, and count the tokens of all"
    one, two = runs[1]['finetuned'], runs[2]['finetuned']
    assert two['masks'][0] != two['masks'][1] and two['tokens_seen'] == one['tokens_seen']

def test_the_classifier_of_one_process(runs):
    "The same batches, batch normalization over all rows, whatever the padding: the same weights, and scores on whole texts"
    one, two = runs[1]['classified'], runs[2]['classified']
    assert off(one['weights'], two['weights']) < 1e-4 and np.allclose(one['scores'], two['scores'], atol=1e-4)
    assert off(one['weights'], one['start']) > 1e-2   # and something was learned
    assert 0 < two['sent'][0] < two['sent'][1]   # fewer bytes than the gradients have

def test_the_solved_head_of_one_process(runs): assert off(runs[1]['solved']['weights'], runs[2]['solved']['weights']) < 1e-4

small = '--emb-sz 16 --n-hid 24 --n-layers 1 --epochs 1 --seq-len 10 --json'.split()

@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp('corpus')
    lines = [' '.join(f'word{(i*j) % 37}' for j in range(1, 30)) for i in range(200)]
    (folder/'corpus.txt').write_text('\n'.join(lines))
    return folder

@pytest.fixture(scope='module')
def launched(corpus):
    "`accelerate launch` of `pretrain`"
    launcher = [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2']
    words = ['-m', 'ulmfit_course', 'pretrain', '--corpus', str(corpus/'corpus.txt'), '--out', str(corpus/'lm'), '--bs', '2', *small]
    return done_by([*launcher, *words], corpus/'home')

def answer(done):
    "The one line of JSON that all processes together print"
    assert done.returncode == 0, done.stderr[-3000:]
    line, = [line for line in done.stdout.splitlines() if line]
    return json.loads(line)

def test_pretrain_from_the_command_line(corpus, launched):
    assert answer(launched)['tokens_seen'] > 4000 and {p.name for p in corpus.iterdir()} >= {'lm', 'lm.streams', 'lm.training'}

def test_finetune_lm_from_the_command_line(corpus, launched):
    "`torchrun` of `finetune-lm`, which goes on from what `pretrain` has left"
    assert launched.returncode == 0
    (corpus/'target.csv').write_text('\n'.join(['text', *(f'"{line}"' for line in (corpus/'corpus.txt').read_text().splitlines()[::2])]))
    words = ['finetune-lm', '--model', str(corpus/'lm'), '--corpus', str(corpus/'target.csv'), '--out', str(corpus/'target'), '--bs', '2', '--epochs', '1',
             '--seq-len', '10', '--json']
    found = answer(done_by(torchrun(2, '-m', 'ulmfit_course', *words), corpus/'home'))
    assert 2000 < found['tokens_seen'] < 4000 and load_pretrained(corpus/'target').config['stage'] == 'lm_finetuning'

def test_train_from_the_command_line(corpus, launched):
    "`torchrun` of `train`: gradual unfreezing by two processes, scores beside the baseline by the first"
    assert launched.returncode == 0
    rows = [f'{" ".join(f"word{(i*j) % 37}" for j in range(1, 12))},{"odd" if i % 2 else "even"}' for i in range(36)]
    (corpus/'rows.csv').write_text('\n'.join(['text,label', *rows]))
    words = ['train', '--model', str(corpus/'lm'), '--data', str(corpus/'rows.csv'), '--out', str(corpus/'bundle'), '--bs', '4',
             '--epochs', '1', '0', '0', '1', '--lin-ftrs', '10', '--valid', '0.2', '--json', '--force']
    found = answer(done_by(torchrun(2, '-m', 'ulmfit_course', *words), corpus/'home'))
    assert 0 <= found['valid']['accuracy'] <= 1 and 25 <= found['n_labels'] < 36 and (corpus/'bundle'/'config.json').is_file()

def test_one_voice(corpus):
    "What is wrong from the start is said once, by one of the processes, and nothing is written"
    words = ['-m', 'ulmfit_course', 'pretrain', '--corpus', str(corpus/'none.txt'), '--out', str(corpus/'no'), *small]
    done = done_by(torchrun(2, *words), corpus/'home')
    said = [l for l in done.stderr.splitlines() if l.startswith('ulmfit-course: ')]
    assert done.returncode and len(said) == 1 and 'none.txt' in said[0] and not list(corpus.glob('no*'))

def test_rows_of_one_stream(monkeypatch):
    "Four ranks with two rows each read the eight rows of one process, chunk by chunk"
    from ulmfit_course import batching
    from ulmfit_course.streams import TokenStream
    monkeypatch.setattr(batching, 'join', lambda: None)
    stream = TokenStream(np.arange(4001, dtype=np.uint16) % 50, [f'w{i}' for i in range(50)])
    batches = {}
    for n, bs in ((1, 8), (4, 2)):
        for r in range(n):
            monkeypatch.setenv('RANK', str(r)); monkeypatch.setenv('WORLD_SIZE', str(n))
            dls = batching.lm_dataloaders(stream, stream[:400], bs, 10, variable_bptt=True)
            assert dls.train.all_rows == 8 and len(dls.train) == len(dls.train.cuts())-1
            batches[n, r] = [torch.cat(b) for b in dls.train], [torch.cat(b) for b in dls.valid]
    for part in (0, 1):
        for whole, *own in zip(batches[1, 0][part], *(batches[4, r][part] for r in range(4))):
            x, y = zip(*(o.chunk(2) for o in own))
            assert torch.equal(whole, torch.cat([*x, *y]))

def test_ragged_batches_are_shared_out():
    "Each process takes as many rows of each batch; the rows of a last one that lacks some come twice"
    from ulmfit_course.loaders import SharedDL
    dl = SharedDL(list(range(11)), res=[1]*11, bs=4, num_workers=0)
    for n in (1, 2, 3, 4):
        parts = []
        for r in range(n):
            dl.share = r, n
            parts.append([list(b) for b in dl.chunkify(range(11))])
        assert all(len({len(p[i]) for p in parts}) == 1 for i in range(3)) and {x for p in parts for b in p for x in b} == {*range(11)}

def test_nothing_changes_alone(tmp_path):
    "Without a launcher neither accelerate nor fastai's part for several processes is imported by a training"
    code = ('import sys; from ulmfit_course.training import rank_callbacks; from ulmfit_course.pretraining import pretrain; '
            'assert rank_callbacks() == []; assert not {"accelerate", "fastai.distributed"} & {*sys.modules}')
    done = done_by([sys.executable, '-c', code], tmp_path)
    assert done.returncode == 0, done.stderr

def test_accelerates_cpu_switch(monkeypatch):
    from ulmfit_course.ranks import join
    for name in ('RANK', 'WORLD_SIZE'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('ACCELERATE_USE_CPU', 'True'); monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    with pytest.raises(CourseError, match='--multi_gpu'): join()
