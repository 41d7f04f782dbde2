"Cards, and the way to the Hub and back: by way of a server here that answers the Hub's client as far as it asks"
import base64, hashlib, json, os, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
import numpy as np, pytest, torch, yaml
from ulmfit_course.core import CourseError, write_json
from ulmfit_course.documents import text_classifier
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.models import Checkpoint, load_pretrained, save_checkpoint
from ulmfit_course.sharing import from_hub, model_card, place, shared_files
from ulmfit_course.vocabulary import special_tokens

torch.set_num_threads(1)
token = 'hf_' + 'test'*8
texts = ['a film.', 'what a long, long film that was!', 'no']

def sha256(data): return hashlib.sha256(data).hexdigest()

class Hub(BaseHTTPRequestHandler):
    "Repositories in memory, with their commits; large files go the way of Git LFS, small ones inside the commit; private ones want the token"
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def say(self, value=b'', status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        length = headers.pop('content_length', len(body))
        for k,v in {'Content-Length': length, 'Content-Type': 'application/json', **headers}.items(): self.send_header(k.replace('_', '-'), str(v))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)
    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))
    @property
    def hub(self): return self.server.state
    @property
    def known(self): return self.headers.get('Authorization') == f'Bearer {token}'
    def repo(self, name):
        "The repository, or the answer that there is none"
        repo = self.hub.repos.get(name)
        if repo is None or repo['private'] and not self.known: self.say({}, 401 if not self.known else 404, X_Error_Code='RepoNotFound')
        else: return repo
    def handle_any(self):
        path, data = urlsplit(self.path).path.strip('/'), self.body()
        parts = path.split('/')
        self.hub.asked.append(f'{self.command} /{path}')
        if parts[0] == 'lfs': return self.large(parts[1], data)
        if self.command in ('POST', 'PUT') and not self.known: return self.say({}, 401, X_Error_Message='Invalid credentials in Authorization header')
        if path == 'api/repos/create': return self.create(json.loads(data))
        if path == 'api/validate-yaml': return self.validate(json.loads(data)['content'])
        if path.endswith('.git/info/lfs/objects/batch'): return self.batch(json.loads(data))
        if parts[:2] == ['api', 'models']: name, rest = '/'.join(parts[2:4]), parts[4:]
        else: name, rest = '/'.join(parts[:2]), parts[2:]
        if (repo := self.repo(name)) is None: return
        kind = rest[0] if rest else 'info'
        if kind in ('info', 'revision'): self.info(name, repo, rest[1] if len(rest) > 1 else 'main')
        elif kind == 'tree': self.tree(repo, rest[1])
        elif kind == 'preupload': self.modes(json.loads(data))
        elif kind == 'commit': self.commit(name, repo, [json.loads(line) for line in data.splitlines()])
        elif kind == 'resolve': self.file(repo, rest[1], '/'.join(rest[2:]))
        else: self.say({}, 404)
    do_GET = do_HEAD = do_POST = do_PUT = handle_any
    def create(self, asked):
        name = f"{asked['organization'] or 'anna'}/{asked['name']}"
        if name.split('/')[0] != 'anna': return self.say(dict(error='no'), 403, X_Error_Message='you may not write there')
        if name in self.hub.repos: return self.say(dict(url=f'{self.hub.url}/{name}'), 409)
        self.hub.repos[name] = dict(private=asked.get('visibility') == 'private', commits={'0'*40: {}}, head='0'*40)
        self.say(dict(url=f'{self.hub.url}/{name}', name=name))
    def validate(self, card):
        told = yaml.safe_load(card.split('---')[1])
        self.say(dict(errors=[] if told.get('license') else [dict(message='no license')], warnings=[]))
    def modes(self, asked):
        mode = lambda f: 'lfs' if f['path'].endswith('.safetensors') else 'regular'
        self.say(dict(files=[dict(path=f['path'], uploadMode=mode(f), shouldIgnore=False, oid=None) for f in asked['files']]))
    def batch(self, asked):
        act = lambda o: {} if o['oid'] in self.hub.large else dict(actions=dict(upload=dict(href=f"{self.hub.url}/lfs/{o['oid']}")))
        self.say(dict(transfer='basic', objects=[dict(oid=o['oid'], size=o['size'], **act(o)) for o in asked['objects']]))
    def large(self, oid, data):
        if self.command == 'PUT':
            if sha256(data) != oid: return self.say({}, 400)
            self.hub.large[oid] = data
            return self.say()
        assert not self.headers.get('Authorization')   # the token stays with the Hub
        self.say(self.hub.large[oid], ETag=f'"{oid}"')
    def commit(self, name, repo, lines):
        files = dict(repo['commits'][repo['head']])
        for line in lines:
            v = line['value']
            if line['key'] == 'file': files[v['path']] = base64.b64decode(v['content'])
            if line['key'] == 'lfsFile': files[v['path']] = self.hub.large[v['oid']]
            if line['key'] == 'deletedFile': del files[v['path']]
        repo['head'] = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repo['commits'][repo['head']] = files
        self.say(dict(success=True, commitUrl=f"{self.hub.url}/{name}/commit/{repo['head']}", commitOid=repo['head'], hookOutput=''))
    def info(self, name, repo, revision):
        sha = repo['head'] if revision == 'main' else revision
        if sha not in repo['commits']: return self.say({}, 404, X_Error_Code='RevisionNotFound')
        self.say(dict(id=name, sha=sha, siblings=[dict(rfilename=f) for f in repo['commits'][sha]], private=repo['private'], tags=[]))
    def tree(self, repo, revision):
        files = repo['commits'][repo['head'] if revision == 'main' else revision]
        lfs = lambda f, data: dict(lfs=dict(size=len(data), oid=sha256(data), pointerSize=130)) if f.endswith('.safetensors') else {}
        self.say([dict(type='file', path=f, size=len(d), oid=hashlib.sha1(d).hexdigest(), **lfs(f, d)) for f,d in files.items()])
    def file(self, repo, revision, name):
        sha = repo['head'] if revision == 'main' else revision
        data = repo['commits'][sha].get(name)
        if data is None: return self.say({}, 404, X_Error_Code='EntryNotFound', X_Repo_Commit=sha)
        if not name.endswith('.safetensors'): return self.say(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=sha)
        self.say(b'', 302, X_Repo_Commit=sha, X_Linked_Etag=f'"{sha256(data)}"', X_Linked_Size=len(data), Location=f'{self.hub.cdn}/lfs/{sha256(data)}')

@pytest.fixture(scope='module')
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.state = SimpleNamespace(repos={}, large={}, asked=[], url=f'http://127.0.0.1:{server.server_port}', cdn=f'http://localhost:{server.server_port}')
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.state
    server.shutdown()

def learner(direction, seed=0):
    "What `save_bundle` asks of one: random weights that read characters"
    torch.manual_seed(seed)
    vocab, sizes = [*special_tokens, *'abcdefghijklmnopqrstuvwxyz.,!?-'], dict(emb_sz=8, n_hid=12, n_layers=2)
    config = dict(format=2, stage='classifier', arch=sizes, direction=direction, tokenizer=dict(kind='characters', rules=['fix_html']), head={},
                  task=dict(kind='classification', labels=['neg', 'pos'], text_cols=['text'], label_col='label'))
    weights = text_classifier(len(vocab), 2, sizes).state_dict()
    return SimpleNamespace(checkpoint=lambda **card: Checkpoint(weights, vocab, config | dict(card=card)))

scores = dict(accuracy=0.9, precision=0.9, recall=0.9, f1=0.9, n=100)

@pytest.fixture
def bundle(tmp_path): return save_bundle([learner('fwd'), learner('bwd', 1)], tmp_path/'films', data='films.csv', license='MIT', valid=scores)

def client(code, hub, home, **env):
    "Python that knows the Hub under another address"
    told = dict(HF_ENDPOINT=hub.url, HF_HOME=str(home), HF_TOKEN=token, HF_HUB_DISABLE_XET='1', HF_HUB_DISABLE_TELEMETRY='1',
                HF_HUB_DISABLE_PROGRESS_BARS='1', NO_PROXY='127.0.0.1,localhost', OMP_NUM_THREADS='1') | env
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, **told}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

say = f'''
import json
from ulmfit_course.core import CourseError
from ulmfit_course.inference import load_bundle
from ulmfit_course.sharing import from_hub, push_to_hub
def tried(f):
    try: return f()
    except CourseError as e: return f'CourseError: {{e}}'
def probs(name): return load_bundle(name, precision='float32').probabilities({texts!r}).tolist()
'''

# --- the card

def test_a_bundle_comes_with_its_card(bundle):
    told = yaml.safe_load((bundle/'README.md').read_text('utf8').split('---')[1])
    assert (told['license'], told['pipeline_tag'], told['library_name']) == ('mit', 'text-classification', 'ulmfit-course')
    assert {m['name']: m['value'] for m in told['model-index'][0]['results'][0]['metrics']} == {f'valid {k}': .9 for k in list(scores)[:-1]}
    text = model_card(bundle)
    assert text == (bundle/'README.md').read_text('utf8')
    assert 'films.csv' in text and 'answer together' in text and '0.826 to 0.945' in text and f"load_bundle('{place}')" in text
    assert sorted(f.relative_to(bundle).as_posix() for f in bundle.rglob('*.md')) == ['README.md']   # one, for both directions

def test_a_bundle_with_a_card_can_be_written_anew(bundle):
    save_bundle(learner('fwd', 2), bundle)
    assert 'No score is in the record' in (bundle/'README.md').read_text('utf8') and len(load_bundle(bundle).members) == 1

def test_a_folder_with_somebody_elses_readme_is_not_replaced(tmp_path):
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'README.md').write_text('my thesis')
    with pytest.raises(CourseError, match='README.md'): save_bundle(learner('fwd'), tmp_path/'mine')
    assert (tmp_path/'mine'/'README.md').read_text() == 'my thesis'

def test_every_model_that_ships_has_a_card():
    from ulmfit_course.models import pretrained_dir
    for folder in sorted(pretrained_dir.glob('*/')):
        if not (folder/'config.json').is_file(): continue
        text = model_card(folder)
        told = yaml.safe_load(text.split('---')[1])
        assert told['pipeline_tag'] == 'text-generation' and told['license'] != 'unknown' and told['language'] == ['en'], folder
        metrics = {m['type']: m['value'] for m in told['model-index'][0]['results'][0]['metrics']}
        assert metrics['perplexity'] == load_pretrained(folder).config['card']['perplexity'] and 'from_hub' in text

@pytest.mark.parametrize('stage,task', [('tagger', 'token-classification'), ('seq2seq', 'text2text-generation')])
def test_cards_of_other_models(tmp_path, stage, task):
    config = dict(tagger=dict(stage='tagger', direction='both', task=dict(kind='tagging', tags=['O', 'B-PER']), card=dict(valid=dict(f1=.8, n=50))),
                  seq2seq=dict(stage='seq2seq', tok_in=dict(kind='words', language='en'), tok_out=dict(kind='words', language='de')))[stage]
    write_json(tmp_path/'config.json', config)
    told = yaml.safe_load((text := model_card(tmp_path)).split('---')[1])
    assert told['pipeline_tag'] == task and f'load_{stage}' in text and told.get('language', []) == (['en', 'de'] if stage == 'seq2seq' else [])

# --- there and back

def test_there_and_back(bundle, hub, tmp_path):
    (bundle/'run.json').write_text('{"command": "/home/anna/secret"}')
    (bundle/'notes.txt').write_text('private')
    mine = load_bundle(bundle, precision='float32').probabilities(texts)
    out = client(say + f"print(push_to_hub({str(bundle)!r}, 'anna/films', private=True)); print(json.dumps(probs('anna/films')))", hub, tmp_path/'hf')
    address, found = out.splitlines()
    repo = hub.repos['anna/films']
    files = repo['commits'][repo['head']]
    assert address.endswith(repo['head']) and repo['private'] and len(repo['commits']) == 2   # one commit
    assert np.array_equal(json.loads(found), mine)
    assert set(files) == {f.relative_to(bundle).as_posix() for p in shared_files for f in bundle.glob(p)}
    assert b"load_bundle('anna/films')" in files['README.md'] and place in (bundle/'README.md').read_text('utf8')
    assert sum(a.startswith('PUT /lfs/') for a in hub.asked) == 2   # a file of weights for each direction

    n = len(hub.asked)   # without a connection, from the cache
    code = say + f"print(json.dumps(probs('anna/films'))); print(tried(lambda: from_hub('anna/other'))); print(tried(lambda: push_to_hub({str(bundle)!r}, 'anna/films')))"
    same, other, push = client(code, hub, tmp_path/'hf', HF_HUB_OFFLINE='1').splitlines()
    assert np.array_equal(json.loads(same), mine) and len(hub.asked) == n
    assert other.startswith('CourseError: the Hub cannot be reached for anna/other') and push.startswith('CourseError: the Hub cannot be reached')

    (bundle/'notes.txt').unlink()
    save_bundle(learner('fwd', 2), bundle)   # the second direction is gone, there too; the first version stays under its name
    alone, first = load_bundle(bundle, precision='float32').probabilities(texts), repo['head']
    code = say + f"""push_to_hub({str(bundle)!r}, 'anna/films'); print(json.dumps([probs('anna/films'), probs(from_hub('anna/films', revision={first!r}))]))
print(tried(lambda: from_hub('anna/films', revision='f'*40)))"""
    both, none = client(code, hub, tmp_path/'hf').splitlines()
    assert np.array_equal(json.loads(both), [alone, mine]) and not any('members' in f for f in repo['commits'][repo['head']])
    assert none.startswith('CourseError')

def test_what_the_hub_refuses(bundle, hub, tmp_path):
    hub.repos['anna/hidden'] = dict(private=True, commits={'0'*40: {}}, head='0'*40)
    hub.repos['anna/empty'] = dict(private=False, commits={'0'*40: {'weights.bin': b'x'}}, head='0'*40)
    push = f"print(tried(lambda: push_to_hub({str(bundle)!r}, %r)))\n"
    code = say + push % 'bob/films' + push % 'anna/films/2' + ''.join(f'print(tried(lambda: from_hub({n!r})))\n' for n in ('anna/none', 'anna/empty'))
    theirs, name, none, empty = client(code, hub, tmp_path/'hf').splitlines()
    assert '403' in theirs and 'token that may write there' in theirs and 'user/model' in name
    assert 'is not on the Hub, or not for you' in none and 'no model of the course' in empty
    code = say + push % 'anna/films' + "print(tried(lambda: from_hub('anna/hidden')))"
    wrong, hidden = client(code, hub, tmp_path/'hf', HF_TOKEN='hf_wrong').splitlines()
    assert '401' in wrong and 'hf auth login' in wrong and 'not for you' in hidden
    no_token = client(say + push % 'anna/films', hub, tmp_path/'hf', HF_TOKEN='')
    assert no_token.startswith('CourseError: the Hub wants to know you: log in with `hf auth login`, or set HF_TOKEN')

def test_without_a_connection(bundle, tmp_path):
    nobody = SimpleNamespace(url='http://127.0.0.1:9')
    push, load = client(say + f"print(tried(lambda: push_to_hub({str(bundle)!r}, 'anna/films'))); print(tried(lambda: load_bundle('anna/films')))",
                        nobody, tmp_path/'hf').splitlines()
    assert all(o.startswith('CourseError: the Hub cannot be reached for anna/films') and 'connect' in o for o in (push, load))

def test_a_folder_is_never_looked_for_elsewhere(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent.parent)
    here = f'{bundle.parent.name}/{bundle.name}'
    assert from_hub(here) == Path(here) and len(load_bundle(here).members) == 2
    with pytest.raises(CourseError, match='is no checkpoint'): load_bundle(f'{bundle.parent.name}/film')   # a slip of the pen

def test_a_predictor_and_a_language_model_are_pushed(bundle, hub, tmp_path):
    vocab = [*special_tokens, *'abc']
    from ulmfit_course.awd_lstm import language_model
    arch = dict(emb_sz=8, n_hid=12, n_layers=1)
    config = dict(format=2, stage='pretraining', arch=arch, direction='fwd', tokenizer=dict(kind='characters', rules=[]), card=dict(corpus='abc', perplexity=2.5, valid_tokens=10))
    lm = save_checkpoint(tmp_path/'lm', Checkpoint(language_model(len(vocab), arch).state_dict(), vocab, config))
    code = say + f"""push_to_hub(load_bundle({str(bundle)!r}, precision='float32'), 'anna/predictor'); push_to_hub({str(lm)!r}, 'anna/lm')
print(json.dumps(probs('anna/predictor')))
from ulmfit_course.models import load_pretrained
print(load_pretrained(from_hub('anna/lm')))"""
    found, ck = client(code, hub, tmp_path/'hf').splitlines()
    assert np.array_equal(json.loads(found), load_bundle(bundle, precision='float32').probabilities(texts)) and 'pretraining' in ck
    card = hub.repos['anna/lm']['commits'][hub.repos['anna/lm']['head']]['README.md'].decode()
    assert "load_pretrained(from_hub('anna/lm'))" in card and '| perplexity | 2.5 |' in card
