"Two small trainings and a search for a rate, recorded for the third assignment to read: `python tools/assignment_runs.py`"
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from ulmfit_course.core import save_run, set_seed
from ulmfit_course.awd_lstm import small_config
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.datasets import load_dataset
from ulmfit_course.learners import language_model_learner
from ulmfit_course.pretraining import pretrain
from ulmfit_course.recipes import LMRecipe
from ulmfit_course.streams import TokenStream

root = Path(__file__).resolve().parent.parent
out = root/'nbs/assignments/source/3_network/runs.json'
sizes = dict(emb_sz=64, n_hid=128, n_layers=2)

def curve(
    train, valid, # streams
    drop_mult:float # of every dropout
) -> list: # a dictionary an epoch
    "What a language model loses on both streams, epoch by epoch"
    recipe = LMRecipe(epochs=16, shards=1, lr=1e-2, bs=8, drop_mult=drop_mult, num_sampled=0)
    with TemporaryDirectory() as tmp: rows = pretrain(train, valid, f'{tmp}/lm', recipe, sizes, bar=False).config['card']['curve']
    return [{k: round(r[k], 4) for k in ('epoch', 'train_loss', 'valid_loss')} for r in rows]

def finder(
    train, valid # streams
) -> dict: # `rates` and `losses`
    "The loss while the rate grows"
    set_seed(42)
    learn = language_model_learner(lm_dataloaders(train, valid, bs=8), config=small_config | sizes, pretrained=False, drop_mult=0.5)
    with learn.no_bar(): learn.lr_find(start_lr=1e-5, end_lr=10, num_it=90, show_plot=False)
    found = learn.recorder
    return dict(rates=[float(f'{o:.3g}') for o in found.lrs], losses=[round(float(o), 4) for o in found.losses])

if __name__ == '__main__':
    began, poems = time.time(), load_dataset('poems_unsup').text
    train = TokenStream.in_memory(poems[:240], max_vocab=4000)
    valid = TokenStream.in_memory(poems[240:300], vocab=train.vocab)
    runs = {f'dropout {m}': curve(train, valid, m) for m in (0., 1.)}
    save_run(out, dict(command='python tools/assignment_runs.py', texts='poems_unsup, 240 to learn from and 60 to judge on', sizes=sizes),
             runs | dict(finder=finder(train, valid)), time.time()-began, 42)
    print(out)
