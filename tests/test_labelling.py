"Labelling: one predictor for Ray, datasets and Spark; parts that survive a killed actor and a stopped run; a search on Ray"
import importlib.util, json, os, signal
import joblib, numpy as np, pandas as pd, psutil, pytest
from sklearn.model_selection import GridSearchCV
from ulmfit_course import cli, labelling
from ulmfit_course.core import CourseError
from ulmfit_course.estimator import ULMFiTClassifier
from ulmfit_course.inference import load_bundle
from ulmfit_course.labelling import Labeller, for_spark, label_parquet, ray_running
from ulmfit_course.models import save_checkpoint
from test_classifier import checkpoint, frame, words

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A bundle, a table of 400 rows and four columns in two files, and what one process says of it"
    folder = tmp_path_factory.mktemp('labelling')
    with pytest.MonkeyPatch.context() as m:
        m.setenv('ULMFIT_COURSE_HOME', str(folder/'home'))
        yield prepared(folder)

def prepared(folder):
    save_checkpoint(folder/'lm', checkpoint(words))
    for name, n in (('bundle', 64), ('other', 32)):
        ULMFiTClassifier(folder/'lm', max_unknown=1., C=10, direction='fwd').fit(list(frame(n).text), list(frame(n).label)).save(folder/name)
    rows = frame(400, 3)
    table = pd.DataFrame(dict(id=np.arange(400), review=rows.text.tolist(), label=rows.label.tolist(), when=pd.date_range('2020', periods=400)))
    (folder/'in').mkdir()
    for k in range(2): table[200*k:200*k+200].to_parquet(folder/'in'/f'{k}.parquet', row_group_size=120)
    return folder, table, load_bundle(folder/'bundle').predict_frame(table.review.tolist())

def label_all(folder, out, **kw): return label_parquet(folder/'bundle', folder/'in', out, **dict(text_cols='review', max_unknown=1., rows=10) | kw)

def check(out, table, alone):
    "Every row once, in order, with its own columns and what one process says"
    found = pd.read_parquet(out)
    assert list(found) == ['id', 'review', 'given_label', 'when', 'label', 'probability', 'p_neg', 'p_pos', 'unknown']
    assert found.id.tolist() == table.id.tolist() and found.given_label.tolist() == table.label.tolist() and (found.when == table.when).all()
    assert found.label.tolist() == alone.label.tolist() and np.allclose(found[['p_neg', 'p_pos', 'unknown']], alone[['p_neg', 'p_pos', 'unknown']], atol=1e-6)
    return found

def of_ray(): return [p for p in psutil.Process().children(recursive=True) if 'ray' in ' '.join(p.cmdline()).lower()]

# Before the others, which share a Ray that goes on

def test_a_killed_actor_loses_nothing(place, tmp_path):
    "Two actors, of which one is killed as soon as a part is done; nothing of Ray is left"
    pytest.importorskip('ray')
    folder, table, alone = place
    killed, before = [], {p.pid for p in of_ray()}
    def kill(found):
        actors = [p for p in of_ray() if 'PartLabeller.write' in ' '.join(p.cmdline())]
        if killed or not actors: return
        killed.append(actors[-1])
        killed[0].send_signal(signal.SIGKILL)
    said = label_all(folder, tmp_path/'out', engine='ray', workers=2, say=kill)
    assert killed and said['parts'] == 40 and said['kept'] == 0
    found = check(tmp_path/'out', table, alone)
    assert not killed[0].is_running() and {p.pid for p in of_ray()} <= before
    assert label_all(folder, tmp_path/'here')['rows'] == 400
    assert pd.read_parquet(tmp_path/'here').equals(found)   # to the last digit

@pytest.fixture(scope='module')
def ray():
    pytest.importorskip('ray')
    with ray_running(workers=3) as ray: yield ray

def test_in_ray_data(place, ray):
    import ray.data
    folder, table, alone = place
    class Threads(Labeller):
        "Says, too, on how many threads it computes, and in which process"
        def __call__(self, batch):
            import torch
            n = len(batch['review'])
            return super().__call__(batch) | dict(threads=np.full(n, torch.get_num_threads()), process=np.full(n, os.getpid()))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    data = ray.data.read_parquet(str(folder/'in')).repartition(8).map_batches(
        Threads, fn_constructor_kwargs=dict(bundle=folder/'bundle', text_cols='review', threads=1), batch_size=50,
        compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1)
    found = data.to_pandas().sort_values('id').reset_index(drop=True)
    assert found.label.tolist() == alone.label.tolist() and np.allclose(found.p_pos, alone.p_pos, atol=1e-6)
    assert found.given_label.tolist() == table.label.tolist() and {*found.threads} == {1} and os.getpid() not in {*found.process}

def test_an_error_of_an_actor_is_one_line(place, ray, tmp_path):
    folder = place[0]
    pd.DataFrame(dict(review=[[3] if i == 250 else None for i in range(400)])).to_parquet(tmp_path/'lists.parquet')
    with pytest.raises(CourseError, match=r'group 0, rows 241 to 260: .*ndarray, not text') as e:
        label_parquet(folder/'bundle', tmp_path/'lists.parquet', tmp_path/'out', 'ray', 1, text_cols='review', rows=20)
    assert '\n' not in str(e.value) and ray.is_initialized()   # a Ray that was there stays

def test_a_grid_on_ray(place, ray):
    from ray.util.joblib import register_ray
    folder = place[0]
    X, y = list(frame(32).text), list(frame(32).label)
    grid = lambda: GridSearchCV(ULMFiTClassifier(str(folder/'lm'), max_unknown=1., direction='fwd'), dict(C=[0.1, 10]), cv=2, n_jobs=2)
    register_ray()
    with joblib.parallel_config('ray'): found = grid().fit(X, y)
    with joblib.parallel_config('threading'): expected = grid().fit(X, y)
    assert (found.cv_results_['mean_test_score'] == expected.cv_results_['mean_test_score']).all() and found.best_params_ == expected.best_params_

# Without Ray

def test_a_stopped_run_goes_on(place, tmp_path):
    folder, table, alone = place
    def stop(found):
        if found['name'] == 'part-000006.parquet': raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): label_all(folder, tmp_path/'out', say=stop)
    kept = {f: f.stat().st_mtime_ns for f in (tmp_path/'out').glob('part-*')}
    again = label_all(folder, tmp_path/'out')
    assert len(kept) == again['kept'] == 7 and all(f.stat().st_mtime_ns == t for f,t in kept.items())
    check(tmp_path/'out', table, alone)
    manifest = json.loads((tmp_path/'out'/'_manifest.json').read_text())
    assert manifest['rows'] == 400 and manifest['written'] == sorted(f.name for f in (tmp_path/'out').glob('part-*'))
    with pytest.raises(CourseError, match='another model'): label_parquet(folder/'other', folder/'in', tmp_path/'out', text_cols='review', max_unknown=1., rows=10)
    table.assign(id=table.id+1).to_parquet(tmp_path/'in.parquet')
    with pytest.raises(CourseError, match='other files'): label_parquet(folder/'bundle', tmp_path/'in.parquet', tmp_path/'out', text_cols='review', max_unknown=1., rows=10)

def test_in_datasets(place, tmp_path):
    datasets = pytest.importorskip('datasets')
    datasets.disable_progress_bars()
    folder, table, alone = place
    data = datasets.Dataset.from_pandas(table)
    def fingerprint(name):
        found = data.map(Labeller(folder/name, text_cols='review'), batched=True, batch_size=64)
        return found, found._fingerprint
    (found, one), (_, same), (_, other) = map(fingerprint, ('bundle', 'bundle', 'other'))
    assert found['label'][:] == alone.label.tolist() and np.allclose(found['p_pos'][:], alone.p_pos, atol=1e-6) and found['given_label'][:] == table.label.tolist()
    assert one == same != other   # what is kept of one model is not taken for another's

def test_for_spark(place):
    "Spark sends the function to its tasks by cloudpickle, and calls it with an iterator of frames"
    cloudpickle = pytest.importorskip('ray.cloudpickle')   # as Spark's own
    folder, table, alone = place
    function = cloudpickle.loads(cloudpickle.dumps(for_spark(str(folder/'bundle'), text_cols='review', threads=1)))
    threads = __import__('torch').get_num_threads()
    found = pd.concat(list(function(iter([table[:150], table[150:150], table[150:]]))))
    assert found.label.tolist() == alone.label.tolist() and found.index.tolist() == table.index.tolist()
    labelling.use_threads(threads)

def test_rows_without_text_have_no_answer(place, tmp_path):
    folder, table, alone = place
    holes = table[:20].assign(review=[None if i % 3 == 0 else '' if i == 10 else t for i,t in enumerate(table.review[:20])])
    holes.to_parquet(tmp_path/'holes.parquet')
    said = label_parquet(folder/'bundle', tmp_path/'holes.parquet', tmp_path/'out', text_cols='review', max_unknown=1., rows=3)
    found = pd.read_parquet(tmp_path/'out')
    assert said['empty'] == 8 and found.id.tolist() == list(range(20))
    none = found.label.isna()
    assert none.tolist() == [i % 3 == 0 or i == 10 for i in range(20)] and found.p_pos.isna().tolist() == none.tolist()
    assert found.label[~none].tolist() == alone.label[:20][~none].tolist()

def test_without_ray_one_line_says_what_to_install(place, tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, 'find_spec', lambda name: None if name == 'ray' else importlib.util.find_spec(name))
    with pytest.raises(CourseError, match=r"ray is missing: pip install 'ulmfit-course\[scale\]'"): label_all(place[0], tmp_path/'out', engine='ray')
    assert not (tmp_path/'out').exists()
    assert label_all(place[0], tmp_path/'out')['rows'] == 400

def test_from_the_command(place, tmp_path, capsys):
    folder, table, alone = place
    ask = lambda *more: cli.main(['predict', str(folder/'bundle'), '--text-col', 'review', '--force', '--json', *map(str, more)])
    assert ask('--file', folder/'in', '--out', tmp_path/'out') == 0
    assert json.loads(capsys.readouterr().out)['rows'] == 400
    check(tmp_path/'out', table, alone)
    for more in (['--engine', 'ray', '--file', folder/'in'], ['--out', tmp_path/'x', 'A text.'], ['--engine', 'spark', '--file', 'a']):
        with pytest.raises(SystemExit): ask(*more)
    assert ask('--file', folder/'in'/'nowhere.parquet', '--out', tmp_path/'x') == 1 and 'does not exist' in capsys.readouterr().err
