"Whole runs through the command, as a user types it"
import argparse, json, os, shutil, subprocess, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
import pandas as pd, pytest
from ulmfit_course import cli
from ulmfit_course.core import CourseError
from ulmfit_course.data import imdb, sample, split

root = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('cli')

def run(*words, cwd, stdin='', fresh=False):
    "The command: exit status, standard output, standard error; in this process, which has imported what it needs, or in a `fresh` one"
    env, words = dict(ULMFIT_COURSE_PROFILE='tiny', ULMFIT_COURSE_HOME=str(cwd)), [*map(str, words)]
    if fresh:
        r = subprocess.run([sys.executable, '-c', 'import sys; from ulmfit_course.cli import main; sys.exit(main())', *words], capture_output=True, text=True, cwd=cwd, input=stdin, env=os.environ | env)
        return r.returncode, r.stdout, r.stderr
    with pytest.MonkeyPatch.context() as m, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        m.chdir(cwd)
        for k,v in env.items(): m.setenv(k, v)
        m.setattr(sys, 'stdin', StringIO(stdin)); m.setattr(sys, 'argv', ['ulmfit-course', *words])
        try: status = cli.main()
        except SystemExit as e: status = e.code
    return status, out.getvalue(), err.getvalue()

def test_demo(folder):
    status, out, err = run('demo', '--out', folder/'demo', '--json', cwd=folder, fresh=True)
    assert status == 0 and not err, err
    report = json.loads((folder/'demo'/'report.json').read_text())
    assert report == json.loads(out)
    assert report['profile'] == 'tiny' and report['seconds_total'] > 0 and report['peak_rss_mb'] < 4096
    assert set(report['lm']) == {'valid_loss', 'perplexity', 'accuracy'}
    assert len(report['rows']) == 4
    for row in report['rows']:
        assert set(row) == {'name', 'n_labels', 'n_test', 'accuracy', 'f1', 'seconds'}
        assert row['n_test'] == row['n_labels'] == 60
        assert row['accuracy'] == round(round(row['accuracy']*60)/60, 4)
    page = (folder/'demo'/'report.html').read_text()
    assert 'src="http' not in page and page.count('<img alt="') == 2

def test_demo_accuracy_is_what_evaluate_finds(folder):
    from ulmfit_course.cli import demo_texts
    from ulmfit_course.core import profile
    _, _, test, _ = demo_texts(profile('tiny'))
    test.to_csv(folder/'test.csv', index=False)
    status, out, err = run('evaluate', folder/'demo'/'bundle', '--data', folder/'test.csv', '--json', cwd=folder)
    assert status == 0, err
    found, report = json.loads(out), json.loads((folder/'demo'/'report.json').read_text())
    assert set(found) == {'accuracy', 'precision', 'recall', 'f1', 'n', 'seconds'}
    assert found['n'] == len(test)
    assert abs(found['accuracy'] - report['rows'][-1]['accuracy']) <= 0.02

def test_the_test_reviews_are_not_trained_on():
    from ulmfit_course.cli import demo_texts
    from ulmfit_course.core import profile
    train, valid, test, unlabelled = demo_texts(profile('cpu'))
    assert not set(test.text) & (set(train.text) | set(valid.text) | set(unlabelled))
    assert len(train) == 1000 and len(test) >= 2000

def test_a_reader_may_stop_early():
    program = f"'{sys.executable}' -c 'import sys; from ulmfit_course.cli import main; sys.exit(main())'"
    r = subprocess.run(f'{program} tokenize - | head -c 5', shell=True, capture_output=True, text=True, input='A fine film. '*20_000)
    assert r.stdout == 'xxbos' and r.stderr == ''

def test_stages_from_scratch(folder):
    texts = list(sample(imdb(), 40).text)
    (folder/'corpus.jsonl').write_text(''.join(json.dumps(dict(text=t))+'\n' for t in texts))
    sizes = ['--emb-sz', 16, '--n-hid', 24, '--max-vocab', 800, '--hold-out', 0.2]
    status, out, err = run('pretrain', '--corpus', 'corpus.jsonl', '--out', 'wiki/', '--parts', 2, '--bs', 4, *sizes, '--both', '--json', cwd=folder)
    assert status == 0, err
    assert [card['perplexity'] > 1 for card in json.loads(out)] == [True, True] and (folder/'wiki-backwards').is_dir()
    status, out, err = run('finetune-lm', '--model', 'wiki', '--corpus', 'corpus.jsonl', '--out', 'lm', '--parts', 1, '--bs', 4, '--hold-out', 0.2, '--both', '--json', cwd=folder)
    assert status == 0, err
    for name,card in zip(('lm', 'lm-backwards'), json.loads(out)):   # what a card claims can be measured again
        status, out, err = run('perplexity', name, '--corpus', 'corpus.jsonl', '--hold-out', 0.2, '--json', cwd=folder)
        assert status == 0 and json.loads(out)['perplexity'] == pytest.approx(card['perplexity'], rel=.01), err
    for command in (['pretrain', '--start', 'wiki', '--max-vocab', 800], ['finetune-lm', '--model', 'lm', '--turn']):   # a model of one direction is the start of one of the other
        status, out, err = run(*command, '--backwards', '--corpus', 'corpus.jsonl', '--out', f'{command[0]}-turned', '--parts', 1, '--bs', 4, '--hold-out', 0.2, '--json', cwd=folder)
        assert status == 0 and json.loads(out)['parent'] == command[2], err
        assert json.loads((folder/f'{command[0]}-turned'/'config.json').read_text('utf8'))['backwards'] is True
    data = split(sample(imdb(), 60), test=0.2)
    data[data.split != 'test'].to_csv(folder/'train.csv', index=False)
    for out_of, ways in (('bundle', []), ('forward', ['--forwards'])):   # both directions where there are models of both
        status, out, err = run('train', '--model', 'lm', '--data', 'train.csv', '--out', out_of, '--epochs', 1, 0, 0, 1, '--valid', 0.2, *ways, '--json', cwd=folder)
        assert status == 0 and json.loads(out)['models'] == ('lm' if ways else 'lm, lm-backwards'), err
    said = []
    for bundles in (['forward'], ['bundle/also'], ['bundle'], ['forward', '--also', 'bundle/also']):
        status, out, err = run('predict', bundles[0], 'What a film.', 'Never again.', *bundles[1:], '--json', cwd=folder)
        assert status == 0, err
        assert [a['label'] in ('neg', 'pos') for a in json.loads(out)] == [True, True]
        said.append([a['p_neg'] for a in json.loads(out)])
    assert said[0] != said[1] and said[2] == said[3] == pytest.approx([sum(p)/2 for p in zip(said[0], said[1])], abs=1e-6)
    status, out, err = run('train', '--model', 'lm', '--data', 'train.csv', '--out', 'all', '--epochs', 1, 0, 0, 0, '--valid', 0, '--forwards', '--json', cwd=folder)
    assert status == 0 and json.loads(out) == dict(bundle='all', models='lm', n_labels=len(pd.read_csv(folder/'train.csv'))), err
    status, out, err = run('train', '--model', 'lm', '--data', 'train.csv', '--out', 'bundle', '--forwards', '--both', cwd=folder)
    assert status == 2 and 'choose one of --forwards' in err
    status, out, err = run('generate', 'lm', '--prompt', 'This film', '--tokens', 5, '--n', 2, '--seed', 1, '--json', cwd=folder)
    assert status == 0 and len(json.loads(out)) == 2, err

def test_stage3_knows_its_settings():
    from ulmfit_course.cli import stage3
    from ulmfit_course.core import CourseError
    with pytest.raises(CourseError, match=r"unknown settings \['rate'\]: stage 3 has lin_ftrs, epochs, lr, window"): stage3([], [], None, rate=1e-2)

@pytest.mark.parametrize('options, solved', [([], [False, True]), (['--backwards'], [False]), (['--epochs', '1', '0', '0', '0'], [False, False])])
def test_the_second_direction_is_left_to_its_head(tmp_path, monkeypatch, options, solved):
    "With 900 labels `train` trains one direction and solves the other, unless it is told how to train"
    model = 'imdb-small' + '-backwards'*('--backwards' in options)
    pd.DataFrame(dict(text=['a fine film', 'a poor film']*450, label=['pos', 'neg']*450)).to_csv(tmp_path/'r.csv', index=False)
    asked = []
    def recipe(n, familiar, second):
        asked.append(usual(n, familiar, second)['lin_ftrs'] is None)
        return usual(100)   # the head alone, in seconds
    usual = cli.recipe
    monkeypatch.setattr(cli, 'recipe', recipe)
    args = cli.parser().parse_args(['train', '--model', model, '--data', str(tmp_path/'r.csv'), '--out', str(tmp_path/'b'), '--valid', '0', '--json', *options])
    args.run(args)
    assert asked == solved and (tmp_path/'b'/'also').is_dir() == (len(solved) == 2)

def test_speedrun_in_both_directions(folder):
    "From the stage-1 models of the test before: stage 2, stage 3 and the test, forward, backward and together"
    status, out, err = run('speedrun', '--model', 'wiki', '--out', 'fast', '--json', cwd=folder)
    assert status == 0, err
    report = json.loads(out)
    assert list(report['seconds']) == ['TF-IDF', 'stage 2', 'stage 3', 'stage 2-backwards', 'stage 3-backwards']
    assert [r['name'] for r in report['rows']][1:] == ['ULMFiT, wiki', 'ULMFiT, wiki-backwards', 'ULMFiT, both directions']
    assert json.loads((folder/'fast'/'run.json').read_text())['report'] == report and (folder/'fast'/'bundle'/'also').is_dir()
    status, out, err = run('evaluate', 'fast/bundle', '--data', 'test.csv', '--json', cwd=folder)
    assert status == 0, err   # the reviews of the demo's test are others
    assert json.loads(out)['n'] == 60

def test_speedrun_with_the_directions_side_by_side(folder, monkeypatch):
    "In processes of their own, where one that fails says why"
    monkeypatch.chdir(folder)
    apart, together = (cli.speedrun(out, 'tiny', 'wiki', (1, 0, 0, 0), quiet=True, at_once=at_once) for out,at_once in (('apart', False), ('together', True)))
    assert [r['name'] for r in together['rows']] == [r['name'] for r in apart['rows']] and together['perplexity'] == pytest.approx(apart['perplexity'], rel=0.02)
    assert sorted(f.name for f in (folder/'together').iterdir()) == ['bundle', 'lm', 'lm-backwards', 'run.json'] and (folder/'together'/'bundle'/'also').is_dir()
    for name in ('odd', 'odd-backwards'): shutil.copytree('wiki', name)   # both read from the beginning
    with pytest.raises(CourseError, match='reads'): cli.speedrun('together', 'tiny', 'odd', (1, 0, 0, 0), quiet=True, at_once=True)

def test_speedrun_looks_at_its_folders_first(folder, monkeypatch):
    "Before it has read a text"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, 'speedrun_texts', None)
    (folder/'theirs'/'lm-backwards').mkdir(parents=True); (folder/'theirs'/'lm-backwards'/'thesis.txt').write_text('mine')
    with pytest.raises(CourseError, match='lm-backwards holds other files'): cli.speedrun('theirs', 'tiny', 'wiki', quiet=True)

def test_speedrun_takes_the_whole_data_set_where_there_is_a_gpu(tmp_path, monkeypatch):
    from ulmfit_course.cli import speedrun_texts
    from ulmfit_course.core import profile
    for i,r in enumerate(sample(imdb(), 100).itertuples()):
        place = tmp_path/('test' if i >= 90 else 'train')/r.label if i < 95 else tmp_path/'unsup'
        place.mkdir(parents=True, exist_ok=True)
        (place/f'{i}.txt').write_text(r.text, encoding='utf8')
    monkeypatch.setenv('ULMFIT_COURSE_IMDB', str(tmp_path))
    train, looked_at, test, texts = speedrun_texts(profile('gpu'))
    assert [len(train), len(looked_at), len(test), len(texts)] == [30, 60, 5, 35]
    assert not set(test.text) & set(texts) and not set(looked_at.text) & set(texts)

def test_evaluate_names_what_it_cannot_judge(folder):
    one = pd.DataFrame(dict(text=['Very good.', 'Quite good.'], label=['pos', 'pos']))
    one.to_csv(folder/'good.csv', index=False)
    status, out, err = run('evaluate', 'bundle', '--data', 'good.csv', '--json', cwd=folder)
    assert status == 0 and json.loads(out)['n'] == 2, err
    one.assign(label=['pos', 'maybe']).to_csv(folder/'maybe.csv', index=False)
    status, out, err = run('evaluate', 'bundle', '--data', 'maybe.csv', cwd=folder)
    assert status == 1 and "row 2: label 'maybe'" in err and err.count('\n') == 1

def test_several_text_columns_and_rows_that_are_too_long(folder):
    data = sample(imdb(), 40)
    data = data.assign(title=data.text.str[:20], text=data.text.str[20:300])
    data.to_csv(folder/'titled.csv', index=False)
    status, out, err = run('train', '--model', 'lm', '--data', 'titled.csv', '--text-col', 'title', 'text', '--out', 'titled', '--epochs', 1, 0, 0, 0, '--valid', 0.3, '--json', cwd=folder)
    assert status == 0, err
    assert {'valid', 'tfidf', 'n_labels'} < set(json.loads(out)) and (folder/'titled'/'run.json').exists()
    data.text = [' '.join(f'word{j}' for j in range(400)) if i == 7 else t for i,t in enumerate(data.text)]
    data.to_csv(folder/'long.csv', index=False)
    status, out, err = run('train', '--model', 'lm', '--data', 'long.csv', '--max-tokens', 300, '--out', 'none', cwd=folder)
    assert status == 1 and 'row 8 ' in err and not (folder/'none').exists()

def test_files_of_one_name_are_told_apart(folder):
    files = [folder/d/'news.txt' for d in ('one', 'two')]
    for f in files:
        f.parent.mkdir()
        f.write_text('\n'.join(f'{f} {i}' for i in range(40)))
    cli.corpus_streams(files, folder/'news', 500, .2)
    files[0].write_text('something else')
    with pytest.raises(CourseError, match='another corpus'): cli.corpus_streams(files, folder/'news', 500, .2)

def test_one_model_is_turned_into_either_direction():
    a = argparse.Namespace(model='imdb-small', turn=True, both=True)
    assert [cli.begin_from(a, backwards, end).config['backwards'] for backwards,end in ((False, ''), (True, '-backwards'))] == [False, True]

def test_a_command_can_be_typed_again(folder, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['x', 'pretrain', '--corpus', str(folder/'corpus.jsonl'), '--out', 'lm', '--licence', 'CC BY-SA 3.0/4.0'])
    assert cli.command_line() == "ulmfit-course pretrain --corpus corpus.jsonl --out lm --licence 'CC BY-SA 3.0/4.0'"

def test_streams_of_another_corpus_are_not_taken(folder):
    (folder/'other.jsonl').write_text(''.join(json.dumps(dict(text=t))+'\n' for t in sample(imdb(), 40, seed=1).text))
    status, out, err = run('finetune-lm', '--model', 'wiki', '--corpus', 'other.jsonl', '--out', 'lm', '--parts', 1, '--bs', 4, '--hold-out', 0.2, cwd=folder)
    assert status == 1 and 'another corpus' in err and err.count('\n') == 1

def test_tokenize_reads_standard_input(folder):
    assert run('tokenize', '-', stdin='A GREAT film!!!', cwd=folder)[1].split() == ['xxbos', 'a', 'xxup', 'great', 'film', 'xxrep', '3', '!']

shipped = ['wiki-small', 'wiki-small-backwards', 'imdb-small', 'imdb-small-backwards']

def test_models_lists_what_ships(folder):
    models = json.loads(run('models', '--json', cwd=folder)[1])
    assert set(shipped) <= set(models)

@pytest.mark.parametrize('model', shipped)
def test_what_a_card_claims_is_found_again(folder, model):
    from ulmfit_course.pretraining import models
    status, out, err = run('perplexity', model, '--json', cwd=folder)
    assert status == 0, err
    found, card = json.loads(out), models()[model]
    assert found['tokens'] == card['valid_tokens'] and card['perplexity'] < 100
    assert [found[k] for k in ('perplexity', 'accuracy')] == pytest.approx([card['perplexity'], card['accuracy']], rel=1e-3)

@pytest.mark.parametrize('words, says', [
    (['evaluate', 'nowhere', '--data', 'x.csv'], 'nowhere'),
    (['finetune-lm', '--model', 'imdb-small', '--turn', '--corpus', 'x.txt', '--out', 'y'], 'or add --backwards'),
    (['pretrain', '--start', 'wiki-small', '--emb-sz', 400, '--corpus', 'x.txt', '--out', 'y'], 'leave out --emb-sz'),
    (['train', '--model', 'wiki-small', '--data', 'no.csv', '--out', 'b'], 'no.csv'),
    (['train', '--model', 'wiki-small', '--data', 'one.csv', '--out', 'b'], 'one class only'),
    (['train', '--model', 'wiki-small', '--data', 'two.csv', '--text-col', 'review', '--out', 'b'], "no column 'review'"),
    (['train', '--model', 'no-model', '--data', 'two.csv', '--out', 'b'], 'no-model'),
    (['generate', 'no-model'], 'no-model'),
    (['train', '--model', 'wiki-small', '--backwards', '--data', 'two.csv', '--out', 'b'], 'reads forwards'),
    (['finetune-lm', '--model', 'fastai-wiki', '--corpus', 'two.csv', '--both', '--out', 'b'], 'fastai-wiki'),
    (['train', '--model', 'wiki-small', '--data', 'bytes.csv', '--out', 'b'], 'bytes.csv'),
    (['train', '--model', 'wiki-small', '--data', 'empty.csv', '--out', 'b'], 'empty.csv'),
    (['train', '--model', 'wiki-small', '--data', 'gap.csv', '--out', 'b'], 'gap.csv, row 2'),
    (['train', '--model', 'wiki-small', '--data', 'two.csv', '--out', 'mine'], 'holds other files'),
    (['finetune-lm', '--model', 'wiki-small', '--corpus', 'two.csv', '--hold-out', '0', '--out', 'b'], '--hold-out'),
    (['finetune-lm', '--model', 'wiki-small', '--corpus', 'two.csv', '--text-col', 'review', '--out', 'b'], "no column 'review'")])
def test_mistakes_cost_one_line(folder, words, says):
    pd.DataFrame(dict(text=['a', 'b'], label=['x', 'x'])).to_csv(folder/'one.csv', index=False)
    pd.DataFrame(dict(text=['a b', 'b c'], label=['x', 'y'])).to_csv(folder/'two.csv', index=False)
    (folder/'bytes.csv').write_bytes(b'text,label\n\xff\xfe\x00,x\n')
    (folder/'empty.csv').write_text('text,label\n')
    (folder/'gap.csv').write_text('text,label\na,x\n,y\n')
    (folder/'mine').mkdir(exist_ok=True); (folder/'mine'/'thesis.txt').write_text('mine')
    status, out, err = run(*words, cwd=folder)
    assert status == 1 and not out
    assert err.count('\n') == 1 and says in err
    assert not [*folder.glob('b'), *folder.glob('b.*')] and [f.name for f in (folder/'mine').iterdir()] == ['thesis.txt']

def test_wrong_usage_is_two(folder):
    assert run('dance', cwd=folder)[0] == 2
    assert run('train', cwd=folder)[0] == 2
    assert run('predict', 'nowhere', cwd=folder)[0] == 2

# The lessons, from an installed package

@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A folder with the package as a wheel installs it, without the weights"
    folder = tmp_path_factory.mktemp('installed')
    shutil.copytree(root, folder/'clone', ignore=shutil.ignore_patterns('.*', '*.safetensors', 'runs', 'models', 'build', 'dist', '_build', '*.egg-info'))
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, folder/'clone'], check=True)
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder/'packages', *folder.glob('*.whl')], check=True)
    shutil.rmtree(folder/'clone')
    return folder

def run_installed(installed, code, *words):
    "Run `code` where only the installed package can be found"
    env = os.environ | dict(PYTHONPATH=str(installed/'packages'))
    return subprocess.run([sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True, cwd=installed, env=env)

def test_installed_package_carries_every_lesson(installed):
    done = run_installed(installed, 'import sys, ulmfit_course.cli as cli; cli.copy_course(sys.argv[1]); print(cli.__file__)', 'lessons')
    assert done.stdout.startswith(str(installed/'packages')), done.stderr
    tracked = [p for part in ('nbs', 'bench/results') for p in (root/part).rglob('*') if p.is_file() and '.ipynb_checkpoints' not in p.parts]
    assert len(tracked) > 20
    assert not [p for p in tracked if (installed/'lessons'/p.relative_to(root)).read_bytes() != p.read_bytes()]

@pytest.mark.parametrize('command, package', [('lab', 'jupyterlab'), ('app', 'voila')])
def test_missing_packages_cost_one_line(installed, command, package):
    done = run_installed(installed, f'import sys; sys.modules[{package!r}] = None; from ulmfit_course.cli import main; sys.exit(main())', command)
    assert done.returncode == 1 and done.stderr == f"ulmfit-course: {package} missing: pip install 'ulmfit-course[lab]'\n"

def test_app_names_what_is_no_bundle(folder):
    status, out, err = run('app', '--model', 'nowhere', '--no-browser', cwd=folder)
    assert status == 1 and err.startswith('ulmfit-course: nowhere is no checkpoint') and err.count('\n') == 1
