"""Measure our models, those of the package and of `pretrained/`, on texts that ship, and write it on their cards: `python tools/cards.py [MODEL...]`

`python tools/cards.py MODEL --after FOLDER`: MODEL went on from FOLDER, an earlier state of itself; its card tells of both trainings."""
import argparse, json
from pathlib import Path
from ulmfit_course.core import cache_dir, write_json
from ulmfit_course.models import list_models, load_pretrained, model_folder
from ulmfit_course.workflows import perplexity_on

judged_on = dict(pretraining='sixty held-out articles, which ship with the course', lm_finetuning='five hundred test reviews of lesson 01')

def together(
    card, # of the later training
    earlier, # the card of what it went on from
) -> dict: # one card
    "What two trainings, the second from where the first ended, have read and taken; a card that tells of both stays as it is"
    if card['command'].startswith(earlier['command']+';'): return card
    epochs, seconds = len(earlier['curve']), earlier['seconds']
    later = [c | dict(epoch=c['epoch']+epochs, seconds=round(c['seconds']+seconds, 1)) for c in card['curve']]
    return card | dict(parent=earlier['parent'], command=f"{earlier['command']}; {card['command']}", curve=[*earlier['curve'], *later],
                       hardware='; '.join(dict.fromkeys([earlier['hardware'], card['hardware']])), **{k: card[k]+earlier[k] for k in ('tokens_seen', 'seconds')})

def measure(
    folder, # of a shipped model
    after=None, # folder of what it went on from
) -> dict: # what stands on its card now
    "`ulmfit-course perplexity` of the model, written into `config.json` and `run.json`"
    config, run = (json.loads((folder/f).read_text('utf8')) for f in ('config.json', 'run.json'))
    if after: config['card'] = together(config['card'], json.loads((Path(after)/'config.json').read_text('utf8'))['card'])
    found = perplexity_on(load_pretrained(folder))
    found['valid_tokens'] = found.pop('tokens')
    config['card'] |= dict({k: found[k] for k in ('valid_loss', 'perplexity', 'accuracy', 'valid_tokens')}, judged_on=judged_on[config['stage']])
    run |= dict(metrics={k: found[k] for k in run['metrics']}, card=config['card'], seconds=config['card']['seconds'])
    for f,value in (('config.json', config), ('run.json', run)): write_json(folder/f, value)
    return found

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='*', metavar='MODEL', help='all that ship, if none is named')
    parser.add_argument('--after', metavar='FOLDER', help='what the one model went on from')
    args = parser.parse_args()
    if args.after and len(args.models) != 1: parser.error('--after goes with one model')
    ours = [name for name in list_models() if (folder := model_folder(name)) and not folder.is_relative_to(cache_dir())]
    for name in args.models or ours: print(name, measure(model_folder(name), args.after))
