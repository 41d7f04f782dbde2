"What watches runs watches ours: TensorBoard by fastai's callback, Weights & Biases and trackio by `LogTo`, all without a connection"
import json, os, sqlite3, subprocess, sys
import numpy as np, pytest, torch
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.learners import language_model_learner, text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.streams import TokenStream
from ulmfit_course.tracking import LogTo
from test_classifier import checkpoint, frame, words

torch.set_num_threads(1)

def classifier():
    return text_classifier_learner(classifier_dataloaders(frame(32), frame(16, 1), words, bs=8, device='cpu'), checkpoint(), verbose=False, max_len=100)

def language_model():
    ck = checkpoint()
    stream = lambda seed: TokenStream.in_memory(list(frame(60, seed).text), ck.tokenizer, ck.vocab)
    return language_model_learner(lm_dataloaders(stream(0), stream(1), bs=4, seq_len=10), ck, verbose=False)

def fitted(learn, cb, epochs=2):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, 1e-2, cbs=cb)
    return learn

@pytest.mark.parametrize('make,traced,score', [(classifier, False, 'accuracy'), (classifier, True, 'accuracy'), (language_model, False, 'perplexity')])
def test_tensorboard(tmp_path, make, traced, score):
    pytest.importorskip('tensorboard', reason='TensorBoard is not installed: pip install tensorboard')
    from fastai.callback.tensorboard import TensorBoardCallback
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    learn = fitted(make(), TensorBoardCallback(tmp_path, trace_model=traced, log_preds=False))
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    values = lambda name: [e.value for e in found.Scalars(name)]
    assert found.Tags()['graph'] == traced and {'train_loss', 'valid_loss', score, 'lr_0', 'wd_0'} <= set(found.Tags()['scalars'])
    assert len(values('train_loss')) >= 2*len(learn.dls.train) and len(values(score)) == 2
    assert np.allclose(values(score), [row[2] for row in learn.recorder.values])

@pytest.mark.parametrize('make,score', [(classifier, 'accuracy'), (language_model, 'perplexity')])
def test_log_to(make, score):
    seen = []
    learn = fitted(make(), LogTo(seen.append))
    scores = [o for o in seen if 'epoch' in o]
    assert len(seen) == 2*len(learn.dls.train) + 2 and np.allclose([o[score] for o in scores], [row[2] for row in learn.recorder.values])
    json.dumps(seen)   # plain numbers

code = '''
import sys
sys.path.insert(0, {tests!r})
import {name}
from ulmfit_course.tracking import LogTo
from test_tracking import classifier, fitted
run = {name}.init(project='films')
fitted(classifier(), LogTo({name}.log))
'''

def in_process(name, more, **env):
    done = subprocess.run([sys.executable, '-c', code.format(name=name, tests=os.path.dirname(__file__)) + more], env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

def test_weights_and_biases_offline(tmp_path):
    pytest.importorskip('wandb', reason='Weights & Biases is not installed: pip install wandb')
    said = in_process('wandb', "print({k: v for k,v in dict(run.summary).items() if k in ('accuracy', 'epoch')})\nrun.finish()",
                      WANDB_MODE='offline', WANDB_DIR=str(tmp_path), WANDB_SILENT='true')
    assert "'epoch': 2" in said and 'accuracy' in said and [*tmp_path.glob('wandb/offline-run-*/*.wandb')]

def test_trackio(tmp_path):
    pytest.importorskip('trackio', reason='trackio is not installed: pip install trackio')
    in_process('trackio', 'trackio.finish()', TRACKIO_DIR=str(tmp_path), HF_HUB_OFFLINE='1')
    with sqlite3.connect(tmp_path/'films.db') as db: rows = [json.loads(r[0]) for r in db.execute('select metrics from metrics')]
    assert sum('accuracy' in r for r in rows) == 2 and sum('train_loss' in r and 'epoch' not in r for r in rows) == 8
