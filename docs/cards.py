"Measure the models that ship on texts that ship, and write it on their cards: `python docs/cards.py [MODEL...]`"
import json, sys
from argparse import Namespace
from ulmfit_course.cli import cmd_perplexity
from ulmfit_course.core import write_json
from ulmfit_course.pretraining import pretrained_dir

judged_on = dict(pretraining='sixty held-out articles, which ship with the course', lm_finetuning='five hundred test reviews of lesson 01')

def measure(
    folder, # of a shipped model
) -> dict: # what stands on its card now
    "`ulmfit-course perplexity` of the model, written into `config.json` and `run.json`"
    config, run = (json.loads((folder/f).read_text('utf8')) for f in ('config.json', 'run.json'))
    found = cmd_perplexity(Namespace(model=folder.name, corpus=None))
    found['valid_tokens'] = found.pop('tokens')
    config['card'] |= dict(found, judged_on=judged_on[config['stage']])
    run |= dict(metrics={k: found[k] for k in run['metrics']}, card=config['card'])
    for f,value in (('config.json', config), ('run.json', run)): write_json(folder/f, value)
    return found

if __name__ == '__main__':
    for name in sys.argv[1:] or sorted(f.parent.name for f in pretrained_dir.glob('*/config.json')): print(name, measure(pretrained_dir/name))
