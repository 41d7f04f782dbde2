"The estimator of scikit-learn: a fit on labelled reviews (`imdb-small`, nothing read before), beside fastai's tutorial from the same weights; how many of as many other reviews each is right about"
import os, tempfile
import few_labels
from common import silent
from few_labels import same_weights, steps, texts
from few_labels import same  # noqa: F401 (both sides start from the same answers)

unit, target, warm_up, rounds = 'reviews/s', 3, False, 1
cases = {'1,000 reviews': dict(n=1000)}
quick = {'100 reviews': dict(n=100)}
judge = []   # what counts the right answers of the side that was measured

def measured(): return dict(accuracy=judge[0]())

def fastai(n):
    "Gradual unfreezing, judged by our predictor"
    from ulmfit_course.core import set_seed
    set_seed(0)
    train, test = texts(n)
    learn, predictor = same_weights(train, test)
    learn.dls = type(learn.dls)(learn.dls.train, [])
    def work():
        with silent(learn):
            for group, epochs, rate in steps:
                learn.freeze_to(group)
                learn.fit_one_cycle(epochs, slice(rate/2.6**4, rate))
    def right():
        clas = predictor()
        return float((test.label.values == clas.target.said(clas.probabilities(test.text))).mean())
    judge.append(right)
    return work, n

def fit(n, make):
    "`make()` is an estimator; the folder in which pooled states are kept is a new one"
    from ulmfit_course.backends import machine_rates
    os.environ['ULMFIT_COURSE_HOME'] = tempfile.mkdtemp()
    (train, test), clas, _ = texts(n), make(), machine_rates()
    judge.append(lambda: clas.score(test.text, test.label))
    return lambda: clas.fit(train.text, train.label), n

def ulmfit(n, **kw):
    from ulmfit_course.estimator import ULMFiTClassifier
    return fit(n, lambda: ULMFiTClassifier(**kw))

def ours(n): return ulmfit(n)
def ours_forwards(n): return ulmfit(n, direction='fwd')
def ours_as_train_does(n): return ulmfit(n, recipe='auto')

def ours_tfidf(n):
    "The plain baseline"
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from ulmfit_course.evaluation import word_counts
    return fit(n, lambda: make_pipeline(word_counts(n), LogisticRegression(C=10, max_iter=1000)))

def limit(machine, n):
    "Each review has to be read once in each direction, in the quickest type"
    return few_labels.limit(machine, None)*few_labels.n/2
