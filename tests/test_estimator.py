"ULMFiT as an estimator of scikit-learn: its own checks, and what is built on estimators; the names that the package gives by itself"
import subprocess, sys
from tempfile import TemporaryDirectory
import joblib, numpy as np, pandas as pd, pytest, torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data
import ulmfit_course
from ulmfit_course.backends import PooledEncoder
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError
from ulmfit_course.estimator import ULMFiTClassifier, ULMFiTRegressor
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.models import save_checkpoint
from ulmfit_course.predictors import Ensemble, TextClassifier
from ulmfit_course.recipes import ClassifierRecipe
from test_classifier import checkpoint, frame, words

torch.set_num_threads(1)
class Place(str):
    "A path that prints alike in every process: the tests are named after it"
    def __repr__(self): return "'tiny'"

folder = TemporaryDirectory()
tiny, digits = Place(f'{folder.name}/tiny'), [f'{sign}{n}' for sign in ('plus', 'minus') for n in range(10)]
for end, back in (('', False), ('-backwards', True)): save_checkpoint(tiny + end, checkpoint([*words, *digits], back))
train, test = frame(64), frame(16, 1)
X, y, new = list(train.text), np.array(list(train.label)), list(test.text)
stars = np.where(y == 'pos', 4.5, 1.5) + np.arange(64)/100

def classifier(**kw): return ULMFiTClassifier(**dict(model=tiny, max_unknown=1., C=10, direction='fwd') | kw)
def regressor(**kw): return ULMFiTRegressor(**dict(model=tiny, max_unknown=1., C=10, direction='fwd') | kw)

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

# scikit-learn's own checks. To an estimator of texts it has few questions, for its examples are tables of numbers: it leaves the
# others out by the tags. So they are put to the same estimator behind a reader of numbers

@parametrize_with_checks([classifier(), regressor()])
def test_what_scikit_learn_asks_of_texts(estimator, check): check(estimator)

def as_texts(X): return [' '.join(f"{'minus' if v < 0 else 'plus'}{min(9, int(abs(3*v)))}" for v in row) for row in X]

class OfNumbers:
    "Each number becomes a word"
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        (tags.classifier_tags or tags.regressor_tags).poor_score = True   # a tiny network at random, which sees a third of a number
        return tags
    def fit(self, X, y): return super().fit(as_texts(validate_data(self, X)), y)
    def _answers(self, X): return super()._answers(as_texts(validate_data(self, X, reset=False)))
    def transform(self, X): return super().transform(as_texts(validate_data(self, X, reset=False)))

class Classifier(OfNumbers, ULMFiTClassifier): pass
class Regressor(OfNumbers, ULMFiTRegressor): pass

small = dict(model=tiny, max_unknown=1., C=0.01, direction='fwd')

@parametrize_with_checks([Classifier(**small)])   # two are skipped, by scikit-learn, which says why
def test_what_scikit_learn_asks_of_a_classifier(estimator, check): check(estimator)

@pytest.mark.slow
@parametrize_with_checks([Regressor(**small)])
def test_what_scikit_learn_asks_of_a_regressor(estimator, check): check(estimator)

# What is built on estimators

def test_all_kinds_of_texts_are_one():
    expected = cross_val_score(classifier(), X, y, cv=2)
    for kind in (np.array(X, dtype=object), train.text, train[['text']]):
        assert (cross_val_score(classifier(), kind, y, cv=2) == expected).all()

def test_a_pipeline_and_a_column_of_a_frame():
    lower = FunctionTransformer(lambda texts: [t.lower() for t in texts])
    assert make_pipeline(lower, classifier()).fit(train.text.str.upper(), y).score(test.text, test.label) > 0.8
    table, longs = train.assign(n=train.text.str.len()), test.assign(n=test.text.str.len())
    both = ColumnTransformer([('states', classifier(direction='both'), 'text'), ('length', StandardScaler(), ['n'])])
    head = make_pipeline(both, StandardScaler(), LogisticRegression())
    assert head.fit(table, y).score(longs, test.label) > 0.8
    assert both.fit_transform(table, y).shape == (64, 2*3*12 + 1) and both.get_feature_names_out()[0] == 'states__ulmfitclassifier0'
    named = make_pipeline(classifier().set_output(transform='pandas')).fit_transform(train.text, y)
    assert isinstance(named, pd.DataFrame) and named.index.equals(train.index)

def test_a_search_reads_each_text_once(monkeypatch):
    read, alone = [], PooledEncoder.alone
    monkeypatch.setattr(PooledEncoder, 'alone', lambda self, ids, *a, **kw: read.extend(ids) or alone(self, ids, *a, **kw))
    search = GridSearchCV(classifier(direction='both'), dict(C=[1, 10]), cv=2).fit(X, y)
    assert len(read) == 2*len({*X}) and search.best_score_ > 0.8
    head = make_pipeline(classifier(direction='both'), StandardScaler(), LogisticRegression())
    cross_val_score(head, X, y, cv=2)
    assert len(read) == 2*len({*X})
    search.score(new, test.label)
    assert len(read) == 2*len({*X, *new})

def test_a_trained_encoder_is_not_remembered(monkeypatch):
    clas = classifier(C=None, recipe=ClassifierRecipe(epochs=(0, 0, 0, 1))).fit(X, y)
    monkeypatch.setattr('ulmfit_course.estimator.pooled_features', pytest.fail)
    assert clas.predict_proba(new).shape == (16, 2)

@pytest.mark.slow
def test_a_search_in_several_processes(tmp_path):
    alike = [GridSearchCV(classifier(model=str(tiny)), dict(C=[0.1, 10]), cv=2, n_jobs=n).fit(X, y) for n in (1, 2)]
    assert (alike[0].cv_results_['mean_test_score'] == alike[1].cv_results_['mean_test_score']).all()
    joblib.dump(alike[0].best_estimator_, tmp_path/'clas.joblib')
    code = 'import joblib, sys; print(joblib.load(sys.argv[1]).predict(sys.argv[2:]))'
    done = subprocess.run([sys.executable, '-c', code, tmp_path/'clas.joblib', *new], capture_output=True, text=True)
    assert done.stdout.strip() == str(alike[0].predict(new)), done.stderr[-2000:]

def test_calibration():
    sure = CalibratedClassifierCV(classifier(), method='sigmoid', cv=2).fit(X, y)
    assert np.allclose(sure.predict_proba(new).sum(1), 1) and sure.score(new, test.label) > 0.8
    assert not np.allclose(sure.predict_proba(new), classifier().fit(X, y).predict_proba(new), atol=1e-3)

def test_numbers():
    assert cross_val_score(regressor(), X, stars, cv=2).mean() > 0.3
    several = regressor().fit(X, pd.DataFrame(dict(stars=stars, less=-stars)))
    assert several.predict(new).shape == (16, 2) and several.classifier_.labels == ['stars', 'less']
    bounded = regressor(y_range=(2, 4)).fit(X, stars).predict(new)
    assert 2 < bounded.min() < bounded.max() < 4

def test_several_labels(tmp_path):
    "Twelve of them: the tenth comes before the second in the bundle, and not in `y`"
    marks = [w for w in words if w.isalpha() and not w.startswith('xx')][4:16]
    table = np.array([[m in t.split() for m in marks] for t in X]).astype(int)
    table = table[:, table.any(0)]
    assert table.shape[1] > 9
    clas = classifier().fit(X, table)
    assert f1_score(table, clas.predict(X), average='micro') > 0.7 and clas.predict_proba(X).shape == table.shape
    again = ULMFiTClassifier.load(clas.save(tmp_path/'b'))
    assert (again.predict(X) == clas.predict(X)).all() and (again.classes_ == np.arange(table.shape[1])).all()
    assert cross_val_predict(classifier(), X, (y == 'pos').astype(int)[:, None] == [0, 1], cv=2).shape == (64, 2)

# Equal, again and elsewhere

def probs(**kw): return classifier(**kw).fit(X, y).predict_proba(new)

def test_the_random_state():
    trained = dict(recipe=ClassifierRecipe(epochs=(1, 0, 0, 1), seed=7), C=None)
    before, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()
    own = probs(**trained)
    assert (own == probs(**trained)).all()
    assert (own == probs(**trained, random_state=7)).all()
    assert not (own == probs(**trained, random_state=8)).all()
    of = lambda seed: probs(**trained, random_state=np.random.RandomState(seed))
    assert (of(0) == of(0)).all() and not (of(0) == of(1)).all()
    assert (np.random.get_state()[1] == before).all() and (torch.get_rng_state() == torchs).all()
    with pytest.raises(ValueError, match='cannot be used to seed'): probs(random_state='three')

@pytest.mark.parametrize('kw', [dict(recipe='auto', direction='both'), dict(recipe=ClassifierRecipe.solved(), C=0.5, direction='bwd', balanced=True)])
def test_it_says_what_the_training_says(kw):
    mine = probs(**dict(C=None) | kw)
    changes = {k: kw[k] for k in ('C', 'balanced') if k in kw}
    recipe = None if kw['recipe'] == 'auto' else kw['recipe']
    learners = train_classifier(train, None, tiny, recipe, kw.get('direction', 'fwd'), max_unknown=1., **changes)
    members = [TextClassifier(o.checkpoint()) for o in (learners if isinstance(learners, list) else [learners])]
    assert np.allclose(mine, (Ensemble(*members) if len(members) > 1 else members[0]).probabilities(new), atol=1e-6)

@pytest.mark.parametrize('names', [['neg', 'pos'], [0, 1], [False, True], [1.0, 2.0], np.array(['neg', 'pos'], dtype=object)])
def test_classes_keep_their_kind(names, tmp_path):
    labels = np.asarray(names)[(y == 'pos').astype(int)]
    clas = classifier(balanced=True).fit(X, labels)
    for o in (clas, ULMFiTClassifier.load(clas.save(tmp_path/'b', data='made up')), joblib.load(joblib.dump(clas, tmp_path/'c')[0])):
        assert o.classes_.tolist() == list(names) and o.score(X, labels) > 0.9 and {*o.predict(new).tolist()} == {*names}
        assert np.allclose(o.predict_proba(new), clas.predict_proba(new), atol=1e-6) and np.allclose(o.transform(new), clas.transform(new), atol=1e-5)
        assert clone(o).get_params() | dict(C=0, balanced=0, max_unknown=0) == clas.get_params() | dict(C=0, balanced=0, max_unknown=0)
    bundle = load_bundle(tmp_path/'b')
    assert bundle.labels == list(names) and bundle.members[0].config['card']['data'] == 'made up'

def test_any_bundle_of_the_course_is_an_estimator(tmp_path):
    learn = train_classifier(train, None, tiny, ClassifierRecipe.solved(), 'bwd', C=10, max_unknown=1.)
    clas = ULMFiTClassifier.load(save_bundle(learn, tmp_path/'b'), model=tiny, C=10, max_unknown=1.)
    assert clas.direction == 'bwd' and clas.score(new, test.label) > 0.8
    assert clone(clas).fit(X, y).score(new, test.label) > 0.8
    with pytest.raises(CourseError, match='which is no question of ULMFiTRegressor'): ULMFiTRegressor.load(tmp_path/'b')

def test_a_fit_that_fails_leaves_nothing():
    clas = classifier()
    with pytest.raises(CourseError, match='one class only'): clas.fit(X, ['a']*64)
    for ask in (clas.predict, clas.transform, clas.save):
        with pytest.raises(NotFittedError): ask(X)

# The names that the package gives by itself

def test_the_package_is_there_at_once():
    code = 'import sys, time; t = time.perf_counter(); import ulmfit_course; print(time.perf_counter() - t, "torch" in sys.modules or "numpy" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    seconds, heavy = done.stdout.split()
    assert float(seconds) < 0.1 and heavy == 'False', done.stderr

def test_its_names():
    from ulmfit_course import ULMFiTClassifier as same, load_bundle as read, list_models, text_generator  # noqa: F401
    assert same is ULMFiTClassifier and read is load_bundle
    for name in dir(ulmfit_course): assert getattr(ulmfit_course, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"): ulmfit_course.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"): from ulmfit_course import nothing  # noqa: F401

def test_without_transformers(monkeypatch):
    monkeypatch.setattr(ulmfit_course, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'ULMFiTModel is made for Transformers: pip install "ulmfit_course\[transformers\]"'):
        from ulmfit_course import ULMFiTModel  # noqa: F401
    assert 'ULMFiTModel' not in dir(ulmfit_course) and 'ULMFiTClassifier' in dir(ulmfit_course)
