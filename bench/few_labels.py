"From 1,000 labelled reviews to a classifier, from the same weights (`imdb-small`): seconds of training until it is right about so many of 1,000 others"
import os, tempfile, time
from unittest.mock import patch
from common import fastai_classifier, labels, lstm_weights, quickest, reviews, silent, tokens_a_review

unit, target, n = 'trainings/s', 5, 1000
cases = {'87% right': dict(mark=0.87), '89% right': dict(mark=0.89)}
quick = {}            # too long for it
patience = 8          # fastai is stopped when it has trained so many times as long as ours
steps = ((-1, 1, 2e-2), (-2, 1, 1e-2), (-3, 1, 5e-3), (0, 2, 1e-3))   # of fastai's tutorial: what it opens, epochs, rate

def texts(n): return (frame := reviews(2*n))[:n], frame[n:].reset_index(drop=True)

class Race:
    "A clock that stops while somebody judges"
    def __init__(self, frame, at_most=float('inf')): self.frame, self.at_most, self.course, self.seconds, self.begun = frame, at_most, [], 0., time.perf_counter()
    def judge(self, clas, what):
        "Keep how many are right and after how many seconds; whether the race goes on"
        self.seconds += time.perf_counter() - self.begun
        said = clas().probabilities(self.frame.text).argmax(1)
        self.course.append(dict(after=what, seconds=self.seconds, accuracy=float((self.frame.label.map(labels.index).values == said).mean())))
        self.begun = time.perf_counter()
        return self.course[-1]['accuracy'] < max(c['mark'] for c in cases.values()) and self.seconds < self.at_most

def record(race):
    from ulmfit_course.core import peak_rss_mb
    return dict(course=race.course, peak_mb=peak_rss_mb(), added_mb=peak_rss_mb()-race.before)

def ours(n=n):
    "A head solved on what the encoder says, forwards; then backwards, too; then gradual unfreezing. Nothing was read before"
    from ulmfit_course.backends import machine_rates
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.core import peak_rss_mb
    from ulmfit_course.predictors import Ensemble, TextClassifier
    (train, test), _, head = texts(n), machine_rates(), dict(epochs=(0, 0, 0, 0), lin_ftrs=None)
    with tempfile.TemporaryDirectory() as tmp, patch.dict(os.environ, ULMFIT_COURSE_HOME=tmp):
        race, members = Race(test), []
        race.before = peak_rss_mb()
        for what, kw in (('solved head', head), ('and one backwards', dict(head, direction='bwd')), ('gradual unfreezing', dict(epochs=(0, 1, 1, 7), lin_ftrs=None))):
            if what == 'gradual unfreezing': members.pop(0)
            members.append(train_classifier(train, None, 'imdb-small', **kw))
            if not race.judge(lambda: Ensemble(*(TextClassifier(o.checkpoint()) for o in members)), what): break
    return record(race)

def same_weights(train, test):
    "fastai's learner with the encoder of `imdb-small`, and what makes a predictor of ours of it, to judge"
    from ulmfit_course.learners import text_classifier_learner
    from ulmfit_course.loaders import classifier_dataloaders
    from ulmfit_course.models import load_pretrained
    from ulmfit_course.predictors import TextClassifier
    import pandas as pd
    lm = load_pretrained('imdb-small')
    mine = text_classifier_learner(classifier_dataloaders(train, test[:1], lm), lm, verbose=False)
    sizes = {k: lm.config['arch'][k] for k in ('emb_sz', 'n_hid', 'n_layers')}
    theirs = fastai_classifier(sizes, pd.concat([train, test[:32]], ignore_index=True), lm.vocab, len(train), bs=32, drop_mult=0.5)
    encoder = mine.model[0].state_dict()
    assert not theirs.model[0].load_state_dict(encoder, strict=False).unexpected_keys
    def predictor():
        now = theirs.model.state_dict()
        mine.model.load_state_dict({k: now[k] for k in mine.model.state_dict()})
        return TextClassifier(mine.checkpoint())
    return theirs, predictor

def fastai(at_most=float('inf'), n=n):
    "Gradual unfreezing as in fastai's tutorial, judged by our predictor after every epoch"
    from fastai.callback.core import Callback, CancelFitException
    from ulmfit_course.core import peak_rss_mb, set_seed
    set_seed(0)
    train, test = texts(n)
    learn, predictor = same_weights(train, test)
    learn.dls = type(learn.dls)(learn.dls.train, [])
    race, goes_on = Race(test, at_most), True
    race.before = peak_rss_mb()
    class Judge(Callback):
        def after_epoch(self):
            nonlocal goes_on
            goes_on = race.judge(predictor, f'epoch {len(race.course)+1}')
            if not goes_on: raise CancelFitException
    with silent(learn):
        for group, epochs, rate in steps:
            learn.freeze_to(group)
            if goes_on: learn.fit_one_cycle(epochs, slice(rate/2.6**4, rate), cbs=Judge())
    return record(race)

def together(side, **sizes):
    "Ours, then fastai, each in a process of its own; who never reaches a mark counts with all the time that it had"
    mine = side('ours', **sizes)
    runs = dict(fastai=side('fastai', at_most=patience*mine['course'][-1]['seconds'], **sizes), ours=mine)
    def until(run, mark):
        took = next((o['seconds'] for o in run['course'] if o['accuracy'] >= mark), None)
        return dict(rate=1/(took or run['course'][-1]['seconds']), seconds=took or run['course'][-1]['seconds'], reached=took is not None)
    found = {name: {who: until(run, case['mark']) | {k: run[k] for k in ('peak_mb', 'added_mb')} for who,run in runs.items()} for name,case in cases.items()}
    reached = {name: {who: o['reached'] for who,o in case.items()} for name,case in found.items()}
    return found, dict(reached=reached, course={who: run['course'] for who,run in runs.items()})

def limit(machine, mark):
    "Each review has to be read once, in the quickest type"
    from ulmfit_course.models import load_pretrained
    return quickest(machine)/(2*sum(lstm_weights(load_pretrained('imdb-small').config['arch']))*tokens_a_review()*n)

def same():
    "Before any training fastai's network says of short texts what ours says"
    import numpy as np, torch
    frame = reviews(8).assign(text=lambda f: f.text.str[:200])
    theirs, predictor = same_weights(frame, frame)
    clas = predictor()
    theirs.model.eval()
    for ids in clas.to_ids.ids(list(frame.text)):
        with torch.no_grad(): expected = theirs.model(torch.from_numpy(ids)[None].to(theirs.dls.device))[0].softmax(1).cpu().numpy()
        assert len(ids) <= 72 and np.allclose(clas.run([ids]), expected, atol=1e-4)
